"""What the post-norm encoder-decoders, BART and MASS, have in common: the Transformer of https://arxiv.org/abs/1706.03762 with
learned positions, a norm on the embeddings and one word embedding for all three uses.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from cloze.errors import Refusal
from cloze.models.base import Batch, EncoderDecoder, HiddenStates, Sequences
from cloze.models.checks import above_zero, fitting, positive, rates
from cloze.models.layers.decoder import DecoderLayer
from cloze.models.layers.dropout import drop
from cloze.models.layers.encoder import EncoderLayer
from cloze.models.layers.feed_forward import Activation


class Embedded(nn.Module):
    """What both stacks begin with: word embedding (lent to it) and learned position, normed, with dropout: (N,) -> (N, width)."""

    def __init__(self, width: int, positions: int, first_position: int, dropout: float, epsilon: float) -> None:
        super().__init__()
        self.position = nn.Embedding(positions + first_position, width)
        self.embedding_norm = nn.LayerNorm(width, eps=epsilon)
        self.first_position, self.dropout = first_position, dropout

    def embedded(self, sequences: Sequences, word: nn.Embedding) -> Tensor:
        """The first layer's input."""
        places = sequences.positions + self.first_position if self.first_position else sequences.positions
        x = self.embedding_norm(word(sequences.tokens) + self.position(places))
        return drop(x, self.dropout, self.training)


class Encoder(Embedded):
    """Embeddings and encoder layers."""

    layers: nn.ModuleList

    def forward(self, sequences: Sequences, word: nn.Embedding) -> list[Tensor]:
        """The embedding's output and every layer's."""
        states = [self.embedded(sequences, word)]
        for layer in self.layers:
            states.append(layer(states[-1], sequences.layout))
        return states


class Decoder(Embedded):
    """Embeddings and decoder layers."""

    layers: nn.ModuleList

    def forward(self, sequences: Sequences, word: nn.Embedding, memory: Tensor | None, batch: Batch) -> list[Tensor]:
        """The same; `memory` are the encoder's states, None where the batch's cache has what the layers took from them."""
        layout = sequences.layout
        if layout.pattern == "bidirectional":  # a decoder reads from left to right whatever the layout's maker said
            layout = layout.seen_as("causal")
        states = [self.embedded(sequences, word)]
        for layer in self.layers:
            states.append(layer(states[-1], layout, memory, batch.inputs.layout, batch.cache))
        return states


class PostNormEncoderDecoder(EncoderDecoder):
    """Post-norm encoder and decoder. `layers` counts the encoder's; the decoder has as many unless `decoder_layers` says otherwise.

    A token's row in the position table goes by the batch's positions, which need not begin at 0.
    """

    caches = True
    first_position: ClassVar[int] = 0  # the row of the position tables that a sequence's first token takes

    def __init__(
        self,
        vocabulary: int,
        length: int,
        pooler: bool,
        layers: int = 6,
        decoder_layers: int | None = None,
        width: int = 768,
        heads: int = 12,
        inner: int = 3072,
        positions: int = 1024,
        activation: Activation = "gelu",
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        inner_dropout: float = 0.1,
        norm_epsilon: float = 1e-5,
        initializer_range: float = 0.02,
    ) -> None:
        super().__init__()
        positive(layers=layers, width=width, heads=heads, inner=inner, positions=positions)
        if decoder_layers is not None:
            positive(decoder_layers=decoder_layers)
        above_zero(norm_epsilon=norm_epsilon, initializer_range=initializer_range)
        rates(dropout=dropout, attention_dropout=attention_dropout, inner_dropout=inner_dropout)
        fitting(width, heads, length, positions)
        self.width, self.positions, self.initializer_range = width, positions, initializer_range
        self.word = nn.Embedding(vocabulary, width)
        begin = (width, positions, self.first_position, dropout, norm_epsilon)
        shape = (width, heads, inner, activation, dropout, attention_dropout, norm_epsilon, inner_dropout)
        self.encoder, self.decoder = Encoder(*begin), Decoder(*begin)
        self.encoder.layers = nn.ModuleList(EncoderLayer(*shape) for _ in range(layers))
        count = layers if decoder_layers is None else decoder_layers
        self.decoder.layers = nn.ModuleList(DecoderLayer(*shape) for _ in range(count))
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" in name:
                nn.init.ones_(parameter)
            else:
                nn.init.normal_(parameter, std=initializer_range)

    @property
    def word_embedding(self) -> Tensor:
        return self.word.weight

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        self._refuse_long(batch)
        memory = None
        if batch.cache is None or not batch.cache.filled:
            encoded = self.encoder(batch.inputs, self.word)
            memory = encoded[-1]
            if batch.decoder is None:  # the encoder alone, for its vectors
                return HiddenStates(memory, encoded if every_layer else [], encoder=memory)
        assert batch.decoder is not None
        decoded = self.decoder(batch.decoder, self.word, memory, batch)
        return HiddenStates(decoded[-1], decoded if every_layer else [], encoder=memory)

    def _refuse_long(self, batch: Batch) -> None:
        """A target may be longer than what the encoder reads, whose length is known before the run."""
        assert self.positions is not None
        for name, sequences in (("encoder", batch.inputs), ("decoder", batch.decoder)):
            if sequences is not None and max(sequences.layout.lengths, default=0) > self.positions:
                raise Refusal(
                    f"model.positions={self.positions} is too few: the {name} is to read "
                    f"{max(sequences.layout.lengths)} tokens. Take more positions or a smaller length."
                )

    def pool(self, states: HiddenStates, batch: Batch) -> Tensor:
        """The last token's state, of the decoder where there is one: it has seen all that was read and all that was written."""
        layout = (batch.inputs if batch.decoder is None else batch.decoder).layout
        lengths = torch.tensor(layout.lengths, device=states.last.device)
        return states.last[layout.starts(states.last.device) + lengths - 1]

    def depth(self, parameter_name: str) -> int:
        """The decoder's layers lie above the encoder's; what its embeddings add lies with the other embeddings."""
        stack, _, rest = parameter_name.partition(".")
        part, _, rest = rest.partition(".")
        if part != "layers":
            return 0
        below = len(self.encoder.layers) if stack == "decoder" else 0
        return below + int(rest.split(".")[0]) + 1
