"""Transformer-XL: a decoder that remembers the states of the text before (Dai et al. 2019, https://arxiv.org/abs/1901.02860)."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from cloze.errors import Refusal
from cloze.models.base import Batch, Causal, HiddenStates, Prefixed, TokenHead
from cloze.models.checks import above_zero, positive, rates
from cloze.models.layers.adaptive import AdaptiveEmbedding, AdaptiveHead
from cloze.models.layers.dropout import drop
from cloze.models.layers.heads import TiedHead
from cloze.models.layers.relative import Biases, RelativeLayer, Sight, distances, remembered, sight, sinusoids


class TransformerXL(Causal, Prefixed):
    """Post-norm layers with relative positions. Each layer's queries see the states that its input had in the segments before, up to
    `memory_length` of them for each sequence, without gradients into them; so the text that a token knows of reaches back by
    `memory_length` a layer.

    `memory_length` None is as long as a segment, `length`. In evaluation (out of training) there may be another one,
    `evaluation_memory_length`; distances are taken as `clamp_length` where they are more; and with `same_length` every token sees
    the same number of keys, itself and the others before it up to the memory's length, where otherwise the last token of a segment
    sees a segment more than the first. There are no position tables: no sequence is too long.

    The word vectors may be cut by frequency (`cutoffs`, `div_val`, `tied`, `tied_projections`: see `layers.adaptive`).
    """

    remembers: ClassVar[bool] = True

    def __init__(
        self,
        vocabulary: int,
        length: int,
        pooler: bool,
        layers: int = 16,
        width: int = 410,
        heads: int = 10,
        head_width: int = 41,
        inner: int = 2100,
        memory_length: int | None = None,
        evaluation_memory_length: int | None = None,
        clamp_length: int | None = None,
        same_length: bool = False,
        untied_biases: bool = False,
        embedding_width: int | None = None,
        cutoffs: list[int] | None = None,
        div_val: int = 1,
        tied: bool = True,
        tied_projections: bool = True,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        norm_epsilon: float = 1e-5,
        initializer_range: float = 0.02,
    ) -> None:
        super().__init__()
        cutoffs = list(cutoffs or [])
        positive(layers=layers, width=width, heads=heads, head_width=head_width, inner=inner, div_val=div_val)
        above_zero(norm_epsilon=norm_epsilon, initializer_range=initializer_range)
        rates(dropout=dropout, attention_dropout=attention_dropout)
        self.memory_length = length if memory_length is None else memory_length
        self.evaluation_memory_length = (
            self.memory_length if evaluation_memory_length is None else evaluation_memory_length
        )
        for name, value in (
            ("memory_length", self.memory_length),
            ("evaluation_memory_length", self.evaluation_memory_length),
        ):
            if value < 0:
                raise Refusal(f"model.{name}={value} must be 0 (no memory) or the number of tokens remembered.")
        if same_length and not self.evaluation_memory_length:
            raise Refusal("model.same_length=true needs a memory: what each token sees is as long as that.")
        if clamp_length is not None and clamp_length < 1:
            raise Refusal(f"model.clamp_length={clamp_length} must be at least 1 token, or null for no clamping.")
        embedding_width = width if embedding_width is None else embedding_width
        _check_cut(vocabulary, embedding_width, cutoffs, div_val, tied_projections, width)
        self.width, self.initializer_range = width, initializer_range
        self.clamp_length, self.same_length, self.dropout = clamp_length, same_length, dropout
        self.embedding = AdaptiveEmbedding(vocabulary, width, embedding_width, cutoffs, div_val)
        # u and v: one pair for all layers, or one for each
        self.biases = nn.ModuleList(Biases(heads * head_width) for _ in range(layers if untied_biases else 1))
        self.layers = nn.ModuleList(
            RelativeLayer(width, heads, head_width, inner, "relu", dropout, attention_dropout, norm_epsilon)
            for _ in range(layers)
        )
        self._head = tied, tied_projections
        self._initialise(initializer_range)

    def _initialise(self, deviation: float) -> None:
        """Normal, projections of word vectors with half the deviation; norms about 1; biases of dense layers 0."""
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                nn.init.normal_(parameter, 1.0, deviation)
            elif name.endswith(".bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=deviation / 2 if "projections" in name else deviation)

    @property
    def word_embedding(self) -> Tensor:
        """(V, E); (V, 0) where the vectors are of several widths: the head has them."""
        tables = self.embedding.tables
        return cast(Tensor, tables[0]) if len(tables) == 1 else tables[0].new_empty(self.embedding.vocabulary, 0)

    def token_head(self) -> TokenHead:
        tied, tied_projections = self._head
        embedding = self.embedding
        if tied and len(embedding.edges) == 2 and not len(embedding.projections):
            return TiedHead(vocabulary=embedding.vocabulary)
        return AdaptiveHead(embedding, tied, tied_projections, self.initializer_range)

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        inputs = batch.inputs
        layout = inputs.layout.seen_as("causal") if inputs.layout.pattern == "bidirectional" else inputs.layout
        kept = self.memory_length if self.training else self.evaluation_memory_length
        old = None if batch.memory is None or not kept else batch.memory["layers"].detach()[:, :, -kept:]
        remembers = 0 if old is None else old.shape[2]
        view = sight(layout, remembers)
        away = distances(layout.longest, remembers, layout.pattern == "prefix", inputs.tokens.device)
        if not self.training:
            if self.same_length:
                view = Sight(view.seen & self._near(layout.longest, remembers, inputs.tokens.device))
            if self.clamp_length is not None:
                away = away.clamp(max=self.clamp_length)
        x = drop(self.embedding(inputs.tokens), self.dropout, self.training)
        encodings = drop(sinusoids(away, self.width).to(x.dtype), self.dropout, self.training)
        states = [x]
        for i, layer in enumerate(cast("list[RelativeLayer]", self.layers)):
            source = layer.attention.read(x, layout, encodings, None if old is None else old[:, i])
            x = layer(x, layout, source, cast(Biases, self.biases[i % len(self.biases)]), view)
            states.append(x)
        memory = remembered(states[:-1], layout, old, kept) if batch.goes_on else None
        states[-1] = last = drop(x, self.dropout, self.training)
        return HiddenStates(last, states if every_layer else [], memory=memory)

    def _near(self, length: int, remembers: int, device: torch.device) -> Tensor:
        """(1, L, M + L) bool: keys less than the memory's length behind the query."""
        query = torch.arange(length, device=device)[:, None] + remembers
        return (query - torch.arange(remembers + length, device=device) < self.evaluation_memory_length)[None]

    def pool(self, states: HiddenStates, batch: Batch) -> Tensor:
        """The last token's state: the only one that has seen the whole sequence."""
        return states.last[batch.inputs.layout.lasts]

    def depth(self, parameter_name: str) -> int:
        """Biases lie with the first layer that they serve."""
        module, _, rest = parameter_name.partition(".")
        return 0 if module == "embedding" else int(rest.split(".")[0]) + 1


def _check_cut(
    vocabulary: int, embedding_width: int, cutoffs: list[int], div_val: int, tied_projections: bool, width: int
) -> None:
    if embedding_width < 1:
        raise Refusal(f"model.embedding_width={embedding_width} must be at least 1.")
    edges = [0, *cutoffs, vocabulary]
    if any(b <= a for a, b in pairwise(edges)):
        raise Refusal(
            f"model.cutoffs={cutoffs} must rise and lie between 1 and {vocabulary - 1}: the vocabulary has {vocabulary} words."
        )
    if div_val > 1 and not cutoffs:
        raise Refusal(f"model.div_val={div_val} has no effect without model.cutoffs.")
    if embedding_width < div_val ** len(cutoffs):
        raise Refusal(
            f"model.div_val={div_val} would leave the last of {len(cutoffs) + 1} clusters no width: "
            f"model.embedding_width={embedding_width} must be at least {div_val ** len(cutoffs)}."
        )
    if not tied_projections and div_val == 1 and embedding_width == width:
        raise Refusal("model.tied_projections=false has no effect where word vectors are as wide as the model.")
