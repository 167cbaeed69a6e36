"""LoRA: a weight W learns only as W + (alpha / rank) B A, A and B of a low rank (Hu et al. 2021, https://arxiv.org/abs/2106.09685).

The sum is a parametrization of the weight itself, so whoever reads `.weight` reads the sum, and nothing else in a model has to know.
Weights that hold several matrices one below the other (queries, keys and values) have an A and a B for each of them, as if they lay
apart. When training ends the sums are written down as plain weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cloze.errors import Refusal, with_article
from cloze.finetuning.ways import Targets
from cloze.models.base import Backbone
from cloze.models.layers.recurrent import ProjectedLSTM
from cloze.models.switch import Experts

INSIDE = ".parametrizations."  # stands in the names of what torch makes of a parametrized weight
_FUSED = {"qkv": 3, "key_value": 2}  # matrices one below the other, by the layer's name


class LowRank(nn.Module):
    """(…, out, in) weight -> the same with `scale` * B A added to some of the `pieces` that its rows are cut into.

    down  (…, chosen, rank, in): A of each chosen piece, uniform within 1 / sqrt(in), as the published code draws it
    up    (…, chosen, out / pieces, rank): B, which begins at 0
    """

    def __init__(self, weight: Tensor, rank: int, scale: float, pieces: int, chosen: tuple[int, ...]) -> None:
        super().__init__()
        *stack, rows, columns = weight.shape
        self.scale, self.pieces, self.chosen = scale, pieces, chosen
        self.down = nn.Parameter(weight.detach().new_empty(*stack, len(chosen), rank, columns))
        self.up = nn.Parameter(weight.detach().new_zeros(*stack, len(chosen), rows // pieces, rank))
        nn.init.uniform_(self.down, -(columns**-0.5), columns**-0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return self.merged(weight, self.down, self.up)

    def merged(self, weight: Tensor, down: Tensor, up: Tensor) -> Tensor:
        """The sum, for any A and B of this shape."""
        update = torch.matmul(up, down)
        if len(self.chosen) < self.pieces:  # nothing is added to the others
            parts = dict(zip(self.chosen, update.unbind(-3), strict=True))
            nothing = torch.zeros_like(update.select(-3, 0))
            update = torch.stack([parts.get(piece, nothing) for piece in range(self.pieces)], -3)
        return weight + self.scale * update.flatten(-3, -2)


@dataclass(frozen=True)
class Place:
    """A weight that can be adapted: parameter `name` of `module`, `pieces` matrices one below the other, of which `chosen` are."""

    path: str
    module: nn.Module
    name: str
    pieces: int
    chosen: tuple[int, ...]


def places(model: nn.Module, targets: Targets) -> Iterator[Place]:
    """The weights of a model's layers that `targets` means.

    attention     queries, keys, values (each by itself), what gathers them, and those of relative positions
    query_value   of those the queries' and values', the paper's own choice
    feed_forward  both dense layers, the two halves of a gated one each by itself; every expert of a sparse one
    all           both, and the weights of recurrent layers
    """
    for path, module in model.named_modules():
        parts = path.split(".")
        if isinstance(module, nn.Linear) and any(
            part in ("attention", "attentions", "cross_attention") for part in parts
        ):
            pieces = _FUSED.get(parts[-1], 1)
            chosen = tuple(range(pieces))
            if targets == "query_value":
                chosen = {"qkv": (0, 2), "key_value": (1,), "query": (0,)}.get(parts[-1], ())
            if targets != "feed_forward" and chosen:
                yield Place(path, module, "weight", pieces, chosen)
        elif targets in ("feed_forward", "all"):
            fed = any(part in ("feed_forward", "feed_forwards") for part in parts)
            if isinstance(module, nn.Linear) and fed:
                outer = getattr(model.get_submodule(path.rpartition(".")[0]), "outer", None)
                gated = (
                    parts[-1] == "inner"
                    and isinstance(outer, nn.Linear)
                    and module.out_features == 2 * outer.in_features
                )
                yield Place(path, module, "weight", 2 if gated else 1, (0, 1) if gated else (0,))
            elif isinstance(module, Experts):
                for name in ("inner", "outer"):
                    yield Place(path, module, name, 1, (0,))
            elif isinstance(module, ProjectedLSTM) and targets == "all":
                for name in ("weight_ih", "weight_hh", "weight_hr"):
                    yield Place(path, module, name, 1, (0,))


def add_low_rank(model: Backbone, rank: int, alpha: float, targets: Targets) -> None:
    """Adds A and B to every weight that `targets` means. Raises Refusal where the family has none, or one that is too small."""
    found = list(places(model, targets))
    if not found:
        family = type(model).__name__
        other = "; finetune.targets=all takes what it has" if any(places(model, "all")) else ""
        raise Refusal(f"finetune.targets={targets}: {with_article(family)} has no such weights{other}")
    for place in found:
        weight = getattr(place.module, place.name)
        least = min(weight.shape[-2] // place.pieces, weight.shape[-1])
        if rank > least:
            raise Refusal(
                f"finetune.rank={rank} is more than {least}, the full rank of {place.path}.{place.name}: a low rank is below it"
            )
        update = LowRank(weight, rank, alpha / rank, place.pieces, place.chosen)
        parametrize.register_parametrization(place.module, place.name, update)


def merged(model: nn.Module, weights: Mapping[str, Tensor], prefix: str = "model.") -> dict[str, Tensor]:
    """A state dict with the sums as plain weights under their plain names; `weights` are the state of `model` under `prefix`."""
    plain = {name: tensor for name, tensor in weights.items() if INSIDE not in name}
    for path, module in model.named_modules():
        for name, chain in (
            getattr(module, "parametrizations", {}).items() if parametrize.is_parametrized(module) else ()
        ):
            here = f"{prefix}{path}{INSIDE}{name}."
            update = chain[0]
            assert isinstance(update, LowRank)
            given = [weights[here + part] for part in ("original", "0.down", "0.up")]
            plain[f"{prefix}{path}.{name}"] = update.merged(*given)
    return plain


def rank_of(alpha: float | None, rank: int | None) -> tuple[int, float]:
    """Rank and alpha, as they are where nothing is said: 8, and as much as the rank, so that the update is not scaled."""
    rank = 8 if rank is None else rank
    return rank, float(rank) if alpha is None else alpha


def is_added(name: str) -> bool:
    """Whether a parameter's name is that of an A or a B."""
    return INSIDE in name and not name.endswith(".original")
