"""Attention as one rectangle of all sequences, masked: static shapes, on any hardware."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cloze.models.layout import Layout


def padded_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    layout: Layout,
    memory: Layout | None,
    bias: Tensor | None,
    scale: float,
    rate: float,
) -> Tensor:
    """`attend`, all arguments given. A layout with stride is already such a rectangle; others are laid out and back."""
    key_layout = memory or layout
    q, k, v = _rectangle(queries, layout), _rectangle(keys, key_layout), _rectangle(values, key_layout)
    causal = memory is None and layout.pattern == "causal" and bias is None  # what comes after is padding too
    mask = None if causal else _mask(layout, memory)
    if bias is not None:
        bias = bias if bias.dim() == 4 else bias[None]
        bias = F.pad(bias, (0, max(0, k.shape[2] - bias.shape[3])))[:, :, : q.shape[2], : k.shape[2]]
        mask = bias if mask is None else bias.masked_fill(~mask, float("-inf"))
    out = F.scaled_dot_product_attention(q, k, v, mask, rate, is_causal=causal, scale=scale)
    flat = out.transpose(1, 2).flatten(0, 1)
    return flat if layout.stride is not None else flat.index_select(0, layout.places)


def _rectangle(flat: Tensor, layout: Layout) -> Tensor:
    """(N, H, D) -> (B, H, L, D)."""
    rows = flat if layout.stride is not None else flat.index_select(0, layout.rows)
    return rows.view(-1, layout.longest, *flat.shape[1:]).transpose(1, 2)


def _mask(layout: Layout, memory: Layout | None) -> Tensor | None:
    """(B, 1, Lq or 1, Lk) bool, True where a query sees a key; None where the pattern alone says it."""
    key_layout = memory or layout
    if memory is None and layout.pattern != "bidirectional":
        place = torch.arange(layout.longest, device=layout.device)
        seen = place[:, None] >= place
        if layout.pattern == "causal":
            return seen[None, None]
        return (seen | (place < layout.prefix_tensor[:, None, None]))[:, None]
    if key_layout.stride is None and key_layout.even:
        return None
    return key_layout.real[:, None, None]
