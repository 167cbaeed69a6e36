"""Between padded (sequences, length) tensors, as notebooks and other libraries have them, and flat tensors of real tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cloze.models.base import Sequences
from cloze.models.layout import Layout, Pattern


def flat(rows: Sequence[Sequence[int]], pattern: Pattern = "bidirectional") -> Sequences:
    """Lists of ids, one a sequence, none empty."""
    layout = Layout([len(row) for row in rows], pattern)
    tokens = torch.tensor([token for row in rows for token in row], dtype=torch.int64)
    return Sequences(tokens, layout, torch.cat([torch.arange(n) for n in layout.lengths]))


def from_padded(
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    token_type_ids: Tensor | None = None,
    pattern: Pattern = "bidirectional",
) -> Sequences:
    """(B, L) ids -> the flat tokens where the (B, L) mask is not 0 (everywhere, where there is none).

    Positions count from a sequence's first real token, so padding on either side changes nothing. Raises ValueError
    where a sequence is empty or has padding inside.
    """
    real = real_places(input_ids, attention_mask)
    lengths = real.sum(1)
    places = torch.arange(input_ids.shape[1], device=real.device).expand_as(real)
    first = torch.where(real, places, input_ids.shape[1]).amin(1)
    last = torch.where(real, places, -1).amax(1)
    if bool((lengths == 0).any()):
        raise ValueError("attention_mask: a sequence has no real token")
    if bool((last - first + 1 != lengths).any()):
        raise ValueError("attention_mask: padding must stand before or after a sequence's tokens, not among them")
    return Sequences(
        input_ids[real],
        Layout(lengths.tolist(), pattern),
        (places - first[:, None])[real],
        None if token_type_ids is None else token_type_ids[real],
    )


def real_places(input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """(B, L) bool: where real tokens stand."""
    if input_ids.dim() != 2:
        raise ValueError(f"input_ids must be (sequences, length), not of shape {tuple(input_ids.shape)}")
    if attention_mask is None:
        return torch.ones_like(input_ids, dtype=torch.bool)
    if attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"attention_mask has the shape {tuple(attention_mask.shape)}, input_ids {tuple(input_ids.shape)}; "
            "they must agree"
        )
    return attention_mask != 0


def to_padded(states: Tensor, real: Tensor) -> Tensor:
    """(N, width) states of the real tokens -> (B, L, width) with zeros at padding."""
    padded = states.new_zeros(*real.shape, states.shape[-1])
    padded[real] = states
    return padded
