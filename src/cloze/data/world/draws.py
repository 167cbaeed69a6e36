"""A document's chance: weighted choices that are a function of the document's key alone, and what each of them costs.

Integer arithmetic throughout, so that the same document comes out on every platform; only the costs are floating point.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Generic, TypeVar

import numpy as np

from cloze.data import keyed

T = TypeVar("T")
_BLOCK = np.arange(128, dtype=np.uint64)


class Table(Generic[T]):
    """Things to choose from, with whole-number weights."""

    __slots__ = ("items", "sums", "total", "weights")

    def __init__(self, items: Sequence[T], weights: Sequence[int] | None = None) -> None:
        self.items = tuple(items)
        self.weights = tuple(weights) if weights is not None else (1,) * len(self.items)
        self.sums = list(accumulate(self.weights))
        self.total = self.sums[-1]

    def cost(self, which: int) -> float:
        """-log p, in nats, of one of the items, by its place."""
        return math.log(self.total / self.weights[which])

    @classmethod
    def zipf(cls, items: Sequence[T], flatten: float = 1.0) -> Table[T]:
        """Weights that fall like 1 / (rank + flatten)."""
        return cls(items, [round(10_000 / (rank + 1 + flatten)) for rank in range(len(items))])

    def without(self, excluded: Sequence[T]) -> Table[T]:
        """The same choice where some things are ruled out."""
        kept = [(item, weight) for item, weight in zip(self.items, self.weights, strict=True) if item not in excluded]
        return Table([item for item, _ in kept], [weight for _, weight in kept])


def chance(share: float) -> Table[bool]:
    """No or yes, yes in `share` of the cases (to a thousandth)."""
    yes = round(1000 * share)
    return Table((False, True), (1000 - yes, yes))


class Draws:
    """The choices of one document, in order. `cost` adds up -log p of all that was drawn."""

    __slots__ = ("_at", "_bits", "_key", "_next", "cost")

    def __init__(self, key: int) -> None:
        self._key = np.array([key], dtype=np.uint64)
        self._bits: list[int] = []
        self._at = 0
        self._next = 0
        self.cost = 0.0

    def pick(self, table: Table[T]) -> T:
        """One of the table's items. A choice of one, or one that is certain, draws nothing."""
        if table.total in table.weights:
            return table.items[table.weights.index(table.total)]
        if self._at == len(self._bits):
            self._bits = (keyed.bits(self._key, _BLOCK + np.uint64(self._next)) >> np.uint64(11)).tolist()
            self._next += len(_BLOCK)
            self._at = 0
        which = bisect_right(table.sums, self._bits[self._at] * table.total >> 53)
        self._at += 1
        self.cost += table.cost(which)
        return table.items[which]
