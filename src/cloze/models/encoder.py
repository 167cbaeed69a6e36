"""What the encoders of BERT's kind have in common."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cloze.models.base import Batch, Bidirectional, HiddenStates
from cloze.models.conversion import Portable
from cloze.models.layers.embeddings import Embeddings
from cloze.models.layers.feed_forward import Activation
from cloze.models.layers.heads import TransformedHead

THEIR_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}
OUR_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "silu": "silu"}


class Encoder(Bidirectional, Portable):
    """Embeddings, a token head with a layer of its own, and a pooler on [CLS] where the objective asks for one."""

    embeddings: Embeddings
    pooler: nn.Linear | None
    _head: tuple[int, int, int, Activation, float, float]  # what `TransformedHead` is made of

    @property
    def word_embedding(self) -> Tensor:
        return self.embeddings.word.weight

    def token_head(self) -> TransformedHead:
        return TransformedHead(*self._head)

    def pool(self, states: HiddenStates, batch: Batch) -> Tensor:
        if self.pooler is None:
            return super().pool(states, batch)
        first = states.last[batch.inputs.layout.starts(states.last.device)]
        return torch.tanh(self.pooler(first))
