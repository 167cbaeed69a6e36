"""XLNet: predicts the tokens of a text in any order (Yang et al. 2019, https://arxiv.org/abs/1906.08237)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models import conversion
from cloze.models.base import Batch, HiddenStates, TwoStreams
from cloze.models.checks import above_zero, divides, positive, rates
from cloze.models.conversion import Portable, Rule, Weights
from cloze.models.encoder import OUR_ACTIVATIONS, THEIR_ACTIVATIONS
from cloze.models.layers.dropout import drop
from cloze.models.layers.feed_forward import Activation
from cloze.models.layers.heads import TiedHead
from cloze.models.layers.initialization import pooling_layer
from cloze.models.layers.relative import (
    Biases,
    RelativeLayer,
    Sight,
    distances,
    rectangle,
    remembered,
    sight,
    sight_by_order,
    sinusoids,
)
from cloze.models.layout import Layout


class XLNet(TwoStreams, Portable):
    """Post-norm layers with relative positions and relative segments, and Transformer-XL's memory.

    The content stream's states know their own token. The query stream's begin with one learnt vector, the same everywhere, and know
    only where they stand and what the factorisation order lets them see of the content stream; both go through the same layers.

    Positions are distances within a sequence, whatever the batch's `positions` say. The memory's tokens count as segment 0.
    """

    model_type: ClassVar[str] = "xlnet"
    remembers: ClassVar[bool] = True
    idle: ClassVar[tuple[str, ...]] = ("mask", "segment", "segments")
    opening: ClassVar[tuple[str, ...]] = ()
    closing: ClassVar[tuple[str, ...]] = ("sep", "cls")

    def __init__(
        self,
        vocabulary: int,
        length: int,
        pooler: bool,
        layers: int = 12,
        width: int = 768,
        heads: int = 12,
        inner: int = 3072,
        activation: Activation = "gelu",
        memory_length: int | None = None,
        clamp_length: int | None = None,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        norm_epsilon: float = 1e-12,
        initializer_range: float = 0.02,
    ) -> None:
        super().__init__()
        positive(layers=layers, width=width, heads=heads, inner=inner)
        above_zero(norm_epsilon=norm_epsilon, initializer_range=initializer_range)
        rates(dropout=dropout, attention_dropout=attention_dropout)
        divides(width, heads)
        self.memory_length = length if memory_length is None else memory_length
        if self.memory_length < 0:
            raise Refusal(
                f"model.memory_length={memory_length} must be 0 (no memory) or the number of tokens remembered."
            )
        if clamp_length is not None and clamp_length < 1:
            raise Refusal(f"model.clamp_length={clamp_length} must be at least 1 token, or null for no clamping.")
        self.width, self.initializer_range = width, initializer_range
        self.clamp_length, self.dropout = clamp_length, dropout
        self.word = nn.Embedding(vocabulary, width)
        self.mask = nn.Parameter(torch.empty(width))  # what every query begins as
        self.biases = nn.ModuleList(Biases(width, segments=True) for _ in range(layers))
        self.layers = nn.ModuleList(
            RelativeLayer(
                width, heads, width // heads, inner, activation, dropout, attention_dropout, norm_epsilon, segments=True
            )
            for _ in range(layers)
        )
        self.pooler = pooling_layer(width) if pooler else None
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                nn.init.ones_(parameter)
            elif name.endswith(".bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=initializer_range)

    @property
    def word_embedding(self) -> Tensor:
        return self.word.weight

    def token_head(self) -> TiedHead:
        return TiedHead(vocabulary=self.word.num_embeddings)

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        inputs, layout = batch.inputs, batch.inputs.layout
        device = inputs.tokens.device
        old = None if batch.memory is None or not self.memory_length else batch.memory["layers"].detach()
        old = None if old is None else old[:, :, -self.memory_length :]
        remembers = 0 if old is None else old.shape[2]
        segments = None
        if inputs.segments is not None:
            segments = rectangle(inputs.segments, layout)
            segments = torch.cat([segments.new_zeros(len(segments), remembers), segments], dim=1)
        questions: Questions | None = None
        if inputs.order is None:
            view, ahead = sight(layout, remembers), layout.pattern != "causal"
        else:
            view, hidden = sight_by_order(rectangle(inputs.order, layout), layout, remembers)
            ahead = True
            if inputs.queries is not None:
                questions = Questions.of(inputs.queries, layout, hidden, segments)
        elsewhere = None if segments is None else segments[:, remembers:, None] != segments[:, None]
        away = distances(layout.longest, remembers, ahead, device)
        if self.clamp_length is not None:
            away = away.clamp(-self.clamp_length, self.clamp_length)
        x = drop(self.word(inputs.tokens), self.dropout, self.training)
        encodings = drop(sinusoids(away, self.width).to(x.dtype), self.dropout, self.training)
        query: Tensor | None = None
        if questions is not None:
            query = drop(self.mask.expand(questions.count, -1), self.dropout, self.training)
        else:
            x = x + self.mask.sum() * 0.0  # every parameter has its part, as training over ranks asks for
        states = [x]
        for i, layer in enumerate(cast("list[RelativeLayer]", self.layers)):
            biases = cast(Biases, self.biases[i])
            source = layer.attention.read(x, layout, encodings, None if old is None else old[:, i])
            if questions is not None and query is not None and questions.count:
                q = questions
                query = layer(query, q.layout, source, biases, q.view, q.at, q.elsewhere)
            x = layer(x, layout, source, biases, view, elsewhere=elsewhere)
            states.append(x)
        memory = remembered(states[:-1], layout, old, self.memory_length) if batch.goes_on else None
        states[-1] = last = drop(x, self.dropout, self.training)
        if query is not None:
            query = drop(query, self.dropout, self.training)
        return HiddenStates(last, states if every_layer else [], memory=memory, queries=query)

    def pool(self, states: HiddenStates, batch: Batch) -> Tensor:
        """tanh of a dense layer on the last token, which is where [CLS] stands."""
        if self.pooler is None:
            return super().pool(states, batch)
        return torch.tanh(self.pooler(states.last[batch.inputs.layout.lasts]))

    def depth(self, parameter_name: str) -> int:
        module, _, rest = parameter_name.partition(".")
        if module in ("word", "mask"):
            return 0
        return int(rest.split(".")[0]) + 1 if module in ("layers", "biases") else len(self.layers) + 1

    # Hugging Face

    @classmethod
    def _rules(cls, layers: int) -> list[Rule]:
        table = [
            Rule("model.word.weight", ("transformer.word_embedding.weight",)),
            Rule("model.mask", ("transformer.mask_emb",)),
            Rule("objective.head.bias", ("lm_loss.bias",)),
            *conversion.rules({"model.pooler": "sequence_summary.summary"}),
        ]
        for i in range(layers):
            ours, theirs = f"model.layers.{i}.", f"transformer.layer.{i}."
            attention = theirs + "rel_attn."
            table += [
                Rule(f"{ours}attention.query.weight", (attention + "q",), transposed=True),
                Rule(f"{ours}attention.key_value.weight", (attention + "k", attention + "v"), transposed=True),
                Rule(f"{ours}attention.position.weight", (attention + "r",), transposed=True),
                Rule(f"{ours}attention.output.weight", (attention + "o",)),
                Rule(f"{ours}attention.segments", (attention + "seg_embed",)),
                Rule(f"model.biases.{i}.content", (attention + "r_w_bias",)),
                Rule(f"model.biases.{i}.position", (attention + "r_r_bias",)),
                Rule(f"model.biases.{i}.segment", (attention + "r_s_bias",)),
            ]
            table += conversion.rules(
                {
                    f"{ours}attention_norm": f"{attention}layer_norm",
                    f"{ours}feed_forward.inner": f"{theirs}ff.layer_1",
                    f"{ours}feed_forward.outer": f"{theirs}ff.layer_2",
                    f"{ours}feed_forward_norm": f"{theirs}ff.layer_norm",
                }
            )
        return table

    @classmethod
    def from_transformers(
        cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], Weights]:
        conversion.demand(
            config,
            {
                "attn_type": ("bi",),
                "bi_data": (False,),
                "same_length": (False,),
                "tie_word_embeddings": (True,),
                "ff_activation": tuple(THEIR_ACTIVATIONS),
                "summary_type": ("last",),
                "summary_use_proj": (True,),
                "summary_activation": ("tanh",),
            },
        )
        clamp = config.get("clamp_len", -1)
        dropout = float(config.get("dropout", 0.1))
        settings = {
            "layers": config.get("n_layer", 24),
            "width": config.get("d_model", 1024),
            "heads": config.get("n_head", 16),
            "inner": config.get("d_inner", 4096),
            "activation": THEIR_ACTIVATIONS[config.get("ff_activation", "gelu")],
            "memory_length": config.get("mem_len") or None,
            "clamp_length": clamp if clamp > 0 else None,
            "dropout": dropout,
            "attention_dropout": dropout,
            "norm_epsilon": config.get("layer_norm_eps", 1e-12),
            "initializer_range": config.get("initializer_range", 0.02),
        }
        named = conversion.with_prefix(weights, "transformer.", ("word_embedding.", "mask_emb", "layer."))
        flat = {name: _without_heads(name, tensor) for name, tensor in named.items()}
        ignored = ("lm_loss.weight", "logits_proj.*", "classifier.*", "qa_outputs.*", "*_logits.*", "answer_class.*")
        return settings, conversion.load(cls._rules(settings["layers"]), flat, ignored)

    @classmethod
    def to_transformers(
        cls, settings: Mapping[str, Any], weights: Mapping[str, Tensor], vocabulary: Vocabulary
    ) -> tuple[dict[str, Any], Weights]:
        if settings["attention_dropout"] != settings["dropout"]:
            raise Refusal(
                f"transformers' XLNet has one dropout: model.attention_dropout={settings['attention_dropout']} is not "
                f"model.dropout={settings['dropout']}."
            )
        width, heads = settings["width"], settings["heads"]
        config = {
            "model_type": cls.model_type,
            "architectures": ["XLNetLMHeadModel" if "objective.head.bias" in weights else "XLNetModel"],
            "vocab_size": len(weights["model.word.weight"]),
            "n_layer": settings["layers"],
            "d_model": width,
            "n_head": heads,
            "d_head": width // heads,
            "d_inner": settings["inner"],
            "ff_activation": OUR_ACTIVATIONS[settings["activation"]],
            "mem_len": settings["memory_length"],
            "clamp_len": settings["clamp_length"] or -1,
            "dropout": settings["dropout"],
            "layer_norm_eps": settings["norm_epsilon"],
            "initializer_range": settings["initializer_range"],
            **{f"{role}_token_id": vocabulary.special.get(role) for role in ("pad", "bos", "eos")},
        }
        stored = conversion.store(cls._rules(settings["layers"]), weights)
        named = {name: _with_heads(name, tensor, width, heads) for name, tensor in stored.items()}
        if "objective.head.bias" not in weights:  # a bare model's names have no prefix
            named = {name.removeprefix("transformer."): tensor for name, tensor in named.items()}
        return config, named


class Questions:
    """The query stream's rows as rectangles.

    layout     of the queries: how many each sequence has
    at         (B, P): their places in their sequences
    view       what they see
    elsewhere  (B, P, K) bool: the key is of another segment; None where there are no segments
    """

    def __init__(self, layout: Layout, at: Tensor, view: Sight, elsewhere: Tensor | None) -> None:
        self.layout, self.at, self.view, self.elsewhere = layout, at, view, elsewhere
        self.count = sum(layout.lengths)

    @classmethod
    def of(cls, rows: Tensor, layout: Layout, hidden: Tensor, segments: Tensor | None) -> Questions:
        """`rows` (M,) of the flat tensors, `hidden` (B, L, K) what each place sees that does not know its own token, `segments`
        (B, K) of the keys."""
        places = layout.places[rows]
        sequences = places // layout.longest
        lengths = torch.bincount(sequences, minlength=len(layout.lengths)).tolist()
        own = Layout(lengths, device=layout.device)
        if not len(rows):
            return cls(own, places, Sight(hidden), None)
        view = Sight.maybe_blind(rectangle(hidden.flatten(0, 1)[places], own))
        elsewhere = None
        if segments is not None:
            mine = rectangle(segments[:, -layout.longest :].reshape(-1)[places], own)
            elsewhere = mine[:, :, None] != segments[:, None]
        return cls(own, rectangle(places % layout.longest, own), view, elsewhere)


_HEADS = re.compile(r"rel_attn\.([qkvor])$")


def _without_heads(name: str, tensor: Tensor) -> Tensor:
    """Their tensors of three dimensions (width, heads, size of one) as matrices, and those of each head as vectors."""
    if _HEADS.search(name):
        return tensor.reshape(len(tensor), -1)
    if name.endswith(("r_w_bias", "r_r_bias", "r_s_bias", "mask_emb")):
        return tensor.flatten()
    return tensor.flatten(1) if name.endswith("seg_embed") else tensor


def _with_heads(name: str, tensor: Tensor, width: int, heads: int) -> Tensor:
    size = width // heads
    if _HEADS.search(name):
        return tensor.reshape(width, heads, size)
    if name.endswith(("r_w_bias", "r_r_bias", "r_s_bias")):
        return tensor.view(heads, size)
    if name.endswith("mask_emb"):
        return tensor.view(1, 1, width)
    return tensor.view(2, heads, size) if name.endswith("seg_embed") else tensor
