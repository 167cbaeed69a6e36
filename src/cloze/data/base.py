"""The data nouns: records, corpora, and the arrays that a tokenised corpus is.

A *corpus* yields *records* of a declared type. A tokenizer turns the text records into a `TokenizedCorpus` (flat memory-mapped
arrays), from which an objective's `ExampleBuilder` makes its examples. Nothing here knows torch.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from cloze.errors import Refusal

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Record:
    """What a corpus yields. A record type can stand wherever its parent is asked for."""


@dataclass(frozen=True)
class Text(Record):
    """One document.

    `sentences` are in reading order, without outer white space, save that the last sentence of a paragraph ends in a newline
    (the document's last one does not). Joined by a space (nothing after a newline) they give the document's text.
    `topic` groups documents that are about the same thing ("" = not known): what `negatives=same_topic` draws from.
    `language` is a name or code ("en"), "" where the corpus has one language only.
    """

    sentences: tuple[str, ...]
    topic: str = ""
    where: str = ""  # file and line, for messages
    language: str = ""

    @property
    def text(self) -> str:
        parts: list[str] = []
        for sentence in self.sentences:
            if parts and not parts[-1].endswith("\n"):
                parts.append(" ")
            parts.append(sentence)
        return "".join(parts)

    @property
    def documents(self) -> tuple[Text, ...]:
        """What the record is to those who want plain text."""
        return (self,)

    @property
    def fields(self) -> tuple[str, ...]:
        """The texts that are tokenised apart where the record is an example, not just text."""
        return self.sentences


@dataclass(frozen=True)
class Parallel(Text):
    """A document and its translation, sentence by sentence. To those who want plain text it is two documents."""

    translation: tuple[str, ...] = ()  # as many as `sentences`
    translation_language: str = ""

    def __post_init__(self) -> None:
        if len(self.sentences) != len(self.translation):
            raise ValueError(f"{self.where}: {len(self.sentences)} sentences, {len(self.translation)} translations")

    @property
    def documents(self) -> tuple[Text, ...]:
        return (
            Text(self.sentences, self.topic, self.where, self.language),
            Text(self.translation, self.topic, self.where, self.translation_language),
        )


@dataclass(frozen=True)
class Labelled(Text):
    """One text with a label, or two: `sentences` is (text,) or (first, second). Either may be empty.

    `label` is the name of a class as the benchmark's files write it ("entailment", "1"), or a number where one is to be predicted; None
    where the file has none. `id` is what a submission names the example by ("" = its number), `group` what a metric
    puts examples together by (a MultiRC question), `task` which of several tasks it is from.
    """

    label: str | float | None = None
    id: str = ""
    group: str = ""
    task: str = ""

    @property
    def second(self) -> str | None:
        return self.sentences[1] if len(self.sentences) > 1 else None


@dataclass(frozen=True)
class SourceTarget(Text):
    """A text and the one that is to be written for it: a translation, a summary. `sentences` is (source,).

    `target` is None where the file has none. To those who want plain text it is one document, the source and then the target.
    """

    target: str | None = None
    id: str = ""

    @property
    def source(self) -> str:
        return self.sentences[0]

    @property
    def documents(self) -> tuple[Text, ...]:
        both = self.sentences if self.target is None else (*self.sentences, self.target)
        return (Text(both, self.topic, self.where, self.language),)

    @property
    def fields(self) -> tuple[str, ...]:
        """The source, then the target ("" where there is none)."""
        return (self.source, self.target or "")


NO_TAG = "_"  # of a word that is given no tag, as in CoNLL-U's files: neither learnt from nor scored


@dataclass(frozen=True)
class Tagged(Text):
    """A document whose words have tags: `words[i][j]` is word j of sentence i and `tags[i][j]` its tag; None where there are none given.

    A single word without one has NO_TAG.

    `sentences[i]` is the sentence as running text, as well as the file says how its words are joined.
    """

    words: tuple[tuple[str, ...], ...] = ()
    tags: tuple[tuple[str, ...], ...] | None = None
    id: str = ""

    @property
    def fields(self) -> tuple[str, ...]:
        """Each word."""
        return tuple(word for sentence in self.words for word in sentence)

    def __post_init__(self) -> None:
        counts = [len(words) for words in self.words]
        if len(self.words) != len(self.sentences) or (
            self.tags is not None and [len(tags) for tags in self.tags] != counts
        ):
            raise ValueError(f"{self.where}: words, tags and sentences do not match")


@dataclass(frozen=True)
class Answer:
    """A stretch of a context: `context[start : start + len(text)] == text`."""

    text: str
    start: int


@dataclass(frozen=True)
class Question:
    """Asked about a passage. No `answers`: the passage has none (SQuAD 2.0), or, with `hidden`, the file does not say."""

    id: str
    text: str
    answers: tuple[Answer, ...] = ()
    hidden: bool = False


@dataclass(frozen=True)
class Passage(Text):
    """A context and what is asked about it. `sentences` is (context,), the context as it stands in the file: offsets count in it."""

    questions: tuple[Question, ...] = ()
    title: str = ""

    @property
    def context(self) -> str:
        return self.sentences[0]

    @property
    def fields(self) -> tuple[str, ...]:
        """The context, then each question."""
        return (self.context, *(question.text for question in self.questions))


@dataclass(frozen=True)
class Choices(Text):
    """A question about a context with several answers to choose from. `sentences` is (context,) or (context, question).

    `label` is the number of the right option, from 0; None where the file does not say.
    """

    options: tuple[str, ...] = ()
    label: int | None = None
    id: str = ""

    @property
    def context(self) -> str:
        return self.sentences[0]

    @property
    def question(self) -> str:
        return self.sentences[1] if len(self.sentences) > 1 else ""

    @property
    def fields(self) -> tuple[str, ...]:
        """The context, the question ("" where there is none), then each option."""
        return (self.context, self.question, *self.options)


@dataclass(frozen=True)
class Labels:
    """What a task asks to predict, and how its benchmark scores it.

    `names` are the classes in the order of their numbers; none: the label is a number from `low` to `high`.
    `metrics` are names of `cloze.scoring`, the first being the one that a single figure is wanted of.
    """

    names: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("accuracy",)
    low: float = 0.0
    high: float = 1.0

    @property
    def numeric(self) -> bool:
        return not self.names

    def number(self, label: str | float) -> float:
        """A class's number, or the number itself. Raises KeyError for the name of no class."""
        if self.numeric:
            return float(label)
        try:
            return float(self.names.index(str(label)))
        except ValueError:
            raise KeyError(label) from None


class Corpus(ABC):
    """A source of records, in splits that never share a document.

    A split is read in *parts* (a file, a range of documents) that can be read independently and in parallel; parts are small and
    picklable. Iterating the parts in order gives the split's documents in order.
    """

    reads: ClassVar[type[Record]] = Text
    generated: ClassVar[bool] = False  # reading makes the records up: what was just read is kept for who reads it next
    language_sampling: float | None = None  # how training evens out the languages' shares (`cloze.data.languages`)

    @property
    @abstractmethod
    def announcement(self) -> str:
        """The first line of every log: what this text is and where it comes from."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hexadecimal digest of everything that decides the records: settings, and the identity of the files read."""

    @abstractmethod
    def parts(self, split: Split) -> Sequence[Any]:
        """The pieces of a split, in order. Raises Refusal where the corpus is missing, empty or malformed."""

    @abstractmethod
    def read(self, part: Any) -> Iterator[Record]:
        """The records of one part, in order."""

    def records(self, split: Split) -> Iterator[Record]:
        """All records of a split, streaming."""
        for part in self.parts(split):
            yield from self.read(part)

    def notes(self) -> list[str]:
        """What reading has passed over since this was last asked, a line each (malformed lines that were dropped)."""
        return []

    def entropy(self, split: Split) -> float | None:
        """Nats that the whole split costs a reader who knows how it was made (left to right), where that is known."""
        return None


class TaskCorpus(Corpus):
    """Labelled data: a benchmark's files, or one's own. A subclass says `reads`, `split_records` and `labels`.

    Splits are "train", "validation", "test" and what `further_splits` names ("validation_mismatched", "diagnostic"). A test split
    need not have labels, and splits other than "train" need not be there.
    """

    name: str  # of the task, as its metrics and files are called: "mrpc"

    @property
    @abstractmethod
    def labels(self) -> dict[str, Labels]:
        """What there is to predict, by task: one entry, unless the corpus is made of several. May read the training file."""

    @abstractmethod
    def split_records(self, split: str) -> Iterator[Record]:
        """The records of a split, in the file's order. Raises Refusal, naming file, line and value, for what is malformed."""

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The splits that are there."""

    def parts(self, split: Split) -> Sequence[Any]:
        if split not in self.splits():
            raise Refusal(f"{self.announcement}: there is no {split} split; it has {', '.join(self.splits())}")
        return (split,)

    def read(self, part: Any) -> Iterator[Record]:
        return self.split_records(part)

    def submission(self, split: str, records: Sequence[Record], predictions: Sequence[Any]) -> dict[str, str]:
        """File name -> content: predictions for a split in the form that the benchmark's own scorer or leaderboard takes.

        Predictions are, in the order of the records: a class's name or a number for each `Labelled`, the number of an option for each
        `Choices`, the tags of every sentence for each `Tagged`, {question id: answer} for each `Passage`, a text for each `SourceTarget`.
        """
        rows = [f"{getattr(r, 'id', '') or n}\t{p}" for n, (r, p) in enumerate(zip(records, predictions, strict=True))]
        return {f"{self.name}-{split}.tsv": "\n".join(["index\tprediction", *rows]) + "\n"}


@dataclass(frozen=True)
class Vocabulary:
    """What objectives and models need to know of a tokenizer: its size and the ids of the special tokens, by role.

    Roles: pad unk cls sep mask bos eos. `sentinels` are T5's <extra_id_0>, <extra_id_1>, …, in this order.
    """

    size: int
    special: dict[str, int]
    sentinels: tuple[int, ...] = ()

    def __getitem__(self, role: str) -> int:
        return self.special[role]

    @property
    def special_ids(self) -> frozenset[int]:
        return frozenset(self.special.values()) | frozenset(self.sentinels)


@dataclass(frozen=True)
class TokenizedCorpus:
    """One split as arrays (memory-mapped when it comes from the token store). No special tokens inside.

    tokens       (T,)   uint16 or uint32: all tokens, one sentence after the other
    word_starts  (T,)   bool: the token begins a word (whole-word masking, words of n-grams)
    sentences    (S+1,) int64: sentence s is tokens[sentences[s]:sentences[s+1]]; never empty
    documents    (D+1,) int64: document d is the sentences documents[d]..documents[d+1]-1; never empty
    topics       (D,)   int32: number of the document's topic, -1 where not known
    languages    (D,)   int32 or None: number of the document's language in `language_names`; None where there is one only
    translations (S,)   int64 or None: the sentence that translates each sentence, -1 where none does; None where none has one
    """

    tokens: NDArray[Any]
    word_starts: NDArray[np.bool_]
    sentences: NDArray[np.int64]
    documents: NDArray[np.int64]
    topics: NDArray[np.int32]
    characters: int = 0  # of the text that was tokenised: what bits per character need
    bytes: int = 0  # the same in UTF-8
    words: int = 0  # white-space separated
    fingerprint: str = ""
    folder: Path | None = None
    languages: NDArray[np.int32] | None = None
    translations: NDArray[np.int64] | None = None
    language_names: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        documents: Sequence[Sequence[Sequence[int]]],
        word_starts: Sequence[bool] | None = None,
        topics: Sequence[int] | None = None,
    ) -> TokenizedCorpus:
        """From nested lists (documents > sentences > token ids): for tests and small things."""
        sentences = [sentence for document in documents for sentence in document]
        tokens = np.array([token for sentence in sentences for token in sentence], dtype=np.uint32)
        return cls(
            tokens=tokens,
            word_starts=np.ones(len(tokens), bool) if word_starts is None else np.asarray(word_starts, bool),
            sentences=np.cumsum([0, *map(len, sentences)], dtype=np.int64),
            documents=np.cumsum([0, *map(len, documents)], dtype=np.int64),
            topics=np.full(len(documents), -1, np.int32) if topics is None else np.asarray(topics, np.int32),
        )

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.documents) - 1

    def __reduce__(self) -> str | tuple[Any, ...]:
        """To another process a store travels as the name of its folder, not as its arrays."""
        if self.folder is None:
            return super().__reduce__()
        from cloze.data.store import opened

        return opened, (self.folder, self.language_names)


@dataclass(frozen=True)
class TokenizedRecords(TokenizedCorpus):
    """A split of labelled data: the records themselves, and their texts as arrays.

    A document is a record and a "sentence" one of its `fields`, which, unlike a sentence, may be empty. `spans` (T, 2) int32 are the
    characters start … end - 1 of its field that each token stands for; None where nobody asks for them.
    """

    records: tuple[Record, ...] = ()
    spans: NDArray[np.int32] | None = None

    def __reduce__(self) -> str | tuple[Any, ...]:
        return object.__reduce__(self)

    def fields(self, record: int) -> list[tuple[int, int]]:
        """(start, end) in `tokens` of each field of a record."""
        first, last = self.documents[record], self.documents[record + 1]
        bounds = self.sentences[first : last + 1].tolist()
        return list(itertools.pairwise(bounds))


@dataclass
class Packed:
    """Sequences lying one after the other in flat arrays: real tokens only, no padding.

    tokens (N,) int64; lengths (B,) int64 with sum N; segments (N,) int64 or None (all 0);
    positions (N,) int64 or None (0, 1, 2, … in every sequence).
    languages, order, queries: as `cloze.models.base.Sequences` has them.
    """

    tokens: NDArray[np.int64]
    lengths: NDArray[np.int64]
    segments: NDArray[np.int64] | None = None
    positions: NDArray[np.int64] | None = None
    languages: NDArray[np.int64] | None = None
    order: NDArray[np.int64] | None = None
    queries: NDArray[np.int64] | None = None


@dataclass
class Sample:
    """One micro-batch as an objective's data half makes it (numpy; the data module turns it into a `Batch` of tensors).

    `targets` are the arrays that the learning half asks for, by name, e.g. for masked language modelling
    "at" (M,) places in inputs.tokens, in rising order, and "tokens" (M,) what stood there.
    `counts` says for each loss term over how many targets it is a sum ("mlm": M, "pair": B): what the step's mean divides by.
    """

    inputs: Packed
    targets: dict[str, NDArray[Any]]
    counts: dict[str, int]
    decoder: Packed | None = None
    causal: bool = False  # a token of `inputs` sees only what stands before it
    prefix: NDArray[np.int64] | None = None  # (B,) tokens at the start of each sequence that all may see (prefix LM)
    extra: dict[str, Any] = field(default_factory=dict)  # what the lens shows: never read by a model
    streams: dict[str, Sample] = field(
        default_factory=dict
    )  # of several objectives together; `inputs` is then the first one's
