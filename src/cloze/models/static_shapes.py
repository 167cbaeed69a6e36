"""Batches of static shapes, for hardware that compiles one program a shape (TPU, full-graph compilation)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cloze.models.base import Sequences
from cloze.models.layout import Layout


def pad(sequences: Sequences, length: int) -> tuple[Sequences, Tensor]:
    """The same sequences with `length` rows each, and (N,) where each of their rows lies now.

    Filling has token, position and segment 0 and is seen by no token; its hidden states mean nothing. What an objective
    asks for by row (`at`) goes through the second result: `places[at]`. Raises ValueError where a sequence is longer.
    """
    old = sequences.layout
    if max(old.lengths, default=0) > length:
        raise ValueError(f"a sequence of {max(old.lengths)} tokens does not fit into {length}")
    layout = Layout(old.lengths, old.pattern, old.prefix, stride=length, way="padded", device=old.device)
    starts = np.repeat(np.arange(len(old.lengths)) * length, old.lengths)
    within = np.arange(len(starts)) - np.repeat(np.asarray(old.offsets[:-1]), old.lengths)
    places = torch.from_numpy(starts + within).to(sequences.tokens.device)

    def spread(values: Tensor) -> Tensor:
        return values.new_zeros(len(old.lengths) * length).index_copy_(0, places, values)

    return Sequences(
        spread(sequences.tokens),
        layout,
        spread(sequences.positions),
        None if sequences.segments is None else spread(sequences.segments),
        None if sequences.languages is None else spread(sequences.languages),
        None if sequences.order is None else spread(sequences.order),
        None if sequences.queries is None else places[sequences.queries],
    ), places
