"""Position-wise feed-forward layers and their activations."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from cloze.models.layers.dropout import drop

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
    """Two dense layers with an activation between them: (N, width) -> (N, width) by way of (N, inner).

    `inner_dropout` is of what the activation gives.
    """

    def __init__(
        self, width: int, inner: int, activation: Activation, bias: bool = True, inner_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.inner = nn.Linear(width, inner, bias)
        self.outer = nn.Linear(inner, width, bias)
        self.activation: Activation = activation
        self.inner_dropout = inner_dropout

    def forward(self, x: Tensor) -> Tensor:
        inside = drop(activate(self.inner(x), self.activation), self.inner_dropout, self.training)
        hidden: Tensor = self.outer(inside)
        return hidden
