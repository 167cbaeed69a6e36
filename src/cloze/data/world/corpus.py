"""The generated language as a corpus: documents by number, with their cost and their gold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, get_args

import numpy as np

from cloze.data import keyed
from cloze.data.base import Corpus, Split, Text
from cloze.data.world import words
from cloze.data.world.demonstrations import tell_or_list
from cloze.data.world.documents import Document, OrderCue, Style, tell
from cloze.data.world.lexicon import Lexicon, lexicon
from cloze.errors import Refusal, did_you_mean

VERSION = 1
_TOPICS = len(words.TOPICS.strip().splitlines())
_PART = 250  # documents that are read at a time


class Part(NamedTuple):
    """Documents start..stop-1 of a split."""

    split: Split
    start: int
    stop: int


class World(Corpus):
    """A generated language of little stories in a world whose state is known at every sentence (docs/data-world.md).

    documents, validation_documents, test_documents: how many of each; document i is the same whatever these numbers are.
    topics: of what the documents are about, at most 48.
    order_cue: what shows the order of sentences: `local` (pronouns, a before the, the steps of scripts), `global` (weekdays and
        times of day; shuffled within a paragraph), `both`, or `none` (the whole document shuffled).
    topic_overlap: share of things that are drawn from all topics. cast_overlap: share of persons drawn from all names
        rather than from the topic's own eight. noise: share of sentences that are followed by one about something else.
    language_seed: another seed is another corpus in the same language.
    demonstrations: share of documents that are lists of solved examples ("loaf => loaves"), each in a document's stead.
    """

    generated = True

    def __init__(
        self,
        documents: int = 8000,
        validation_documents: int = 500,
        test_documents: int = 500,
        topics: int = 48,
        order_cue: OrderCue = "both",
        topic_overlap: float = 0.0,
        cast_overlap: float = 0.5,
        noise: float = 0.03,
        language_seed: int = 1,
        demonstrations: float = 0.0,
    ) -> None:
        for name, count in (
            ("documents", documents),
            ("validation_documents", validation_documents),
            ("test_documents", test_documents),
        ):
            if count < 1:
                raise Refusal(f"data.{name}={count} must be at least 1.")
        if not 1 <= topics <= _TOPICS:
            raise Refusal(f"data.topics={topics} must lie in 1..{_TOPICS}: the language has {_TOPICS} topics.")
        for name, share in (("topic_overlap", topic_overlap), ("cast_overlap", cast_overlap)):
            if not 0.0 <= share <= 1.0:
                raise Refusal(f"data.{name}={share} must lie in [0, 1].")
        if not 0.0 <= noise <= 0.5:
            raise Refusal(f"data.noise={noise} must lie in [0, 0.5].")
        if not 0.0 <= demonstrations <= 1.0:
            raise Refusal(f"data.demonstrations={demonstrations} must lie in [0, 1].")
        if order_cue not in get_args(OrderCue):
            raise Refusal(f"data.order_cue={order_cue} is not known{did_you_mean(str(order_cue), get_args(OrderCue))}")
        self.sizes: dict[Split, int] = {"train": documents, "validation": validation_documents, "test": test_documents}
        self.topics = topics
        self.topic_overlap = topic_overlap
        self.cast_overlap = cast_overlap
        self.style = Style(order_cue, noise)
        self.demonstrations = demonstrations
        self.language_seed = language_seed

    @property
    def lexicon(self) -> Lexicon:
        return lexicon(self.topics, self.cast_overlap, self.topic_overlap)

    @property
    def announcement(self) -> str:
        return f"generated language v{VERSION}, sha256 {self.digest()[:16]}…; not English"

    def digest(self) -> str:
        """sha256 of the text of training documents 0..999 (however many the split has), each followed by a blank line."""
        settings = (self.topics, self.topic_overlap, self.cast_overlap, self.style, self.language_seed)
        return _digest(*settings, self.demonstrations)

    def fingerprint(self) -> str:
        settings = json.dumps(["world", VERSION, self.digest(), sorted(self.sizes.items())])
        return hashlib.sha256(settings.encode()).hexdigest()

    def parts(self, split: Split) -> Sequence[Part]:
        size = self.sizes[split]
        return [Part(split, start, min(start + _PART, size)) for start in range(0, size, _PART)]

    def read(self, part: Part) -> Iterator[Text]:
        split, start, stop = part
        for number in range(start, stop):
            yield text_of(self.annotated(number, split), f"world, {split} document {number}")

    def annotated(self, number: int, split: Split = "train") -> Document:
        """Document `number` of a split with its gold tags, entities, facts and costs. Needs none of its predecessors."""
        return self._tell(split, np.array([number]))[0]

    def entropy(self, split: Split) -> float:
        """Sum of -log p, in nats, of every choice that the texts of the split show, drawn when the text comes to show it.

        That is the cost of each document's derivation. With `order_cue=both|local` and `topic_overlap=0` a text has one
        derivation (a test enumerates them), so this is -log p(text): what the split costs, left to right, a reader who knows
        the generator. Otherwise (shuffled sentences, words that two topics could have given) it is an upper bound on that.
        """
        return float(sum(document.cost for part in self.parts(split) for document in self._tell(*_range(part))))

    def _tell(self, split: Split, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[Document]:
        words = self.lexicon
        keys = keyed.keys(keyed.key(self.language_seed, "world", split), numbers).tolist()
        if not self.demonstrations:
            return [tell(words, key, self.style) for key in keys]
        list_keys = keyed.keys(keyed.key(self.language_seed, "world lists", split), numbers).tolist()
        return [
            tell_or_list(words, key, list_key, self.style, self.demonstrations)
            for key, list_key in zip(keys, list_keys, strict=True)
        ]


def _range(part: Part) -> tuple[Split, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    return part.split, np.arange(part.start, part.stop)


def text_of(document: Document, where: str) -> Text:
    """A document as a record: every paragraph but the last ends in a newline."""
    sentences = [sentence.text for sentence in document.sentences]
    for index, (this, after) in enumerate(zip(document.sentences, document.sentences[1:], strict=False)):
        if this.paragraph != after.paragraph:
            sentences[index] += "\n"
    return Text(tuple(sentences), document.topic.name, where)


@lru_cache(maxsize=32)
def _digest(
    topics: int, topic_overlap: float, cast_overlap: float, style: Style, language_seed: int, demonstrations: float
) -> str:
    world = World(
        1000, 1, 1, topics, style.order_cue, topic_overlap, cast_overlap, style.noise, language_seed, demonstrations
    )
    digest = hashlib.sha256()
    for record in world.records("train"):
        assert isinstance(record, Text)
        digest.update(record.text.encode() + b"\n\n")
    return digest.hexdigest()
