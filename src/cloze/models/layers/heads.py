"""From hidden states to the vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cloze.models.base import TokenHead
from cloze.models.layers.feed_forward import Activation, activate
from cloze.models.layers.initialization import truncated_normal


class TransformedHead(TokenHead):
    """BERT's: dense layer, activation, norm, then the word embedding as the output layer with a bias of its own."""

    def __init__(
        self,
        width: int,
        embedding_width: int,
        vocabulary: int,
        activation: Activation,
        epsilon: float,
        deviation: float,
    ) -> None:
        super().__init__()
        self.dense = nn.Linear(width, embedding_width)
        self.norm = nn.LayerNorm(embedding_width, eps=epsilon)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.activation: Activation = activation
        truncated_normal(self, deviation)

    def features(self, hidden: Tensor) -> Tensor:
        normed: Tensor = self.norm(activate(self.dense(hidden), self.activation))
        return normed


class TiedHead(TokenHead):
    """Products with the word embedding and nothing more (GPT-2, T5): no parameters. `scale` is T5's width ** -0.5. With
    `vocabulary` each word has a bias (Transformer-XL, XLNet), which begins at 0."""

    def __init__(self, scale: float = 1.0, vocabulary: int | None = None) -> None:
        super().__init__()
        self.scale = scale
        if vocabulary is not None:
            self.bias = nn.Parameter(torch.zeros(vocabulary))

    def features(self, hidden: Tensor) -> Tensor:
        # scaled before the product: M * width numbers instead of M * V
        return hidden if self.scale == 1.0 else hidden * self.scale


class OffsetHead(TokenHead):
    """Products with the word embedding and a fixed number for each token, which is not learnt (BART's `final_logits_bias`)."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        del self._parameters["bias"]
        self.register_buffer("bias", torch.zeros(vocabulary))


class UntiedHead(TokenHead):
    """An output layer of its own (ELMo, T5's version 1.1): the word embedding that is lent to it is not looked at. Its rows begin with
    `deviation`."""

    def __init__(self, vocabulary: int, width: int, deviation: float, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary, width))
        nn.init.normal_(self.weight, std=deviation)
        if bias:
            self.bias = nn.Parameter(torch.zeros(vocabulary))

    def table(self, embedding: Tensor) -> Tensor:
        return self.weight
