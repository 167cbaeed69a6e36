"""Cutting a long stretch of tokens into examples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloze.errors import Refusal
from cloze.objectives.corruption import ranges


def windows(edges: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """(n, 2) rows (start, end): each stretch between two of `edges` (k+1,) in windows of `length`, in order.

    The last window of a stretch is shorter where it must be.
    """
    pieces = -(-np.diff(edges) // length)
    number = ranges(np.zeros_like(pieces), pieces)
    starts = np.repeat(edges[:-1], pieces) + number * length
    return np.stack([starts, np.minimum(starts + length, np.repeat(edges[1:], pieces))], axis=1).astype(np.int64)


def whole(cut: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """The rows of `cut`, as `windows` makes it, that are `length` tokens long: what text that goes on from batch to batch is read in.
    Raises Refusal where there is none."""
    full = cut[cut[:, 1] - cut[:, 0] == length]
    if not len(full):
        tokens = int((cut[:, 1] - cut[:, 0]).sum())
        raise Refusal(
            f"length={length} is more than the {tokens} tokens that a split of this corpus has; take length={tokens}."
        )
    return full
