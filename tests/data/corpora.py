"""Corpora in memory for tests: parts of documents, importable by other processes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence

from cloze.data.base import Corpus, Split, Text
from cloze.data.sentences import sentences_of


class Memory(Corpus):
    """`parts` hold documents; each is a topic and a text whose lines are paragraphs. Every split is the same."""

    announcement = "memory"

    def __init__(self, parts: Sequence[Sequence[tuple[str, str]]]) -> None:
        self.documents = parts

    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self.documents).encode()).hexdigest()

    def parts(self, split: Split) -> list[int]:
        return list(range(len(self.documents)))

    def read(self, part: int) -> Iterator[Text]:
        for topic, text in self.documents[part]:
            yield Text(sentences_of(text.split("\n")), topic)

    def notes(self) -> list[str]:
        return []


def sentences(n: int, seed: int = 0, words: int = 400) -> list[str]:
    """Sentences of made-up words with skewed frequencies."""
    chance = random.Random(seed)
    lexicon = ["".join(chance.choices("abcdefghijklmnop", k=chance.randint(1, 9))) for _ in range(words)]
    weights = [1 / rank for rank in range(1, words + 1)]
    return [" ".join(chance.choices(lexicon, weights, k=chance.randint(2, 12))).capitalize() + "." for _ in range(n)]


def memory(parts: int = 5, documents: int = 8, seed: int = 0) -> Memory:
    """Some documents of one to six sentences, in paragraphs, with topics."""
    chance = random.Random(seed)
    pool = iter(sentences(parts * documents * 6, seed))

    def document() -> tuple[str, str]:
        topic = chance.choice(["", "one", "two", "three"])
        return topic, "".join(next(pool) + chance.choice([" ", "\n"]) for _ in range(chance.randint(1, 6)))

    return Memory([[document() for _ in range(documents)] for _ in range(parts)])
