"""The two halves of a post-norm Transformer encoder's layer (https://arxiv.org/abs/1706.03762, as BERT has them)."""

from __future__ import annotations

from torch import Tensor, nn

from cloze.models.cache import Cache
from cloze.models.layers.attention import SelfAttention
from cloze.models.layers.dropout import drop
from cloze.models.layers.feed_forward import Activation, FeedForward
from cloze.models.layout import Layout


class AttentionSublayer(SelfAttention):
    """Self-attention with dropout, added to its input, normed after: (N, width) -> (N, width)."""

    def __init__(self, width: int, heads: int, dropout: float, attention_dropout: float, epsilon: float) -> None:
        super().__init__(width, heads, attention_dropout)
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.sublayer_dropout = dropout

    def forward(self, x: Tensor, layout: Layout, cache: Cache | None = None) -> Tensor:
        normed: Tensor = self.norm(x + drop(super().forward(x, layout, cache), self.sublayer_dropout, self.training))
        return normed


class FeedForwardSublayer(FeedForward):
    """Feed-forward layers with dropout, added to their input, normed after: (N, width) -> (N, width)."""

    def __init__(
        self,
        width: int,
        inner: int,
        activation: Activation,
        dropout: float,
        epsilon: float,
        inner_dropout: float = 0.0,
    ) -> None:
        super().__init__(width, inner, activation, inner_dropout=inner_dropout)
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.sublayer_dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x + drop(super().forward(x), self.sublayer_dropout, self.training))
        return normed


class EncoderLayer(nn.Module):
    """Attention, then feed-forward."""

    def __init__(
        self,
        width: int,
        heads: int,
        inner: int,
        activation: Activation,
        dropout: float,
        attention_dropout: float,
        epsilon: float,
        inner_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention = AttentionSublayer(width, heads, dropout, attention_dropout, epsilon)
        self.feed_forward = FeedForwardSublayer(width, inner, activation, dropout, epsilon, inner_dropout)

    def forward(self, x: Tensor, layout: Layout, cache: Cache | None = None) -> Tensor:
        layer_output: Tensor = self.feed_forward(self.attention(x, layout, cache))
        return layer_output
