"""What a model is: it turns a batch into hidden states. Its role says what it can be for an objective; it knows no loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cloze.data.base import Record, Text
from cloze.models.layout import Layout


@dataclass
class Sequences:
    """One packed set of sequences: flat tensors of real tokens and the layout that says where each sequence lies.

    tokens (N,) int64; segments (N,) int64 or None; positions (N,) int64 within its own sequence.
    """

    tokens: Tensor
    layout: Layout
    positions: Tensor
    segments: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Sequences:
        return Sequences(
            self.tokens.to(device, non_blocking=non_blocking),
            self.layout.to(device),
            self.positions.to(device, non_blocking=non_blocking),
            None if self.segments is None else self.segments.to(device, non_blocking=non_blocking),
        )


@dataclass
class Batch:
    """One micro-batch: what the model reads and what the objective asks for.

    `counts` are this micro-batch's targets for each loss term, `step_counts` those of the whole step over all ranks and parts.
    `indices` (B,) are the examples' numbers, for messages.
    """

    inputs: Sequences
    targets: dict[str, Tensor]
    counts: dict[str, int]
    step_counts: dict[str, int]
    decoder: Sequences | None = None
    indices: tuple[int, ...] = ()
    step: int = 0
    parts: int = 1  # into how many micro-batches, over ranks and accumulation, this step is cut
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Sequences in this micro-batch."""
        return len(self.inputs.layout.lengths)

    @property
    def real_tokens(self) -> int:
        """Tokens read, encoder and decoder together, without any padding."""
        return sum(self.inputs.layout.lengths) + (sum(self.decoder.layout.lengths) if self.decoder else 0)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device (Lightning calls this)."""
        return Batch(
            self.inputs.to(device, non_blocking),
            {name: value.to(device, non_blocking=non_blocking) for name, value in self.targets.items()},
            self.counts,
            self.step_counts,
            self.decoder.to(device, non_blocking) if self.decoder else None,
            self.indices,
            self.step,
            self.parts,
            self.extra,
        )


@dataclass
class HiddenStates:
    """What every model returns.

    last    (tokens, width), in the order of the batch's flat tokens (of the decoder's, where there is one)
    layers  every layer, when asked for: the embedding's output first
    losses  what the model itself must add, e.g. expert balance
    memory  state carried to the next batch
    encoder (tokens, width) of the encoder, where there is a decoder too
    """

    last: Tensor
    layers: list[Tensor] = field(default_factory=list)
    losses: dict[str, Tensor] = field(default_factory=dict)
    memory: Any | None = None
    encoder: Tensor | None = None


class TokenHead(nn.Module):
    """The family's own way from hidden states to vocabulary logits; the word embedding is lent to it at every call.

    A family says what `features` are. One whose logits are not features @ embedding.T + bias has a `forward` of its own.
    """

    bias: Tensor | None  # (V,)

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("bias", None)

    def features(self, hidden: Tensor) -> Tensor:
        """(M, width) hidden states -> (M, E): what is multiplied with the word embedding."""
        return hidden

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """(M, width) hidden states and (V, E) word embedding -> (M, V) logits."""
        return F.linear(self.features(hidden), embedding, self.bias)


class Backbone(nn.Module, ABC):
    """A family. Settings are the `__init__` parameters after `vocabulary` (its size), `length` and `pooler`."""

    reads: ClassVar[type[Record]] = Text
    role: ClassVar[str]  # the role in words, for refusals: "sees both sides of every token"
    width: int
    initializer_range: float = 0.02  # the deviation with which weights that an objective puts on the model begin
    positions: int | None = None  # the longest sequence that the position table serves; None: there is no such table

    @abstractmethod
    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        """Hidden states of the batch's real tokens; with `every_layer` those of each layer too."""

    @property
    @abstractmethod
    def word_embedding(self) -> Tensor:
        """(V, E): the table that the token head is tied to."""

    @abstractmethod
    def token_head(self) -> TokenHead:
        """A fresh head of the family's kind, for the objective to own. Initialised as the family does it."""

    def pool(self, states: HiddenStates, batch: Batch) -> Tensor:
        """(sequences, width): the family's own habit, BERT's is tanh of a dense layer on [CLS]. Needs `pooler=True`."""
        raise NotImplementedError(f"{type(self).__name__} has no pooled vector")

    @abstractmethod
    def depth(self, parameter_name: str) -> int:
        """How deep a parameter lies: 0 for embeddings, 1 for the first layer, …: what layer-wise rates go by."""


class Bidirectional(Backbone):
    """Sees both sides of every token."""

    role = "sees both sides of every token"


class Causal(Backbone):
    """Sees only what stands before a token."""

    role = "sees only what stands before a token"


class EncoderDecoder(Backbone):
    """Reads one text and writes another."""

    role = "reads one text and writes another"
