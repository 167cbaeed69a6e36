"""Scaled dot-product attention over flat tensors of real tokens (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cloze.models.layout import Layout


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
    """What each query gathers from the tokens that it may see: (Nq, H, D), of queries (Nq, H, D), keys and values (Nk, H, D).

    `layout` says where the queries' sequences lie and what is seen; with `memory` (cross-attention) the keys lie as it
    says and sequence b sees all of sequence b of the memory. `bias` (H, Lq, Lk), at least as long as the longest
    sequences, is added to the scores by position. `scale` is 1/sqrt(D) where not given.
    """
    parts = []
    key_layout = memory or layout
    for b, (start, end) in enumerate(zip(layout.offsets[:-1], layout.offsets[1:], strict=True)):
        first, last = key_layout.offsets[b], key_layout.offsets[b + 1]
        q = queries[start:end].transpose(0, 1).unsqueeze(0)
        k = keys[first:last].transpose(0, 1).unsqueeze(0)
        v = values[first:last].transpose(0, 1).unsqueeze(0)
        mask = None if bias is None else bias[:, : end - start, : last - first].to(q.dtype).unsqueeze(0)
        if memory is None and layout.pattern != "bidirectional":
            position = torch.arange(end - start, device=q.device)
            allowed = position[:, None] >= position[None, :]
            if layout.pattern == "prefix" and layout.prefix is not None:
                allowed = allowed | (position[None, :] < layout.prefix[b])
            hidden = torch.zeros(allowed.shape, dtype=q.dtype, device=q.device).masked_fill_(~allowed, float("-inf"))
            mask = hidden if mask is None else mask + hidden
        out = F.scaled_dot_product_attention(q, k, v, mask, dropout if training else 0.0, scale=scale)
        parts.append(out.squeeze(0).transpose(0, 1))
    return torch.cat(parts)


class SelfAttention(nn.Module):
    """Multi-head attention of each sequence to itself, queries, keys and values projected at once: (N, width) -> same."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        n, width = x.shape
        queries, keys, values = self.qkv(x).view(n, 3, self.heads, width // self.heads).unbind(1)
        gathered = attend(queries, keys, values, layout, dropout=self.dropout, training=self.training)
        projected: Tensor = self.output(gathered.reshape(n, width))
        return projected
