"""Learning which pairs to join: byte pair encoding (Sennrich, Haddow, Birch 2016, https://arxiv.org/abs/1508.07909), the same everywhere.

The `tokenizers` library's own trainers number a word's inner characters in the order of a hash table that is different in each
process, and break ties by these numbers: trained twice, WordPiece and BPE come out differently. Here ties are broken by the
symbols' order, and all of a pair's places are joined by a few array operations, which is about as fast.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def learn_merges(
    words: Mapping[tuple[int, ...], int], surfaces: Sequence[str], prefix: str, room: int, min_frequency: int
) -> tuple[list[str], list[tuple[int, int]]]:
    """The most frequent pair of neighbours is joined to a new symbol, again and again.

    `words` are sequences of symbols with their counts; `surfaces` writes each symbol; `prefix` ("##" or "") is what goes when a
    symbol is joined to what stands before it. At most `room` new symbols are made, from pairs that occur
    `min_frequency` times or more; of pairs equally frequent the one with the smaller symbols is first. Returns all symbols'
    surfaces, the new ones behind the old, and the pairs in the order in which they were joined.
    """
    written = list(surfaces)
    number = {surface: symbol for symbol, surface in enumerate(written)}
    wanted = len(written) + room
    chain = _Chain(words)
    joined: list[tuple[int, int]] = []
    while len(written) < wanted and (pair := chain.most_frequent(max(1, min_frequency))) is not None:
        left, right = pair
        surface = written[left] + written[right].removeprefix(prefix)
        symbol = number.setdefault(surface, len(written))  # "a"+"bc" and "ab"+"c" are one symbol
        if symbol == len(written):
            written.append(surface)
        joined.append(pair)
        chain.join(left, right, symbol)
    return written, joined


class _Chain:
    """All distinct words, one after the other, as a linked list of symbols in arrays; and where each pair of neighbours stands."""

    def __init__(self, words: Mapping[tuple[int, ...], int]) -> None:
        ordered = sorted(words)
        lengths = np.fromiter(map(len, ordered), np.int64, len(ordered))
        total = int(lengths.sum())
        self.symbol = np.fromiter((symbol for word in ordered for symbol in word), np.int64, total)
        self.count = np.repeat(np.fromiter((words[word] for word in ordered), np.int64, len(ordered)), lengths)
        ends = np.cumsum(lengths)
        self.next = np.arange(1, total + 1)
        self.next[ends[lengths > 0] - 1] = -1
        self.previous = np.arange(-1, total - 1)
        self.previous[(ends - lengths)[lengths > 0]] = -1
        self.counts: dict[int, int] = {}
        self.places: dict[int, list[NDArray[np.int64]]] = {}
        self.heap: list[tuple[int, int]] = []
        nothing = np.empty(0, np.int64)
        self._change(nothing, nothing, np.flatnonzero(self.next >= 0))

    def _keys(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return (self.symbol[places] << 32) | self.symbol[self.next[places]]

    def most_frequent(self, least: int) -> tuple[int, int] | None:
        """The pair that occurs most often, if at least `least` times."""
        while self.heap:
            negative, key = heapq.heappop(self.heap)
            count = self.counts.get(key, 0)
            if count == -negative:
                return (key >> 32, key & 0xFFFFFFFF) if count >= least else None
            if count > 0:
                heapq.heappush(self.heap, (-count, key))  # it has become rarer since it was put there
        return None

    def join(self, left: int, right: int, symbol: int) -> None:
        """Replaces every left, right by `symbol`, from left to right."""
        key = (left << 32) | right
        there = np.unique(np.concatenate(self.places.pop(key)))
        there = there[(self.symbol[there] == left) & (self.next[there] >= 0)]
        there = there[self.symbol[self.next[there]] == right]
        second = self.next[there]
        if left == right and len(there):  # in a run of the same symbol every other place
            order = np.arange(len(there))
            first = np.concatenate(([True], there[1:] != second[:-1]))
            kept = (order - np.maximum.accumulate(np.where(first, order, 0))) % 2 == 0
            there, second = there[kept], second[kept]
        before = self.previous[there]
        after = self.next[second]
        gone = np.unique(np.concatenate((before[before >= 0], there, second[after >= 0])))
        gone_keys, gone_counts = self._keys(gone), self.count[gone]
        self.symbol[there] = symbol
        self.symbol[second] = -1
        self.next[there] = after
        self.previous[after[after >= 0]] = there[after >= 0]
        before = before[before >= 0]
        new = np.unique(np.concatenate((before[self.symbol[before] >= 0], there)))
        self._change(gone_keys, gone_counts, new[self.next[new] >= 0])
        self.counts.pop(key, None)

    def _change(self, gone: NDArray[np.int64], gone_counts: NDArray[np.int64], new: NDArray[np.int64]) -> None:
        """Counts pairs that are gone and pairs that begin at `new`, and remembers where the latter stand."""
        new_keys = self._keys(new)
        keys, inverse = np.unique(np.concatenate((gone, new_keys)), return_inverse=True)
        weights = np.concatenate((-gone_counts, self.count[new]))
        changes = np.bincount(inverse, weights, len(keys)).astype(np.int64)
        for key, change in zip(keys.tolist(), changes.tolist(), strict=True):
            count = self.counts.get(key, 0) + change
            self.counts[key] = count
            if change > 0:
                heapq.heappush(self.heap, (-count, key))
        order = np.argsort(new_keys, kind="stable")
        ordered = new_keys[order]
        cuts = np.flatnonzero(np.diff(ordered)) + 1
        starts = np.concatenate(([0], cuts)) if len(ordered) else cuts
        for key, places in zip(ordered[starts].tolist(), np.split(new[order], cuts), strict=False):
            self.places.setdefault(key, []).append(places)
