"""Switch Transformer: T5 with many feed-forwards where T5 has one, of which each token goes through one (Fedus et al. 2021,
https://arxiv.org/abs/2101.03961).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models import conversion
from cloze.models.cache import Cache
from cloze.models.checks import above_zero, positive, rates
from cloze.models.conversion import Rule, Weights
from cloze.models.layers.dropout import drop
from cloze.models.layers.heads import TiedHead
from cloze.models.layout import Layout
from cloze.models.t5 import (
    UNREAD,
    Attention,
    FeedForward,
    Layer,
    Losses,
    RelativeBias,
    Stack,
    TextToText,
    refuse_shape,
    their_config,
    their_names,
    their_shape,
)


@dataclass(frozen=True)
class Routing:
    """Where the router sends each of N tokens.

    logits (N, E) and probabilities (N, E) in 32 bits at least; expert (N,) the most probable one; gate (N,) its probability;
    kept (N,) whether the expert still has room for the token: one that is dropped goes on as it is.
    """

    logits: Tensor
    probabilities: Tensor
    expert: Tensor
    gate: Tensor
    kept: Tensor


class Router(nn.Module):
    """Chooses an expert for each token. An expert takes at most `capacity` tokens of each sequence, the first ones.

    So what becomes of a token depends on the tokens before it in its own sequence and on nothing else. All is computed in 32
    bits, under autocast too. In training what the router reads is multiplied by uniform noise within `jitter` of 1.
    """

    def __init__(self, width: int, experts: int, capacity: int, jitter: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, width))
        self.capacity, self.jitter = capacity, jitter

    def forward(self, x: Tensor, layout: Layout, cache: Cache | None = None) -> Routing:
        """(N, width) -> where each goes; a cache knows how many of each sequence's tokens each expert has taken."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(torch.promote_types(x.dtype, torch.float32))
            if self.training and self.jitter:
                x = x * torch.empty_like(x).uniform_(1 - self.jitter, 1 + self.jitter)
            logits = F.linear(x, self.weight.to(x.dtype))
            probabilities = logits.softmax(-1)
        gate, expert = probabilities.max(-1)
        kept = self._places(expert, layout, cache) < self.capacity
        return Routing(logits, probabilities, expert, gate, kept)

    def _places(self, expert: Tensor, layout: Layout, cache: Cache | None) -> Tensor:
        """(N,): how many tokens of its sequence that chose the same expert stand before each."""
        rows = torch.arange(len(expert), device=expert.device)
        sequence = torch.bucketize(rows, layout.starts(expert.device), right=True) - 1
        queue = sequence * len(self.weight) + expert
        order = queue.argsort(stable=True)
        waiting = queue[order]
        places = torch.empty_like(rows).index_copy_(0, order, rows - torch.searchsorted(waiting, waiting))
        if cache is None:
            return places
        taken = cache.counted(self, queue, (len(layout.lengths), len(self.weight)))
        return places + taken[queue]


class Experts(nn.Module):
    """E feed-forwards as T5's, of which each token goes through the one that it is sent to: (N, width) -> same, 0 for
    tokens that are dropped.
    """

    def __init__(self, experts: int, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Parameter(torch.empty(experts, inner, width))
        self.outer = nn.Parameter(torch.empty(experts, width, inner))
        self.dropout = dropout

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        rate = self.dropout if self.training else 0.0
        arguments = (x, routing.expert, routing.gate, routing.kept, self.inner, self.outer, rate)
        if torch.compiler.is_compiling():  # how many tokens each expert gets is another number in each batch
            from cloze import uncompiled

            gathered: Tensor = uncompiled.through_experts(*arguments)
            return gathered
        return through_experts(*arguments)

    def initialise(self, factor: float) -> None:
        """Deviations as a T5 feed-forward's of the same size."""
        nn.init.normal_(self.inner, std=factor * self.inner.shape[2] ** -0.5)
        nn.init.normal_(self.outer, std=factor * self.outer.shape[2] ** -0.5)


def through_experts(
    x: Tensor, expert: Tensor, gate: Tensor, kept: Tensor, inner: Tensor, outer: Tensor, rate: float
) -> Tensor:
    """Each kept token of x (N, width) through its expert, times its gate; 0 for the others."""
    experts = len(inner)
    counts = torch.bincount(expert.where(kept, experts), minlength=experts + 1).tolist()
    order = expert.where(kept, experts).argsort(stable=True)[: len(x) - counts.pop()]
    parts = torch.split(x[order], counts)
    outputs = [
        F.linear(drop(F.relu(F.linear(part, into)), rate, rate > 0), out)
        # taken apart at once: one gradient for all experts, not one as large as all for each of them
        for part, into, out in zip(parts, inner.unbind(0), outer.unbind(0), strict=True)
        if len(part)
    ]
    if not outputs:  # a cached step whose tokens all come too late
        return torch.zeros_like(x)
    gated = torch.cat(outputs).to(x.dtype) * gate[order, None].to(x.dtype)
    return torch.zeros_like(x).index_copy(0, order, gated)


class SparseFeedForward(nn.Module):
    """A router and its experts."""

    def __init__(self, router: Router, experts: Experts) -> None:
        super().__init__()
        self.router, self.experts = router, experts

    def forward(self, x: Tensor, layout: Layout, cache: Cache | None = None) -> tuple[Tensor, Routing]:
        routing: Routing = self.router(x, layout, cache)
        gathered: Tensor = self.experts(x, routing)
        return gathered, routing


class SparseLayer(Layer):
    """A layer of T5 whose feed-forward is sparse."""

    def fed_forward(self, x: Tensor, layout: Layout, cache: Cache | None, losses: Losses | None) -> Tensor:
        fed, routing = self.feed_forward(x, layout, cache)
        if losses is not None:
            real = layout.real.flatten() if layout.stride is not None else None
            losses.setdefault("balance", []).append(balance_loss(routing, real))
            losses.setdefault("router_z", []).append(z_loss(routing, real))
        gathered: Tensor = fed
        return gathered


def balance_loss(routing: Routing, real: Tensor | None = None) -> Tensor:
    """E * sum over experts of (share of the tokens that choose it) * (its mean probability): 1 where both are even, and
    never less where they agree. `real` (N,) says which rows are tokens; None: all.
    """
    experts = routing.probabilities.shape[1]
    share = _mean(F.one_hot(routing.expert, experts).to(routing.probabilities.dtype), real)
    return experts * (share * _mean(routing.probabilities, real)).sum()


def z_loss(routing: Routing, real: Tensor | None = None) -> Tensor:
    """The mean square of the logarithm of the logits' sum of exponentials, which keeps them small (Zoph et al. 2022,
    https://arxiv.org/abs/2202.08906).
    """
    return _mean(routing.logits.logsumexp(-1, keepdim=True).square(), real).squeeze(0)


def _mean(values: Tensor, real: Tensor | None) -> Tensor:
    """(N, n) -> (n,), over the rows that are tokens."""
    return values.mean(0) if real is None else (values * real[:, None]).sum(0) / real.sum()


class Switch(TextToText):
    """T5 with sparse feed-forwards in every `sparse_every`-th layer of both stacks, from the second layer on (in all of
    them, for 1).

    `capacity_factor`: an expert takes at most capacity_factor * length / experts tokens of a sequence (rounded up), so
    with 1 there is exactly room for a sequence of `length` tokens that are spread evenly; `capacity` says that number itself.
    `balance` and `router_z` weigh what each sparse layer adds to the loss. Matrices begin with the deviation
    sqrt(initializer_scale / inputs): a tenth of T5's scale, which the paper found more stable.
    """

    model_type: ClassVar[str] = "switch_transformers"

    def __init__(
        self,
        vocabulary: int,
        length: int,
        pooler: bool,
        layers: int = 12,
        decoder_layers: int | None = None,
        width: int = 768,
        heads: int = 12,
        head_width: int = 64,
        inner: int = 2048,
        experts: int = 8,
        sparse_every: int = 2,
        decoder_sparse_every: int | None = None,
        capacity_factor: float | None = 1.25,
        capacity: int | None = None,
        jitter: float = 0.01,
        balance: float = 0.01,
        router_z: float = 0.001,
        buckets: int = 32,
        furthest: int = 128,
        dropout: float = 0.1,
        expert_dropout: float = 0.1,
        norm_epsilon: float = 1e-6,
        initializer_scale: float = 0.1,
    ) -> None:
        refuse_shape(layers, decoder_layers, width, heads, head_width, inner, buckets, furthest, norm_epsilon)
        positive(experts=experts)
        above_zero(initializer_scale=initializer_scale)
        rates(dropout=dropout, expert_dropout=expert_dropout, jitter=jitter)
        for name, weight in (("balance", balance), ("router_z", router_z)):
            if not 0 <= weight < float("inf"):
                raise Refusal(f"model.{name}={weight} must be at least 0.")
        room = capacity_of(length, experts, capacity_factor, capacity)
        counts = (layers, layers if decoder_layers is None else decoder_layers)
        steps = (sparse_every, sparse_every if decoder_sparse_every is None else decoder_sparse_every)
        _refuse_steps(counts, steps)

        def layer(sparse: bool, decoder: bool) -> Layer:
            feed_forward: nn.Module = (
                SparseFeedForward(Router(width, experts, room, jitter), Experts(experts, width, inner, expert_dropout))
                if sparse
                else FeedForward(width, inner, dropout)
            )
            kind = SparseLayer if sparse else Layer
            return kind(width, heads, head_width, feed_forward, dropout, norm_epsilon, decoder)

        def stack(count: int, step: int, decoder: bool) -> Stack:
            made = (layer(is_sparse(i, step), decoder) for i in range(count))
            return Stack(made, RelativeBias(heads, buckets, furthest, not decoder), width, dropout, norm_epsilon)

        super().__init__(vocabulary, width, stack(counts[0], steps[0], False), stack(counts[1], steps[1], True))
        self.balance, self.router_z = balance, router_z
        factor = initializer_scale**0.5
        nn.init.normal_(self.word.weight)
        for module in self.modules():
            if isinstance(module, Attention | FeedForward | Experts):
                module.initialise(factor)
            elif isinstance(module, RelativeBias | Router):
                nn.init.normal_(module.weight, std=factor * width**-0.5)

    def token_head(self) -> TiedHead:
        return TiedHead(self.width**-0.5)

    def weighted(self, losses: Losses) -> dict[str, Tensor]:
        weights = {"balance": self.balance, "router_z": self.router_z}
        return {name: weights[name] * torch.stack(each).sum() for name, each in losses.items() if weights[name]}

    # Hugging Face

    @classmethod
    def _rules(cls, counts: tuple[int, int], steps: tuple[int, int], experts: int) -> list[Rule]:
        """Experts are one matrix below the other here, as `conversion` joins them; they are one array each in the model."""
        names = their_names(*counts)
        table: list[Rule] = []
        for stack, count, step, last in zip(("encoder", "decoder"), counts, steps, (1, 2), strict=True):
            for i in range(count):
                ours, theirs = f"{stack}.layers.{i}.feed_forward.", f"{stack}.block.{i}.layer.{last}.mlp."
                if not is_sparse(i, step):
                    names |= {ours + "inner": theirs + "wi", ours + "outer": theirs + "wo"}
                    continue
                names[ours + "router"] = theirs + "router.classifier"
                for own, other in (("inner", "wi"), ("outer", "wo")):
                    each = tuple(f"{theirs}experts.expert_{e}.{other}.weight" for e in range(experts))
                    table.append(Rule(f"model.{ours}experts.{own}", each))
        return [*conversion.rules({f"model.{o}": t for o, t in names.items()}, ("weight",)), *table]

    @classmethod
    def from_transformers(
        cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], Weights]:
        conversion.demand(config, {"dense_act_fn": ("relu",), "router_bias": (False,), "tie_word_embeddings": (True,)})
        config = {"num_layers": 12, "num_decoder_layers": 12, "num_heads": 12, "d_model": 768, **config}
        settings = their_shape(config)
        counts = (settings["layers"], settings["decoder_layers"] or settings["layers"])
        sparse = (config.get("num_sparse_encoder_layers", 3), config.get("num_sparse_decoder_layers", 3))
        steps = tuple(count // n if n else count for count, n in zip(counts, sparse, strict=True))
        settings |= {
            "experts": config.get("num_experts", 8),
            "sparse_every": steps[0],
            "decoder_sparse_every": None if steps[0] == steps[1] else steps[1],
            "capacity_factor": None,
            "capacity": config.get("expert_capacity", 64),
            "jitter": float(config.get("router_jitter_noise", 0.01)),
            "balance": float(config.get("router_aux_loss_coef", 0.001)),
            "router_z": float(config.get("router_z_loss_coef", 0.001)),
            "expert_dropout": settings["dropout"],
            "initializer_scale": float(config.get("initializer_factor", 1.0)) ** 2,
        }
        loaded = conversion.load(
            cls._rules(counts, (steps[0], steps[1]), settings["experts"]), weights, (*UNREAD, "lm_head.weight")
        )
        apart = {n: t.view(settings["experts"], -1, t.shape[1]) for n, t in loaded.items() if ".experts." in n}
        return settings, loaded | apart

    @classmethod
    def to_transformers(
        cls, settings: Mapping[str, Any], weights: Mapping[str, Tensor], vocabulary: Vocabulary
    ) -> tuple[dict[str, Any], Weights]:
        counts = (settings["layers"], settings["decoder_layers"] or settings["layers"])
        steps = (settings["sparse_every"], settings["decoder_sparse_every"] or settings["sparse_every"])
        config = {
            "model_type": cls.model_type,
            "architectures": ["SwitchTransformersForConditionalGeneration"],
            **their_config(settings, weights, vocabulary),
            "num_sparse_encoder_layers": _as_many(*counts[:1], steps[0]),
            "num_sparse_decoder_layers": _as_many(*counts[1:], steps[1]),
            "num_experts": settings["experts"],
            "expert_capacity": capacity_of(
                settings["length"], settings["experts"], settings["capacity_factor"], settings["capacity"]
            ),
            "router_jitter_noise": settings["jitter"],
            "router_aux_loss_coef": settings["balance"],
            "router_z_loss_coef": settings["router_z"],
            "initializer_factor": settings["initializer_scale"] ** 0.5,
            "dense_act_fn": "relu",
            "router_bias": False,
            "tie_word_embeddings": True,
        }
        joined = {name: t.flatten(0, 1) if ".experts." in name else t for name, t in weights.items()}
        return config, conversion.store(cls._rules(counts, steps, settings["experts"]), joined)


def is_sparse(layer: int, every: int) -> bool:
    """Whether layer number `layer`, from 0, is a sparse one."""
    return every == 1 or layer % every == 1


def capacity_of(length: int, experts: int, factor: float | None, capacity: int | None) -> int:
    """How many tokens of a sequence an expert takes at most."""
    if (factor is None) == (capacity is None):
        raise Refusal(
            f"model.capacity_factor={factor} and model.capacity={capacity}: give one of them, and null for the other."
        )
    if factor is not None:
        above_zero(capacity_factor=factor)
        return math.ceil(factor * length / experts)
    assert capacity is not None
    positive(capacity=capacity)
    return capacity


def _refuse_steps(counts: tuple[int, int], steps: tuple[int, int]) -> None:
    names = ("sparse_every", "sparse_every" if steps[0] == steps[1] else "decoder_sparse_every")
    for stack, name, count, step in zip(("encoder", "decoder"), names, counts, steps, strict=True):
        positive(**{name: step})
        if step > count > 1:
            raise Refusal(
                f"model.{name}={step} is more than the {stack}'s {count} layers: {count} does the same, and is the most."
            )
        if not any(is_sparse(i, step) for i in range(count)):
            raise Refusal(
                f"model.{name}={step} leaves the {stack} of {count} layers without a sparse one; take 1, or more layers."
            )


def _as_many(count: int, step: int) -> int:
    """The number of sparse layers that makes transformers take every `step`-th."""
    for sparse in range(count, 0, -1):
        if count // sparse == step:
            return sparse
    raise Refusal(
        f"model.sparse_every={step} in {count} layers: transformers knows the number of sparse layers alone, and none "
        "of them stands for this."
    )
