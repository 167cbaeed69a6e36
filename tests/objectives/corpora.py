"""Random corpora for the property tests of objectives."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloze.data.base import TokenizedCorpus, Vocabulary

SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
ORDINARY = 5  # the first id that is no special token's


def vocabulary(size: int = 1000) -> Vocabulary:
    return Vocabulary(size, dict(SPECIAL))


def random_corpus(
    tokens: int,
    seed: int = 0,
    size: int = 1000,
    sentence: tuple[int, int] = (1, 30),
    document: tuple[int, int] = (1, 30),
    unknown: float = 0.0,
    topics: int = 0,
) -> TokenizedCorpus:
    """About `tokens` tokens. `sentence` and `document` are the (least, most) tokens of a sentence and sentences of a document."""
    generator = np.random.default_rng(seed)
    documents: list[list[list[int]]] = []
    count = 0
    while count < tokens:
        sizes = generator.integers(sentence[0], sentence[1] + 1, generator.integers(document[0], document[1] + 1))
        documents.append([generator.integers(ORDINARY, size, n).tolist() for n in sizes])
        count += int(sizes.sum())
    corpus = TokenizedCorpus.of(
        documents,
        word_starts=(generator.random(count) < 0.7).tolist(),
        topics=generator.integers(-1, topics, len(documents)).tolist() if topics else None,
    )
    corpus.tokens[generator.random(count) < unknown] = SPECIAL["unk"]
    return corpus


def numbered_corpus(documents: list[list[int]]) -> tuple[TokenizedCorpus, Vocabulary]:
    """A corpus in which every token is another one: documents as lists of their sentences' sizes."""
    number = ORDINARY
    nested = []
    for sizes in documents:
        nested.append([list(range(number + sum(sizes[:i]), number + sum(sizes[: i + 1]))) for i in range(len(sizes))])
        number += sum(sizes)
    return TokenizedCorpus.of(nested), vocabulary(number)


def sequences(values: NDArray[Any], lengths: NDArray[np.int64]) -> list[NDArray[Any]]:
    """A flat array cut into its sequences."""
    return np.split(values, np.cumsum(lengths)[:-1])
