"""How labelled texts are laid out: the tokens, segments and decoder's copy of every family, held against transformers' own tokenizers."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloze.data.base import Choices, Labelled, Labels, Vocabulary
from cloze.data.tokenizers import Tokenizer
from cloze.errors import Refusal
from cloze.objectives.choose import ChoiceExamples
from cloze.objectives.classify import LabelledExamples
from cloze.objectives.framing import Laid, fitting, frame_of, lay_out, roles_of
from tests.objectives.labelled import (
    BOS,
    CLS,
    DELIMITER,
    EOS,
    EXTRACT,
    MASK,
    NAMES,
    PAD,
    SEP,
    START,
    VOCABULARY,
    batch,
    family,
    tokenized,
)

A, B = [11, 12, 13], [21, 22]
# tokens of one text, of two, and where the second segment begins in the latter
BERTS = ([CLS, *A, SEP], [CLS, *A, SEP, *B, SEP], 5)
DECODERS = ([EOS, *A, EOS], [EOS, *A, EOS, *B, EOS], 5)
ENCODER_DECODERS = ([BOS, *A, EOS], [BOS, *A, EOS, *B, EOS], 5)
DOCUMENTED: dict[str, tuple[list[int], list[int], int]] = {
    **dict.fromkeys(("bert.Bert", "albert.Albert", "electra.Electra", "unilm.UniLM", "xlm.XLM"), BERTS),
    "roberta.Roberta": ([CLS, *A, SEP], [CLS, *A, SEP, SEP, *B, SEP], 6),
    "xlnet.XLNet": ([*A, SEP, CLS], [*A, SEP, *B, SEP, CLS], 4),
    **dict.fromkeys(("gpt.GPT", "gpt2.GPT2", "transformer_xl.TransformerXL", "elmo.ELMo"), DECODERS),
    "bart.Bart": ([BOS, *A, EOS], [BOS, *A, EOS, EOS, *B, EOS], 6),
    **dict.fromkeys(("mass.Mass", "t5.T5", "switch.Switch"), ENCODER_DECODERS),
}
BEGINS = {"bart.Bart": EOS, "mass.Mass": MASK}


def laid(frame: Any, *texts: list[int]) -> Laid:
    return lay_out(frame, [[np.array(text, np.uint32) for text in texts]])


@pytest.mark.parametrize("name", NAMES)
def test_every_familys_own_frame(name: str) -> None:
    single, pair, second = DOCUMENTED[name]
    frame = frame_of(family(name), VOCABULARY)
    one, two = laid(frame, A), laid(frame, A, B)
    assert one.inputs.tokens.tolist() == single and two.inputs.tokens.tolist() == pair
    assert one.inputs.tokens.dtype == np.int64 and one.inputs.lengths.tolist() == [len(single)]
    segments = [0] * second + [1] * (len(pair) - second)
    last = [2] if name == "xlnet.XLNet" else [segments[-1]]
    assert one.inputs.segments is not None and two.inputs.segments is not None
    assert two.inputs.segments.tolist() == [*segments[:-1], *last]
    assert one.inputs.segments.tolist() == [0] * (len(single) - 1) + ([2] if name == "xlnet.XLNet" else [0])
    assert [single[start : start + len(A)] for start in one.starts[0]] == [A]
    assert [pair[two.starts[0][0] :][: len(A)], pair[two.starts[0][1] :][: len(B)]] == [A, B]
    assert frame.specials(1) == len(single) - len(A) and frame.specials(2) == len(pair) - len(A) - len(B)
    assert frame.null == (-1 if name == "xlnet.XLNet" else 0)
    if name in BEGINS:
        assert two.decoder is not None
        assert two.decoder.tokens.tolist() == [BEGINS[name], *pair[:-1]]
        assert two.decoder.lengths.tolist() == [len(pair)]
    else:
        assert two.decoder is None
    assert {VOCABULARY[role] for role in roles_of(family(name))} >= set(pair) - {*A, *B}


def test_sequences_lie_one_after_the_other() -> None:
    frame = frame_of(family("bart.Bart"), VOCABULARY)
    texts = [[A, B], [A], [[], []], [B, A]]
    whole = lay_out(frame, [[np.array(text, np.uint32) for text in each] for each in texts])
    assert whole.decoder is not None
    start = 0
    for each in texts:
        alone = laid(frame, *each)
        assert alone.decoder is not None
        rows = slice(start, start := start + len(alone.inputs.tokens))
        assert whole.inputs.tokens[rows].tolist() == alone.inputs.tokens.tolist()
        assert whole.decoder.tokens[rows].tolist() == alone.decoder.tokens.tolist()
    assert start == len(whole.inputs.tokens) == whole.inputs.lengths.sum()
    for start, each in zip(whole.starts, texts, strict=True):
        for place, text in zip(start, each, strict=True):
            assert whole.inputs.tokens[place : place + len(text)].tolist() == text


WORDS = ["aa", "bb", "cc", "dd"]
PIECES = [(f"▁{word}", -1.0) for word in WORDS]
BYTES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abcd", "Ġ", *WORDS, *(f"Ġ{word}" for word in WORDS)]
MERGES = [*((letter, letter) for letter in "abcd"), *(("Ġ", word) for word in WORDS)]
THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert.Bert": (
        "BertTokenizer",
        {"vocab": {t: n for n, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}},
    ),
    "albert.Albert": (
        "AlbertTokenizer",
        {"vocab": [*((t, 0.0) for t in ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")), *PIECES]},
    ),
    "roberta.Roberta": (
        "RobertaTokenizer",
        {"vocab": {t: n for n, t in enumerate(BYTES)}, "merges": MERGES, "add_prefix_space": True},
    ),
    "bart.Bart": (
        "BartTokenizer",
        {"vocab": {t: n for n, t in enumerate(BYTES)}, "merges": MERGES, "add_prefix_space": True},
    ),
    "xlnet.XLNet": (
        "XLNetTokenizer",
        {"vocab": [*((t, 0.0) for t in ("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>")), *PIECES]},
    ),
    "t5.T5": (
        "T5Tokenizer",
        {"vocab": [*((t, 0.0) for t in ("<pad>", "</s>", "<unk>")), *PIECES], "extra_ids": 3},
    ),
}


@pytest.mark.parametrize("name", THEIRS)
def test_frames_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    """Their tokenizer, saved and read by us: the same ids and segments of one text and of two."""
    kind, vocabulary = THEIRS[name]
    theirs = getattr(import_module("transformers"), kind)(**vocabulary)
    theirs.save_pretrained(tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    frame = frame_of(family(name), tokenizer.vocabulary)
    for texts in (("aa bb",), ("aa bb", "cc dd aa")):
        expected = theirs(*texts, return_token_type_ids=True)
        ours = laid(frame, *([int(n) for n in tokenizer.encode_flat([text])[0]] for text in texts))
        assert ours.inputs.tokens.tolist() == expected["input_ids"]
        if name not in ("roberta.Roberta", "bart.Bart", "t5.T5"):  # which have no segments
            assert ours.inputs.segments is not None
            assert ours.inputs.segments.tolist() == expected["token_type_ids"]


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(2, 40))
def test_the_longer_text_is_cut_token_by_token(first: int, second: int, room: int) -> None:
    left = [first, second]
    while sum(left) > room:  # BERT's loop
        left[0 if left[0] > left[1] else 1] -= 1
    kept = fitting(np.array([first]), np.array([second]), room)
    assert [int(each[0]) for each in kept] == left


def test_what_is_cut_is_the_end() -> None:
    labels = {"task": Labels(("0", "1"))}
    builder = LabelledExamples(VOCABULARY, 10, family("bert.Bert"), labels)
    records = [
        Labelled(("10 11 12 13 14 15 16 17", "20 21 22"), label="1"),
        Labelled((" ".join(["30"] * 20),), label="0"),
    ]
    examples = builder.build(tokenized(records), 0)
    made = batch(builder, examples)
    assert made.inputs.tokens.tolist() == [CLS, 10, 11, 12, 13, SEP, 20, 21, 22, SEP, CLS, *[30] * 8, SEP]
    assert examples.lengths.tolist() == list(made.inputs.layout.lengths) == [10, 10]
    assert examples.notes == ("2 of 2 examples are longer than length=10: cut",)


# GPT's four transformations (Radford et al. 2018, section 3.3): start text extract, and so on


def delimited(records: list[Labelled], **more: Any) -> list[list[int]]:
    labels = {"task": Labels(("0", "1"))}
    builder = LabelledExamples(VOCABULARY, 12, family("gpt.GPT"), labels, "delimited", **more)
    made = batch(builder, builder.build(tokenized(records), 0))
    assert made.decoder is None
    return [row.tolist() for row in made.inputs.tokens.split(made.inputs.layout.lengths)]


def test_gpt_classification() -> None:
    assert delimited([Labelled(("11 12",), label="0")]) == [[START, 11, 12, EXTRACT]]


def test_gpt_entailment() -> None:
    assert delimited([Labelled(("11 12", "13"), label="0")]) == [[START, 11, 12, DELIMITER, 13, EXTRACT]]


def test_gpt_similarity_in_both_orders() -> None:
    records = [Labelled(("11 12", "13"), label="0"), Labelled(("14", "15"), label="1")]
    assert delimited(records, both_orders=True) == [
        [START, 11, 12, DELIMITER, 13, EXTRACT],
        [START, 13, DELIMITER, 11, 12, EXTRACT],
        [START, 14, DELIMITER, 15, EXTRACT],
        [START, 15, DELIMITER, 14, EXTRACT],
    ]
    with pytest.raises(Refusal, match="both_orders=true has no effect: these examples are single texts"):
        delimited([Labelled(("11",), label="0")], both_orders=True)


def test_gpt_choices_have_the_question_with_the_context() -> None:
    """[document; question; delimiter; answer]; what is too long loses the document's end, never the question."""
    record = Choices(("11 12 13 14", "15"), options=("16", "17 18"), label=0)
    for length, context in ((12, [11, 12, 13, 14]), (8, [11, 12, 13])):
        builder = ChoiceExamples(VOCABULARY, length, family("gpt.GPT"), "delimited")
        made = batch(builder, builder.build(tokenized([record]), 0))
        rows = [row.tolist() for row in made.inputs.tokens.split(made.inputs.layout.lengths)]
        assert rows[0] == [START, *context, 15, DELIMITER, 16, EXTRACT]
        shorter = context if length == 12 else context[:2]
        assert rows[1] == [START, *shorter, 15, DELIMITER, 17, 18, EXTRACT]


def test_a_delimited_frame_is_also_given_to_a_decoder() -> None:
    for name, begins in BEGINS.items():
        made = laid(frame_of(family(name), VOCABULARY, "delimited"), A)
        assert made.decoder is not None and made.decoder.tokens.tolist() == [begins, START, *A]


def test_what_cannot_be_framed() -> None:
    bare = Vocabulary(20, {"pad": PAD, "unk": 1})
    with pytest.raises(Refusal, match=r"none of the special tokens .*\(cls, sep\).*objective.frame=delimited"):
        frame_of(family("bert.Bert"), bare)
    with pytest.raises(
        Refusal, match=r"length=4 is too short: with 3 special tokens it leaves 1 .*take length=5 or more"
    ):
        LabelledExamples(VOCABULARY, 4, family("bert.Bert"), {"task": Labels(("0", "1"))})
    assert LabelledExamples.needs({"frame": "delimited"}) == ((), 3)
    assert LabelledExamples.needs({"frame": "own"}) == ((), 0)
