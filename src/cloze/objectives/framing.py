"""How labelled texts are laid out for a family: special tokens around and between them, segments, and a decoder's copy.

A family's own frame is the one that it was pre-trained with: [CLS] a [SEP] b [SEP] for encoders, <s> a </s></s> b </s> for RoBERTa and
BART, a <sep> b <sep> <cls> for XLNet; what stands between two ends of text for models that read from left to right. GPT's *delimited* frame
(Radford et al. 2018, https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf, section 3.3) has three
tokens that are new at fine-tuning: start a delimiter b extract. They are the first three sentinels of the tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from cloze.data.base import Packed, Record, TokenizedCorpus, TokenizedRecords, Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Backbone, Bidirectional, Causal, EncoderDecoder
from cloze.objectives.base import ExampleBuilder

FrameKind = Literal["own", "delimited"]
Ids = NDArray[Any]


@dataclass(frozen=True)
class Frame:
    """Ids of the special tokens before, between and behind texts.

    `begins` is the token that the decoder's copy begins with; None where there is none. `null` is the place of the token that stands for
    "no answer": 0 for the first of a sequence, -1 for the last. `summary_apart`: a closing [CLS] has a segment of its own.
    """

    opening: tuple[int, ...]
    between: tuple[int, ...]
    closing: tuple[int, ...]
    begins: int | None = None
    summary_apart: bool = False

    @property
    def null(self) -> int:
        return 0 if self.opening else -1

    def specials(self, texts: int) -> int:
        """Special tokens around so many texts."""
        return len(self.opening) + len(self.between) * (texts - 1) + len(self.closing)


def roles_of(family: type[Backbone]) -> tuple[str, ...]:
    """The roles of the special tokens that a family's own frame is made of."""
    opening, between, closing = _roles(family)
    begins = (family.begins,) if issubclass(family, EncoderDecoder) and family.reads_twice else ()
    return tuple(dict.fromkeys((*opening, *between, *closing, *begins)))


def frame_of(family: type[Backbone], vocabulary: Vocabulary, kind: FrameKind = "own") -> Frame:
    """The frame, with those of its tokens that the vocabulary has."""
    begins = None
    if issubclass(family, EncoderDecoder) and family.reads_twice:
        begins = vocabulary.special.get(family.begins, vocabulary.special.get("bos", vocabulary.special.get("eos", 0)))
    if kind == "delimited":
        start, delimiter, extract = vocabulary.sentinels[:3]
        return Frame((start,), (delimiter,), (extract,), begins)
    opening, between, closing = (
        tuple(vocabulary[role] for role in roles if role in vocabulary.special) for roles in _roles(family)
    )
    if not opening and not closing:
        raise Refusal(
            "the tokenizer has none of the special tokens that stand around a text for this model "
            f"({', '.join(roles_of(family))}); take another tokenizer, or objective.frame=delimited"
        )
    return Frame(opening, between, closing, begins, _roles(family)[2][-1:] == ("cls",))


def _roles(family: type[Backbone]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    if issubclass(family, Causal) and not issubclass(family, Bidirectional):
        # their training text is documents between ends of text
        return ("eos",), family.between, ("eos",)
    return family.opening, family.between, family.closing


def fitting(
    first: NDArray[np.int64], second: NDArray[np.int64], room: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many tokens of two texts stay where both are to fit into `room`: the longer one is cut, token by token (BERT's rule)."""
    kept = np.minimum(first, np.maximum(room - second, -(-room // 2)))
    return kept, np.minimum(second, room - kept)


@dataclass
class Laid:
    """Sequences as a model reads them. `starts[b][p]` is the row in `inputs.tokens` at which text p of sequence b begins."""

    inputs: Packed
    decoder: Packed | None
    starts: list[list[int]]


def lay_out(frame: Frame, sequences: Sequence[Sequence[Ids]]) -> Laid:
    """Each sequence is one text or more, as ids; all are framed and packed one after the other."""
    opening, between, closing = (np.array(ids, np.int64) for ids in (frame.opening, frame.between, frame.closing))
    parts: list[Ids] = []
    lengths, starts, segments = [], [], []
    at = 0
    for texts in sequences:
        begin, places = at, []
        for number, text in enumerate(texts):
            around = opening if number == 0 else between
            parts += [around, text]
            at += len(around)
            places.append(at)
            at += len(text)
        parts.append(closing)
        at += len(closing)
        lengths.append(at - begin)
        starts.append(places)
        second = (
            places[1] if len(places) > 1 else at
        )  # what stands before the second text is of the first one's segment
        segment = np.zeros(at - begin, np.int64)
        segment[second - begin :] = 1
        if frame.summary_apart:
            segment[-1] = 2
        segments.append(segment)
    tokens = np.concatenate(parts).astype(np.int64)
    sizes = np.array(lengths, np.int64)
    decoder = None
    if frame.begins is not None:
        shifted = np.empty_like(tokens)
        shifted[1:] = tokens[:-1]
        shifted[np.cumsum(sizes) - sizes] = frame.begins
        decoder = Packed(shifted, sizes)
    return Laid(Packed(tokens, sizes, np.concatenate(segments)), decoder, starts)


class RecordExamples(ExampleBuilder):
    """The data half of an objective that learns from labelled records. `family` decides how texts are laid out.

    The builder that validation uses (`judge`) puts the records themselves into `Sample.extra`, for those who score.
    """

    framed: ClassVar[bool] = True

    def __init__(self, vocabulary: Vocabulary, length: int, family: type[Backbone], frame: FrameKind = "own") -> None:
        self.vocabulary, self.length = vocabulary, length
        self.frame = frame_of(family, vocabulary, frame)
        self.judging = False

    @classmethod
    def needs(cls, settings: dict[str, Any]) -> tuple[tuple[str, ...], int]:
        return cls.special_tokens, 3 if settings.get("frame") == "delimited" else 0

    def reworded(self, records: Sequence[Record], task: str) -> Sequence[Record]:
        """The records as they are tokenised: another text of the same example, where the objective asks in words of its own."""
        return records

    def judge(self) -> RecordExamples:
        import copy

        judge = copy.copy(self)
        judge.judging = True
        return judge

    def room(self, texts: int, least: int) -> int:
        """Tokens of the texts themselves that fit into a sequence. Raises Refusal where they are fewer than `least`."""
        room = self.length - self.frame.specials(texts)
        if room < least:
            raise Refusal(
                f"length={self.length} is too short: with {self.frame.specials(texts)} special tokens it leaves {room} for the texts; "
                f"take length={self.frame.specials(texts) + least} or more."
            )
        return room


def labelled(corpus: TokenizedCorpus) -> TokenizedRecords:
    """The corpus as what objectives on labelled data are built from."""
    assert isinstance(corpus, TokenizedRecords)
    return corpus
