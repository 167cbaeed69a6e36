"""How weights begin."""

from __future__ import annotations

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
