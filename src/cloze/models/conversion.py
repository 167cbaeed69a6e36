"""Weights to and from Hugging Face: one table of names a family, read in both directions.

Keys of ours are `model.*` and `objective.*`: the objective owns the heads (`objective.head.*` is the token head,
`objective.pair_head.*` the two-way head on the pooled vector).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import torch
from torch import Tensor

from cloze.data.base import Vocabulary
from cloze.errors import Refusal

Weights = dict[str, Tensor]


class Portable(ABC):
    """A family that Hugging Face knows too: what `init=` and `cloze export` call."""

    model_type: ClassVar[str]  # `model_type` in Hugging Face's config.json
    other_types: ClassVar[tuple[str, ...]] = ()  # further ones that are read, but not written

    @classmethod
    @abstractmethod
    def from_transformers(
        cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], Weights]:
        """(settings, weights of ours) from a config.json and a state dict.

        The settings are the family's `__init__` parameters after vocabulary, length and pooler; the vocabulary's size
        stands in config["vocab_size"], and there is a pooler where a key begins with "model.pooler.".
        Raises Refusal where the config asks for something that this family does not do.
        """

    @classmethod
    @abstractmethod
    def to_transformers(
        cls, settings: Mapping[str, Any], weights: Mapping[str, Tensor], vocabulary: Vocabulary
    ) -> tuple[dict[str, Any], Weights]:
        """(config.json with `architectures`, state dict) for transformers; its class depends on the heads there are.

        `settings` are the family's, all of them, and the run's "length".
        """

    @classmethod
    def remarks(cls, one_sided: bool, languages: Sequence[str]) -> dict[str, Any]:
        """Further entries of config.json: whether a run was trained from left to right only, and its languages' names in order."""
        return {}

    @classmethod
    def remarked(cls, config: Mapping[str, Any]) -> tuple[bool, tuple[str, ...]]:
        """What config.json says of both."""
        return False, ()

    @classmethod
    def companions(
        cls, settings: Mapping[str, Any], weights: Mapping[str, Tensor], vocabulary: Vocabulary
    ) -> dict[str, tuple[dict[str, Any], Weights]]:
        """What else transformers keeps as a model of its own, by the name of the folder that `cloze export` puts it into."""
        return {}


@dataclass(frozen=True)
class Rule:
    """One tensor's two names.

    `theirs` are several where ours is fused: joined along the output dimension, all of equal size.
    `transposed`: theirs is (in, out), as GPT-2's Conv1D keeps it.
    """

    ours: str
    theirs: tuple[str, ...]
    transposed: bool = False


def rules(names: Mapping[str, str | Sequence[str]], suffixes: Sequence[str] = ("weight", "bias")) -> list[Rule]:
    """Rules for modules: {"model.pooler": "pooler.dense"} stands for its weight and its bias."""
    return [
        Rule(
            f"{ours}.{suffix}", tuple(f"{name}.{suffix}" for name in ((theirs,) if isinstance(theirs, str) else theirs))
        )
        for ours, theirs in names.items()
        for suffix in suffixes
    ]


def load(table: Iterable[Rule], weights: Mapping[str, Tensor], ignored: Iterable[str] = ()) -> Weights:
    """Their weights under our names. Heads that are not there are left out; a tensor that no rule knows is refused.

    `ignored` are patterns (`*.position_ids`) of tensors that carry nothing: buffers, copies of tied weights.
    """
    left = {_modern(name): tensor for name, tensor in weights.items()}
    ours: Weights = {}
    for rule in table:
        parts = [left.pop(name) for name in rule.theirs if name in left]
        if not parts:
            continue
        if len(parts) < len(rule.theirs):
            raise Refusal(
                f"the checkpoint has some but not all of {', '.join(rule.theirs)}: it is damaged or of another kind."
            )
        parts = [part.t() for part in parts] if rule.transposed and parts[0].dim() == 2 else parts
        ours[rule.ours] = (parts[0] if len(parts) == 1 else torch.cat(parts)).contiguous()
    unknown = [name for name in left if not any(fnmatchcase(name, pattern) for pattern in ignored)]
    if unknown:
        some = ", ".join(sorted(unknown)[:5])
        raise Refusal(f"the checkpoint has tensors that this family does not: {some} ({len(unknown)} in all).")
    return ours


def store(table: Iterable[Rule], weights: Mapping[str, Tensor]) -> Weights:
    """Our weights under their names; fused ones are cut apart. Tensors that no rule names are left out."""
    theirs: Weights = {}
    for rule in table:
        if rule.ours not in weights:
            continue
        for name, part in zip(rule.theirs, weights[rule.ours].chunk(len(rule.theirs)), strict=True):
            theirs[name] = (part.t() if rule.transposed and part.dim() == 2 else part).clone().contiguous()
    return theirs


def _modern(name: str) -> str:
    """Checkpoints converted from TensorFlow call a norm's weight gamma and its bias beta."""
    if name.endswith(".gamma"):
        return name.removesuffix("gamma") + "weight"
    return name.removesuffix("beta") + "bias" if name.endswith(".beta") else name


def with_prefix(weights: Mapping[str, Tensor], prefix: str, parts: Iterable[str]) -> Weights:
    """Their weights with `prefix` ("bert.") before the model's own parts: a bare model's checkpoint has none."""
    parts = tuple(parts)
    return {prefix + name if name.startswith(parts) else name: tensor for name, tensor in weights.items()}


def demand(config: Mapping[str, Any], accepted: Mapping[str, Sequence[Any]]) -> None:
    """Refuses a config.json that asks for what the family does not do. A missing entry is taken as accepted."""
    for name, values in accepted.items():
        if config.get(name, values[0]) not in values:
            choices = " or ".join(map(repr, values))
            family = config.get("model_type")
            raise Refusal(
                f"config.json has {name}={config[name]!r}; a {family} model is read here only with {choices}."
            )
