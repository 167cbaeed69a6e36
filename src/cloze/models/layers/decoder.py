"""The layer of a post-norm decoder that looks at an encoder's states (https://arxiv.org/abs/1706.03762)."""

from __future__ import annotations

from torch import Tensor, nn

from cloze.models.cache import Cache, computed_once
from cloze.models.layers.attention import attend
from cloze.models.layers.dropout import drop
from cloze.models.layers.encoder import AttentionSublayer, FeedForwardSublayer
from cloze.models.layers.feed_forward import Activation
from cloze.models.layout import Layout


class CrossAttention(nn.Module):
    """Multi-head attention to the memory, the encoder's states; its keys and values are projected at once: (N, width) -> same.

    `memory` (M, width) may be None where the cache has what the first call made of it.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def forward(
        self, x: Tensor, layout: Layout, memory: Tensor | None, memory_layout: Layout, cache: Cache | None = None
    ) -> Tensor:
        n, width = x.shape
        shape = (self.heads, width // self.heads)
        queries = self.query(x).view(n, *shape)
        keys, values = computed_once(
            cache, self, lambda: self.key_value(memory).unflatten(-1, (2, *shape)).unbind(1), memory_layout
        )
        gathered = attend(queries, keys, values, layout, memory_layout, dropout=self.dropout, training=self.training)
        projected: Tensor = self.output(gathered.reshape(n, width))
        return projected


class CrossAttentionSublayer(CrossAttention):
    """Attention to the memory with dropout, added to its input, normed after: (N, width) -> (N, width)."""

    def __init__(self, width: int, heads: int, dropout: float, attention_dropout: float, epsilon: float) -> None:
        super().__init__(width, heads, attention_dropout)
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.sublayer_dropout = dropout

    def forward(
        self, x: Tensor, layout: Layout, memory: Tensor | None, memory_layout: Layout, cache: Cache | None = None
    ) -> Tensor:
        gathered = super().forward(x, layout, memory, memory_layout, cache)
        normed: Tensor = self.norm(x + drop(gathered, self.sublayer_dropout, self.training))
        return normed


class DecoderLayer(nn.Module):
    """Attention to what stands before, attention to the memory, then feed-forward."""

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
        self.cross_attention = CrossAttentionSublayer(width, heads, dropout, attention_dropout, epsilon)
        self.feed_forward = FeedForwardSublayer(width, inner, activation, dropout, epsilon, inner_dropout)

    def forward(
        self, x: Tensor, layout: Layout, memory: Tensor | None, memory_layout: Layout, cache: Cache | None = None
    ) -> Tensor:
        x = self.cross_attention(self.attention(x, layout, cache), layout, memory, memory_layout, cache)
        layer_output: Tensor = self.feed_forward(x)
        return layer_output
