"""Position-wise feed-forward layers and their activations."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]


def activate(x: Tensor, activation: Activation) -> Tensor:
    """`gelu_tanh` is the tanh approximation of GELU (https://arxiv.org/abs/1606.08415), as ALBERT and GPT-2 use it."""
    match activation:
        case "gelu":
            return F.gelu(x)
        case "gelu_tanh":
            return F.gelu(x, approximate="tanh")
        case "relu":
            return F.relu(x)
        case "silu":
            return F.silu(x)


class FeedForward(nn.Module):
    """Two dense layers with an activation between them: (N, width) -> (N, width) by way of (N, inner)."""

    def __init__(self, width: int, inner: int, activation: Activation, bias: bool = True) -> None:
        super().__init__()
        self.inner = nn.Linear(width, inner, bias)
        self.outer = nn.Linear(inner, width, bias)
        self.activation: Activation = activation

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.outer(activate(self.inner(x), self.activation))
        return hidden
