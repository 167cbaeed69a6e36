"""One layer of a post-norm Transformer encoder (https://arxiv.org/abs/1706.03762, as BERT has it)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from cloze.models.layers.attention import SelfAttention
from cloze.models.layers.feed_forward import Activation, FeedForward
from cloze.models.layout import Layout


class EncoderLayer(nn.Module):
    """Attention, then feed-forward; each with dropout, added to its input, normed after: (N, width) -> same."""

    def __init__(
        self,
        width: int,
        heads: int,
        inner: int,
        activation: Activation,
        dropout: float,
        attention_dropout: float,
        epsilon: float,
    ) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads, attention_dropout)
        self.attention_norm = nn.LayerNorm(width, eps=epsilon)
        self.feed_forward = FeedForward(width, inner, activation)
        self.feed_forward_norm = nn.LayerNorm(width, eps=epsilon)
        self.dropout = dropout

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        x = self.attention_norm(x + F.dropout(self.attention(x, layout), self.dropout, self.training))
        normed: Tensor = self.feed_forward_norm(x + F.dropout(self.feed_forward(x), self.dropout, self.training))
        return normed
