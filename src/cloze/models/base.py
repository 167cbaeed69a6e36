"""What a model is: it turns a batch into hidden states. Its role says what it can be for an objective; it knows no loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cloze.data.base import Record, Text
from cloze.models.cache import Cache
from cloze.models.layers.feed_forward import Activation
from cloze.models.layout import Layout


@dataclass
class Sequences:
    """One packed set of sequences: flat tensors of real tokens and the layout that says where each sequence lies.

    tokens (N,) int64; segments (N,) int64 or None; positions (N,) int64 within its own sequence.
    languages (N,) int64 or None: the number of each token's language.
    order (N,) int64 or None: a factorisation order, for models with two streams. A token of rank r is predicted from those of
    lower rank; rank -1 is given: all may see it, and it sees the other given ones.
    queries (M,) int64 or None: the rows that such a model predicts, in rising order.
    """

    tokens: Tensor
    layout: Layout
    positions: Tensor
    segments: Tensor | None = None
    languages: Tensor | None = None
    order: Tensor | None = None
    queries: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Sequences:
        def moved(tensor: Tensor | None) -> Any:
            return None if tensor is None else tensor.to(device, non_blocking=non_blocking)

        return Sequences(
            moved(self.tokens),
            self.layout.to(device),
            moved(self.positions),
            moved(self.segments),
            moved(self.languages),
            moved(self.order),
            moved(self.queries),
        )


Memory = dict[str, Tensor]  # what a model carries to the next batch, (sequences, …) each: row b belongs to sequence b


@dataclass
class Batch:
    """One micro-batch: what the model reads and what the objective asks for.

    `counts` are this micro-batch's targets for each loss term, `step_counts` those of the whole step over all ranks and parts.
    `indices` (B,) are the examples' numbers, for messages.

    Text that goes on from batch to batch: `continues` says that sequence b begins where sequence b of the previous batch ended, and
    `memory` is what the model gave back then (None at the beginning, and for models that carry nothing). `goes_on` says that what it
    gives back now is wanted: False where the next batch is other text.
    `cache`: keys and values of what the texts held so far; then `inputs` (`decoder`, where there is one) is one new token of each.
    `streams` are the batches of several objectives that train together, by name; `inputs` is then the first one's.
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
    continues: bool = False
    goes_on: bool = True
    memory: Memory | None = None
    streams: dict[str, Batch] = field(default_factory=dict)
    cache: Cache | None = None

    @property
    def size(self) -> int:
        """Sequences in this micro-batch."""
        return len(self.inputs.layout.lengths)

    @property
    def real_tokens(self) -> int:
        """Tokens read, encoder and decoder together, without any padding."""
        if self.streams:
            return sum(batch.real_tokens for batch in self.streams.values())
        return sum(self.inputs.layout.lengths) + (sum(self.decoder.layout.lengths) if self.decoder else 0)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device (Lightning calls this)."""
        return replace(
            self,
            inputs=self.inputs.to(device, non_blocking),
            targets={name: value.to(device, non_blocking=non_blocking) for name, value in self.targets.items()},
            decoder=self.decoder.to(device, non_blocking) if self.decoder else None,
            streams={name: batch.to(device, non_blocking) for name, batch in self.streams.items()},
        )


@dataclass
class HiddenStates:
    """What every model returns.

    last    (tokens, width), in the order of the batch's flat tokens (of the decoder's, where there is one)
    layers  every layer, when asked for: the embedding's output first
    losses  what the model itself must add, a mean with its weight in it, e.g. expert balance
    memory  state carried to the next batch, detached
    encoder (tokens, width) of the encoder, where there is a decoder too
    queries (M, width) of the second stream, for the rows `inputs.queries`, where there is one
    """

    last: Tensor
    layers: list[Tensor] = field(default_factory=list)
    losses: dict[str, Tensor] = field(default_factory=dict)
    memory: Memory | None = None
    encoder: Tensor | None = None
    queries: Tensor | None = None


class TokenHead(nn.Module):
    """The family's own way from hidden states to vocabulary logits; the word embedding is lent to it at every call.

    A family says what `features` are. One whose logits are not features @ table.T + bias has a `forward` of its own.
    """

    bias: Tensor | None  # (V,)

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("bias", None)

    def features(self, hidden: Tensor) -> Tensor:
        """(M, width) hidden states -> (M, E): what is multiplied with the word embedding."""
        return hidden

    def table(self, embedding: Tensor) -> Tensor:
        """(V, E): what they are multiplied with, the word embedding or, in a head that is not tied to it, a table of its own."""
        return embedding

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """(M, width) hidden states and (V, E) word embedding -> (M, V) logits."""
        return F.linear(self.features(hidden), self.table(embedding), self.bias)

    def cross_entropy(self, hidden: Tensor, embedding: Tensor, targets: Tensor) -> tuple[Tensor, Tensor] | None:
        """Sum of the cross-entropies in nats and (M,) whether each target is the first choice, where the head has a way of its own
        that never makes all logits (adaptive softmax); None: the usual way."""
        return None


class Backbone(nn.Module, ABC):
    """A family. Settings are the `__init__` parameters after those that the program hands over by name: `vocabulary` (its size),
    `length`, `pooler` and, where a family has one, `generator` (whether it is built).

    `opening` and `closing` are the roles of the special tokens that stand before and behind a text, `between` of those between two,
    where the tokenizer has them.
    """

    reads: ClassVar[type[Record]] = Text
    caches: ClassVar[bool] = False  # whether it goes by `Batch.cache`; else a text that grows is read from its start
    opening: ClassVar[tuple[str, ...]] = ()
    closing: ClassVar[tuple[str, ...]] = ()
    between: ClassVar[tuple[str, ...]] = ("sep",)
    role: ClassVar[str]  # the role in words, for refusals: "sees both sides of every token"
    remembers: ClassVar[bool] = False  # whether it carries a memory from batch to batch, where text goes on
    idle: ClassVar[tuple[str, ...]] = ()  # how the names of parameters end that some batches give no gradient but zeros
    width: int
    initializer_range: float = 0.02  # the deviation with which weights that an objective puts on the model begin
    positions: int | None = None  # the longest sequence that the position table serves; None: there is no such table
    languages: int | None = None  # how many languages it tells apart; None: it does not look at them

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

    def spell(self, words: Sequence[str]) -> None:
        """Told once, before training, how each token of the vocabulary is written: for families that read characters. What they make
        of it lies in a buffer, so that a saved model knows it."""

    def pool(self, states: HiddenStates, batch: Batch) -> Tensor:
        """(sequences, width): the family's own habit, BERT's is tanh of a dense layer on [CLS]. Needs `pooler=True`."""
        raise NotImplementedError(f"{type(self).__name__} has no pooled vector")

    @abstractmethod
    def depth(self, parameter_name: str) -> int:
        """How deep a parameter lies: 0 for embeddings, 1 for the first layer, …: what layer-wise rates go by."""


class Bidirectional(Backbone):
    """Sees both sides of every token."""

    role = "sees both sides of every token"
    opening: ClassVar[tuple[str, ...]] = ("cls",)
    closing: ClassVar[tuple[str, ...]] = ("sep",)
    between: ClassVar[tuple[str, ...]] = ("sep",)


class Writer(Backbone):
    """Writes a text token by token, each from those before it."""

    role = "writes a text token by token"


class Causal(Writer):
    """Sees only what stands before a token."""

    role = "sees only what stands before a token"
    between: ClassVar[tuple[str, ...]] = ("eos",)


class EncoderDecoder(Writer):
    """Reads one text and writes another."""

    role = "reads one text and writes another"
    opening: ClassVar[tuple[str, ...]] = ("bos",)
    closing: ClassVar[tuple[str, ...]] = ("eos",)
    between: ClassVar[tuple[str, ...]] = ("eos",)
    reads_twice: ClassVar[bool] = (
        True  # a text to be judged is given to encoder and decoder (BART), else to the encoder alone
    )
    begins: ClassVar[str] = "pad"  # role of the token that the decoder begins with, where no objective says another


class Prefixed(Writer):
    """Can see the beginning of a text whole and the rest from left to right: the batch's layout says how far the beginning goes."""

    role = "can see a text's beginning whole and the rest from left to right"


class Steerable(Bidirectional, Causal, Prefixed):
    """Sees what the batch's layout says: both sides, one side, or a prefix whole."""

    role = "sees what each batch says: both sides of a token, one side, or a prefix whole"


class TwoStreams(Bidirectional):
    """Beside the states that know their own token has a second stream that does not, so that tokens can be predicted in any order.

    With `inputs.order` and `inputs.queries` it gives `HiddenStates.queries`; without them it sees both sides, or, where the layout is
    causal, what stands before a token.
    """

    role = "predicts tokens in any order"


class TwoDirections(Backbone):
    """Reads a text from left to right and from right to left, apart: `HiddenStates.last` is (tokens, 2 * half), the forward state, which
    has seen the token and what stands before it, and the backward one, which has seen it and what stands behind it."""

    role = "reads in both directions apart"
    opening: ClassVar[tuple[str, ...]] = ("eos",)
    closing: ClassVar[tuple[str, ...]] = ("eos",)
    between: ClassVar[tuple[str, ...]] = ("eos",)


class Discriminator(Bidirectional):
    """An encoder with a smaller one, the generator, that makes the replacements it is to find."""

    role = "has a generator that proposes replacements"
    generator: Bidirectional | None
    activation: Activation = "gelu"  # of the layers, and of the head that tells what was replaced
