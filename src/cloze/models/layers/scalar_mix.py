"""What a task takes from a model's layers: gamma * sum over j of softmax(weights)_j * layer j (Peters et al. 2018,
https://arxiv.org/abs/1802.05365, equation 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ScalarMix(nn.Module):
    """A learnt mixture of `layers` layers, even at first: layers × (N, width) -> (N, width).

    With `norm` each layer is first brought to mean 0 and deviation 1, over all its values in the batch, as ELMo's authors do it: what
    a layer gives then depends a little on the batch.
    """

    def __init__(self, layers: int, norm: bool = False) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(layers))
        self.gamma = nn.Parameter(torch.ones(()))
        self.norm = norm

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        if len(layers) != len(self.weights):
            raise ValueError(f"a mixture of {len(self.weights)} layers was given {len(layers)}")
        mixed = torch.zeros_like(layers[0])
        for share, layer in zip(self.weights.softmax(0), layers, strict=True):
            if self.norm:
                variance, mean = torch.var_mean(layer, correction=0)
                layer = (layer - mean) * (variance + 1e-12).rsqrt()
            mixed = mixed + share * layer
        return self.gamma * mixed
