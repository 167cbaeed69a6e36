"""Variable-length flash attention on CUDA (https://arxiv.org/abs/2307.08691): no padding, no mask, no matrix of weights."""

from __future__ import annotations

import torch
from torch import Tensor

from cloze.models.layout import Layout


def flash_can(queries: Tensor, bias: Tensor | None, layout: Layout, memory: Layout | None) -> bool:
    """Whether the kernels know this: half precision on CUDA, no position bias, everything or only the past seen."""
    return (
        queries.is_cuda
        and queries.dtype in (torch.bfloat16, torch.float16)
        and bias is None
        and (memory is not None or layout.pattern != "prefix")
        and layout.stride is None
        and (memory is None or memory.stride is None)
        and queries.shape[-1] <= 256
        and queries.shape[-1] % 8 == 0
    )


def flash_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    layout: Layout,
    memory: Layout | None,
    scale: float,
    rate: float,
) -> Tensor:
    """`attend` where `flash_can`.

    Calls the operator below `torch.nn.attention.varlen`, whose own entry has no dropout.
    """
    key_layout = memory or layout
    out: Tensor = torch.ops.aten._flash_attention_forward(
        queries,
        keys,
        values,
        layout.ends,
        key_layout.ends,
        layout.longest,
        key_layout.longest,
        rate,
        memory is None and layout.pattern == "causal",
        False,
        scale=scale,
    )[0]
    return out
