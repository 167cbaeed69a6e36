"""Lines that are drawn: smoothed, joined over seeds, thinned to what a screen can show. No result is computed here."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloze.report.collect import Curve

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """The mean over seeds and the deviation about it; `n` seeds reach that far. `deviation` is 0 where one does."""

    x: Array
    mean: Array
    deviation: Array
    n: NDArray[np.int64]


def smoothed(curve: Curve, weight: float) -> Curve:
    """Exponentially, each point weighing `weight` of what came before it (0: as it is), without the pull of a beginning at zero."""
    if weight <= 0 or not len(curve.y):
        return curve
    from scipy.signal import lfilter  # type: ignore[attr-defined]

    total = lfilter([1 - weight], [1, -weight], curve.y)
    return Curve(curve.x, np.asarray(total / (1 - weight ** np.arange(1, len(curve.y) + 1))))


def joined(curves: Sequence[Curve]) -> Band:
    """The mean of several curves at all places that any has a point at, straight lines between a curve's points, as far as all of them
    reach: beyond, the mean would jump where a curve ends. Where none is common to all, as far as any reaches."""
    curves = [curve for curve in curves if len(curve.x)]
    if not curves:
        return Band(np.empty(0), np.empty(0), np.empty(0), np.empty(0, np.int64))
    if all(np.array_equal(curve.x, curves[0].x) for curve in curves):
        x, rows = curves[0].x, np.stack([curve.y for curve in curves])
    else:
        x = np.unique(np.concatenate([curve.x for curve in curves]))
        rows = np.stack([np.interp(x, *_rising(curve), left=np.nan, right=np.nan) for curve in curves])
    there = np.isfinite(rows)
    n = there.sum(axis=0)
    kept = n == len(curves) if np.any(n == len(curves)) else n > 0
    x, rows, there, n = x[kept], rows[:, kept], there[:, kept], n[kept]
    mean = np.where(there, rows, 0).sum(axis=0) / n
    squares = np.where(there, (rows - mean) ** 2, 0).sum(axis=0)
    return Band(x, mean, np.sqrt(squares / np.maximum(n - 1, 1)), n)


def _rising(curve: Curve) -> tuple[Array, Array]:
    if np.all(np.diff(curve.x) > 0):
        return curve.x, curve.y
    x, last = np.unique(curve.x[::-1], return_index=True)  # of several points at one place, the latest
    return x, curve.y[::-1][last]


def places(y: Array, most: int) -> NDArray[np.int64]:
    """Which of the points to draw: at most `most`, of each stretch the lowest and the highest, and the first and the last of all."""
    size = len(y)
    if size <= most or most < 4:
        return np.arange(size)
    stretches = (most - 2) // 2
    edges = np.linspace(0, size, stretches + 1).astype(np.int64)[:-1]
    low = np.minimum.reduceat(y, edges)
    high = np.maximum.reduceat(y, edges)
    of = np.searchsorted(edges, np.arange(size), side="right") - 1
    lowest = _first(y == low[of], of)
    highest = _first(y == high[of], of)
    return np.unique(np.concatenate([[0], lowest, highest, [size - 1]]))


def _first(marked: NDArray[np.bool_], of: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first marked place of each stretch."""
    at = np.flatnonzero(marked)
    return at[np.unique(of[at], return_index=True)[1]]


def packed(values: Array) -> Any:
    """Numbers as plotly.js reads them fastest: their bytes (four each, where that is as good on a screen)."""
    small = len(values) == 0 or float(np.abs(values).max()) < 2**24
    bytes_ = np.ascontiguousarray(values, "<f4" if small else "<f8").tobytes()
    return {"dtype": "f4" if small else "f8", "bdata": base64.b64encode(bytes_).decode()}
