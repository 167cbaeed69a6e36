"""Cutting a long stretch of tokens into examples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloze.objectives.corruption import ranges


def windows(edges: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """(n, 2) rows (start, end): each stretch between two of `edges` (k+1,) in windows of `length`, in order.

    The last window of a stretch is shorter where it must be.
    """
    pieces = -(-np.diff(edges) // length)
    number = ranges(np.zeros_like(pieces), pieces)
    starts = np.repeat(edges[:-1], pieces) + number * length
    return np.stack([starts, np.minimum(starts + length, np.repeat(edges[1:], pieces))], axis=1).astype(np.int64)
