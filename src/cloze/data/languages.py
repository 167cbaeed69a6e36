"""Corpora of several languages: which language what stands in, and how training evens out their shares.

Sampling (Lample and Conneau 2019, https://arxiv.org/abs/1901.07291; multilingual BERT did the same): a language that has a share p of
the examples gets one in proportion to p ** exponent, so that with an exponent below 1 rarer languages are seen more often. No example is
left out for it: those of the rarer languages are repeated in the index of examples, each repetition being an example with a corruption of
its own. So an epoch has the wanted shares exactly, as near as whole examples allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cloze.data import cache as caches
from cloze.data import keyed
from cloze.data.base import TokenizedCorpus
from cloze.objectives.base import Examples


def numbered(corpus: TokenizedCorpus, names: Sequence[str]) -> TokenizedCorpus:
    """The split with its languages numbered as in `names`, those that are not among them behind them.

    A store numbers the languages of its split as they come; a model's table has one row for each, whatever is read. So all splits are
    numbered by one list: that of the run that the model comes from, else that of the training text.
    """
    if corpus.languages is None:
        return corpus
    known = tuple(dict.fromkeys((*names, *corpus.language_names)))
    numbers = np.array([known.index(name) for name in corpus.language_names], np.int32)
    named = replace(corpus, language_names=known)
    if (numbers == np.arange(len(numbers))).all():
        return named
    # an index of examples that was made of the other numbers is not this one's
    fingerprint = caches.digest("languages", corpus.fingerprint, numbers.tolist())
    return replace(named, languages=numbers[corpus.languages], fingerprint=fingerprint)


def of_documents(corpus: TokenizedCorpus, documents: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The language of each of some documents; None where the corpus has one language only."""
    if corpus.languages is None:
        return None
    return corpus.languages[documents].astype(np.int64)


def of_places(corpus: TokenizedCorpus, places: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The language of each of some tokens, by their places in the corpus; None where the corpus has one language only."""
    if corpus.languages is None:
        return None
    sentences = np.searchsorted(corpus.sentences, places, side="right") - 1
    return of_documents(corpus, np.searchsorted(corpus.documents, sentences, side="right") - 1)


def runs(corpus: TokenizedCorpus) -> NDArray[np.int64]:
    """(D,) which run of documents in one language each document belongs to: 0, 0, …, 1, 1, …; all 0 where there is one language only."""
    numbers = np.zeros(len(corpus), np.int64)
    if corpus.languages is not None:
        numbers[1:] = np.cumsum(np.diff(corpus.languages) != 0)
    return numbers


def idle(examples: Examples, exponent: float | None) -> list[str]:
    """What there is to say where `evened` cannot do what is asked for."""
    if exponent is None or exponent == 1.0 or examples.languages is not None or len(examples.corpus.language_names) < 2:
        return []
    return [
        f"data.language_sampling={exponent:g} has no effect here: this objective's examples are not in one language each"
    ]


def evened(examples: Examples, exponent: float | None, seed: int) -> Examples:
    """The examples with those of rarer languages repeated, so that a language's share of them is in proportion to its share now to the
    power of `exponent`: 1 or None changes nothing, with 0 all languages have as many. Which ones are repeated once more than others
    depends on `seed` alone. Where examples are not each in one language there is nothing to repeat: `idle` says so.
    """
    if exponent is None or exponent == 1.0 or examples.languages is None:
        return examples
    counts = np.bincount(examples.languages)
    there = np.flatnonzero(counts)
    times = (counts[there] / counts.max()) ** (exponent - 1.0)  # 1 for the most frequent language
    wanted = np.rint(counts[there] * times).astype(np.int64)
    if (wanted == counts[there]).all():
        return examples
    chosen = []
    for language, number in zip(there.tolist(), wanted.tolist(), strict=True):
        own = np.flatnonzero(examples.languages == language)
        whole, more = divmod(number, len(own))
        once_more = own[keyed.permutation(keyed.key(seed, "language", language), len(own))[:more]]
        chosen += [np.tile(own, whole), np.sort(once_more)]
    order = np.concatenate(chosen)
    names = [examples.corpus.language_names[language] for language in there]
    before, after = counts[there] / counts.sum(), wanted / wanted.sum()
    shares = "; ".join(f"{n} {100 * a:.1f} % -> {100 * b:.1f} %" for n, a, b in zip(names, before, after, strict=True))
    return replace(
        examples,
        table=examples.table[order],
        lengths=examples.lengths[order],
        tokens=None if examples.tokens is None else examples.tokens[order],
        languages=examples.languages[order],
        notes=(*examples.notes, f"examples of rarer languages are repeated: {shares}"),
    )
