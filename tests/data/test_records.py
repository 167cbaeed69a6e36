"""Labelled records as arrays, and where in its text each token stands."""

from __future__ import annotations

import itertools
import pickle
import unicodedata
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cloze.data import tokenizers
from cloze.data.base import Choices, Labelled, Labels, Passage, Question, Record, Tagged, TaskCorpus, Text
from cloze.data.records import of_records, tokenized_records
from cloze.errors import Refusal
from tests.data.corpora import Memory

TEXTS = [
    "The old mill stands by the river, and a miller still lives there.",
    "Zoë's naïve café costs 5€: déjà vu, Ångström! l'été",
    "e\u0301te\u0301 in two characters each, n\u0303 too",
    "东京是日本的首都。 東京都 and Tokyo 3.5公里",
    "family 👩‍👩‍👧 smiles 🙂🙂 x🙂y",
    "  two  spaces   before  and  behind  ",
    "a\u00a0hard space, a\ttab and\na line",
    "ﬁne ½ ① Ⅷ ｆｕｌｌ",
    "İstanbul STRASSE straße ΣΊΣΥΦΟΣ",
    "[MASK] [CLS] <s> <extra_id_0> ## ▁ Ġ",
    "don't re-enter: 1,000.50% (e.g. this)",
    " ",
    "",
    "\u200bzero\u200dwidth\ufeff",
]
KINDS: dict[str, Any] = {
    "wordpiece": tokenizers.WordPiece(vocabulary=220),
    "wordpiece_lower": tokenizers.WordPiece(vocabulary=220, lowercase=True),
    "bpe": tokenizers.BPE(vocabulary=260),
    "byte_bpe": tokenizers.ByteLevelBPE(vocabulary=330),
    "byte_bpe_lower": tokenizers.ByteLevelBPE(vocabulary=330, lowercase=True),
    "unigram": tokenizers.Unigram(vocabulary=230),
    "unigram_lower": tokenizers.Unigram(vocabulary=230, lowercase=True),
    "character": tokenizers.Character(vocabulary=400),
    "word": tokenizers.Word(vocabulary=300, min_frequency=1),
    "word_lower": tokenizers.Word(vocabulary=300, min_frequency=1, lowercase=True),
}
ROLES = ("pad", "unk", "cls", "sep", "mask")


def trained_tokenizers() -> dict[str, tokenizers.Tokenizer]:
    """One of each kind."""
    corpus = Memory([[("", text) for text in TEXTS if text.strip()]])
    roles = {name: ("pad", "cls", "sep", "mask") if name.startswith("byte") else ROLES for name in KINDS}
    return {name: kind.trained(corpus, roles[name], 0) for name, kind in KINDS.items()}


@pytest.fixture(scope="module")
def trained() -> dict[str, tokenizers.Tokenizer]:
    return trained_tokenizers()


def plain(text: str) -> str:
    """Without case, accents, compatibility forms, marks of a space and what cannot be seen."""
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).lower())
    kept = (c for c in text if unicodedata.category(c) not in ("Mn", "Cf", "Cc") and not c.isspace())
    return "".join(kept).replace("ς", "σ")


@pytest.mark.parametrize("name", KINDS)
def test_ids_are_the_same_as_without_spans(name: str, trained: dict[str, tokenizers.Tokenizer]) -> None:
    for texts in (TEXTS, TEXTS[::-1], [TEXTS[0]], []):
        ids, starts, lengths, spans = trained[name].encode_spans(texts)
        for one, other in zip((ids, starts, lengths), trained[name].encode_flat(texts), strict=True):
            assert one.tolist() == other.tolist()
        assert spans.shape == (len(ids), 2) and spans.dtype == np.int32


@pytest.mark.parametrize("name", KINDS)
def test_a_token_stands_for_its_characters(name: str, trained: dict[str, tokenizers.Tokenizer]) -> None:
    """In order, without outer spaces, and together for the whole text; the characters are what the token says, but for case, accents and
    compatibility forms; a token of some bytes of a character stands for the character."""
    tokenizer = trained[name]
    ids, _, lengths, spans = tokenizer.encode_spans(TEXTS)
    unknown = tokenizer.vocabulary.special.get("unk")
    at = 0
    for text, length in zip(TEXTS, lengths, strict=True):
        own, places = ids[at : at + length].tolist(), spans[at : at + length].tolist()
        at += length
        covered = set()
        for token, (start, end) in zip(own, places, strict=True):
            assert 0 <= start <= end <= len(text)
            stretch = text[start:end]
            assert stretch == stretch.strip()
            covered |= set(range(start, end))
            surface = tokenizer.token(token)
            if token == unknown:
                continue
            if name.startswith("byte"):
                said = tokenizer.decode([token]).strip()
                if "\ufffd" not in said:
                    assert plain(said) == plain(stretch), (text, surface, stretch)
                else:
                    assert len(stretch) < 2 or len(stretch.encode()) > len(stretch), (text, surface, stretch)
            else:
                said = surface.removeprefix("##") if name.startswith("word") else surface
                said = said.removesuffix("</w>").replace("▁", "")
                # a ligature's letters may be tokens of their own, and all stand for it
                assert plain(said) in plain(stretch) or plain(stretch) in plain(said), (text, surface, stretch)
        assert all(a <= b for one, two in itertools.pairwise(places) for a, b in zip(one, two, strict=True))
        missing = {text[place] for place in range(len(text)) if place not in covered}
        assert not plain("".join(missing)), (text, missing)


RECORDS: dict[str, list[Text]] = {
    "labelled": [Labelled(("The mill", ""), label="1"), Labelled(("by the river",), label="0")],
    "tagged": [Tagged(("a ​ b", "c"), words=(("a", "\u200b", "b"), ("c",)), tags=(("X", "Y", "Z"), ("X",)))],
    "passage": [
        Passage((TEXTS[0],), questions=(Question("1", "What stands?"), Question("2", ""))),
        Passage((TEXTS[3],), questions=(Question("3", "首都？"),)),
    ],
    "choices": [Choices(("The mill",), options=("a river", "a miller"), label=0), Choices(("x", "y?"), options=("z",))],
}


@pytest.mark.parametrize("kind", RECORDS)
def test_records_as_arrays(kind: str, trained: dict[str, tokenizers.Tokenizer]) -> None:
    """Each field as the tokenizer reads it alone; a word that it makes nothing of is its unknown token."""
    tokenizer, records = trained["wordpiece"], RECORDS[kind]
    made = of_records(records, tokenizer, "print")
    assert len(made) == len(records) and made.records == tuple(records) and made.fingerprint == "print"
    assert (made.spans is not None) == (kind == "passage")
    assert made.characters == sum(len(field) for record in records for field in record.fields)
    for number, record in enumerate(records):
        places = made.fields(number)
        assert len(places) == len(record.fields)
        for field, (start, end) in zip(record.fields, places, strict=True):
            expected = [int(n) for n in tokenizer.encode_flat([field])[0]]
            if kind == "tagged" and not expected:
                expected = [tokenizer.vocabulary["unk"]]
                assert made.word_starts[start]
            assert made.tokens[start:end].tolist() == expected
            if made.spans is not None:
                assert made.spans[start:end].tolist() == tokenizer.encode_spans([field])[3].tolist()
    again = pickle.loads(pickle.dumps(made))  # to a worker
    assert again.records == made.records and again.tokens.tolist() == made.tokens.tolist()


def test_a_choice_has_a_place_for_the_question_that_it_lacks(trained: dict[str, tokenizers.Tokenizer]) -> None:
    made = of_records(RECORDS["choices"], trained["word"])
    assert [end - start for start, end in made.fields(0)] == [2, 0, 2, 2]


def test_many_records_are_read_in_pieces(
    trained: dict[str, tokenizers.Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = RECORDS["passage"] * 5
    whole = of_records(records, trained["byte_bpe"])
    monkeypatch.setattr("cloze.data.records._AT_ONCE", 3)
    pieces = of_records(records, trained["byte_bpe"])
    for name in ("tokens", "word_starts", "sentences", "documents", "spans"):
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name))
        assert getattr(pieces, name).dtype == getattr(whole, name).dtype


class Two(TaskCorpus):
    """Two records to train on, none to validate on; says what it passed over."""

    name = "two"
    announcement = "two records"
    labels = {"two": Labels(("0", "1"))}  # noqa: RUF012

    def fingerprint(self) -> str:
        return "two"

    def splits(self) -> tuple[str, ...]:
        return ("train", "validation")

    def split_records(self, split: str) -> Iterator[Record]:
        return iter(RECORDS["labelled"] if split == "train" else ())

    def notes(self) -> list[str]:
        return ["1 row was left out"]


def test_a_split(trained: dict[str, tokenizers.Tokenizer]) -> None:
    said: list[str] = []
    made = tokenized_records(Two(), "train", trained["word"], say=said.append)
    assert len(made) == 2
    assert said[0] == "train: 1 row was left out" and said[1].startswith("tokenised train: 2 records, ")
    other = tokenized_records(Two(), "train", trained["bpe"])
    assert (
        len({made.fingerprint, other.fingerprint, tokenized_records(Two(), "train", trained["word"]).fingerprint}) == 2
    )
    with pytest.raises(Refusal, match="the validation split of this corpus holds no example"):
        tokenized_records(Two(), "validation", trained["word"])
    with pytest.raises(Refusal, match="there is no test split; it has train, validation"):
        tokenized_records(Two(), "test", trained["word"])


def test_an_objective_may_ask_in_words_of_its_own(trained: dict[str, tokenizers.Tokenizer]) -> None:
    def reworded(records: Any, task: str) -> list[Record]:
        return [Labelled((task,), label=record.label) for record in records]

    made = tokenized_records(Two(), "train", trained["character"], reworded)
    assert [record.fields for record in made.records] == [("two",), ("two",)]  # type: ignore[attr-defined]
    assert len(made.tokens) == 2 * len("▁two")
