"""Which tokens a permutation language model predicts, and in which order, for a whole batch at a time (XLNet: Yang et al. 2019,
https://arxiv.org/abs/1906.08237, section 2.3, and its released code).

Pure functions on arrays. Every draw is a function of its sequence's key, so it does not depend on the batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloze.data import keyed
from cloze.objectives.corruption import beginnings, select_tokens

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


def target_counts(lengths: Integers, one_in: int, available: Integers) -> Integers:
    """One token in `one_in` of each length, rounded down (85 of 512 for 6), at least 1, at most those there are: (B,) -> (B,)."""
    return np.minimum(np.maximum(lengths // one_in, 1), available)


def select_spans(
    word_starts: Flags,
    sizes: Integers,
    counts: Integers,
    one_in: int,
    distribution: NDArray[np.float64],
    keys: keyed.Keys,
) -> tuple[Flags, Integers]:
    """`counts` (B,) tokens of each sequence, most of them in spans of whole words: (N,) bool, and the lengths in words drawn.

    From left to right: a number of words n is drawn, and a window of `one_in` tokens for each token of the n words that come next.
    The span is the first n words behind a random place of the window, and the next window begins where this one ends. The last
    span is cut to what is left. What the spans leave over, single tokens drawn from all others make up.
    """
    starts, ends = beginnings(sizes), np.cumsum(sizes)
    words = np.append(np.flatnonzero(word_starts), len(word_starts))
    taken = np.zeros(len(word_starts), bool)
    cumulative = np.cumsum(distribution)
    cumulative[-1] = 1.0
    at, left = starts.copy(), counts.copy()
    lengths_keys, places_keys = keyed.stream(keys, "length"), keyed.stream(keys, "place")
    drawn: list[Integers] = []

    def place_of(word: Integers, sequences: Integers) -> Integers:
        """Where a word begins, or its sequence ends."""
        places: Integers = np.minimum(words[np.minimum(word, len(words) - 1)], ends[sequences])
        return places

    number = 0
    active = np.flatnonzero((left > 0) & (at < ends))
    while len(active):
        counter = np.array([number])
        draw = np.searchsorted(cumulative, keyed.uniform(lengths_keys[active], counter), side="right") + 1
        drawn.append(draw)
        wanted = np.minimum(draw, left[active])
        word = np.searchsorted(words, at[active])
        window = (place_of(word + wanted, active) - place_of(word, active)) * one_in
        ahead = keyed.integers(places_keys[active], counter, window)
        word = np.searchsorted(words, at[active] + ahead)
        begin = place_of(word, active)
        size = np.minimum(place_of(word + wanted, active) - begin, left[active])
        # where no word begins any more there is no span, and the sequence is done
        taken[np.repeat(begin, size) + _within(size)] = True
        left[active] -= size
        at[active] = np.where(size > 0, begin + size + window - ahead, ends[active])
        active = active[(left[active] > 0) & (at[active] < ends[active])]
        number += 1
    rest = select_tokens(~taken, sizes, left, keyed.stream(keys, "rest"))
    taken[rest.at] = True
    return taken, np.concatenate(drawn) if drawn else np.empty(0, np.int64)


def random_ranks(chosen: Flags, lengths: Integers, keys: keyed.Keys) -> Integers:
    """A random order of the `chosen` tokens of each sequence, every order equally likely: (N,) ranks 0, 1, …, -1 for the others."""
    places = np.flatnonzero(chosen)
    sequences = np.repeat(np.arange(len(lengths)), lengths)[places]
    chance = keyed.bits(keyed.stream(keys, "order")[sequences], places - beginnings(lengths)[sequences])
    return _ranks(places[np.lexsort((chance, sequences))], sequences, len(chosen))


def reading_ranks(chosen: Flags, lengths: Integers) -> Integers:
    """The same from left to right."""
    places = np.flatnonzero(chosen)
    return _ranks(places, np.repeat(np.arange(len(lengths)), lengths)[places], len(chosen))


def _ranks(ordered: Integers, sequences: Integers, total: int) -> Integers:
    ranks = np.full(total, -1, np.int64)
    ranks[ordered] = _within(np.bincount(sequences)) if len(sequences) else 0
    return ranks


def _within(sizes: Integers) -> Integers:
    """0, 1, … of every size, one after the other."""
    within: Integers = np.arange(int(sizes.sum())) - np.repeat(beginnings(sizes), sizes)
    return within
