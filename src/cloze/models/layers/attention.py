"""Scaled dot-product attention over flat tensors of real tokens (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cloze.models.cache import Cache, kept
from cloze.models.layers.dropout import draw_seed
from cloze.models.layers.flash import flash_attention, flash_can
from cloze.models.layers.grouped import Call, GroupedAttention
from cloze.models.layers.padded import padded_attention
from cloze.models.layout import Layout, Way


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    layout: Layout,
    memory: Layout | None = None,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    training: bool = False,
) -> Tensor:
    """What each query gathers from the tokens it may see: (Nq, H, D) of queries (Nq, H, D), keys and values (Nk, H, D).

    `layout` says where the queries' sequences lie and what is seen; with `memory` (cross-attention) the keys lie as it
    says and sequence b sees all of sequence b of the memory. `bias` (H, Lq, Lk), or (B, H, Lq, Lk) where sequences have
    their own, at least as long as the longest sequences, is added to the scores by position. `scale` is 1/sqrt(D) where
    not given. Under autocast all is computed in its dtype. Rows of a layout with stride that hold no token give numbers
    without meaning.
    """
    device = queries.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else queries.dtype
    queries, keys, values = queries.to(dtype), keys.to(dtype), values.to(dtype)
    bias = None if bias is None else bias.to(dtype)
    scale = queries.shape[-1] ** -0.5 if scale is None else scale
    rate = dropout if training else 0.0
    way = layout.way or _usual_way(device)
    if way == "flash" and not flash_can(queries, bias, layout, memory):
        way = "padded"
    with torch.autocast(device, enabled=False):
        if way == "flash":
            return flash_attention(queries, keys, values, layout, memory, scale, rate)
        if way == "padded":
            return padded_attention(queries, keys, values, layout, memory, bias, scale, rate)
        if torch.compiler.is_compiling():
            # it looks at every length: a compiler would make a program for each batch
            from cloze import uncompiled

            gathered: Tensor = uncompiled.grouped_attention(queries, keys, values, layout, memory, bias, scale, rate)
            return gathered
        return grouped_attention(queries, keys, values, layout, memory, bias, scale, rate)


def grouped_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    layout: Layout,
    memory: Layout | None,
    bias: Tensor | None,
    scale: float,
    rate: float,
) -> Tensor:
    """`attend` for CPUs: sequences of similar length together, no padding beyond that."""
    call = Call(layout, memory, scale, rate, draw_seed() if rate else 0)
    gathered: Tensor = GroupedAttention.apply(queries, keys, values, bias, call)  # type: ignore[no-untyped-call]
    return gathered


def _usual_way(device: str) -> Way:
    if device == "cpu":
        return "grouped"
    return "flash" if device == "cuda" else "padded"


class SelfAttention(nn.Module):
    """Multi-head attention of each sequence to itself, queries, keys and values projected at once: (N, width) -> same."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, layout: Layout, cache: Cache | None = None) -> Tensor:
        n, width = x.shape
        queries, keys, values = self.qkv(x).view(n, 3, self.heads, width // self.heads).unbind(1)
        keys, values, seen = kept(cache, self, keys, values, layout)
        gathered = attend(queries, keys, values, layout, seen, dropout=self.dropout, training=self.training)
        projected: Tensor = self.output(gathered.reshape(n, width))
        return projected
