"""How weights begin."""

from __future__ import annotations

import torch
from torch import nn


def truncated_normal(module: nn.Module, deviation: float) -> None:
    """BERT's way (https://arxiv.org/abs/1810.04805 and its code), for `module` and everything in it: weights of linear and
    embedding layers normal with standard deviation `deviation`, cut at two deviations; biases 0, norms 1.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(part.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


def pooling_layer(width: int) -> nn.Linear:
    """A dense layer that leaves the random state as it was: a model with a pooler begins with the same other weights as one without,
    so that objectives that pool and objectives that do not can be compared. It is to be the last of a model's parts that are drawn.
    """
    with torch.random.fork_rng(devices=[]):
        return nn.Linear(width, width)
