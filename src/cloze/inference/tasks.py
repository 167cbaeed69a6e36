"""What a model is asked to do with a text: what its role can, and what it was trained for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models.base import (
    Backbone,
    Bidirectional,
    Causal,
    EncoderDecoder,
    Prefixed,
    TwoDirections,
    TwoStreams,
)
from cloze.schema import locate
from cloze.tasks import Task


def tasks_of(
    model: Backbone,
    vocabulary: Vocabulary,
    has_head: bool,
    has_discriminator: bool = False,
    learnt: str | None = None,
    queries: bool = True,
    judges: bool = False,
) -> tuple[Task, ...]:
    """What a model with these heads that `learnt` a task can do, its role's own task first. `queries`: see `queries_learnt`;
    `judges`: it was fine-tuned on labelled data."""
    two = isinstance(model, TwoStreams) and queries
    found: list[Task] = ["replaced"] if has_discriminator else []
    if has_head:
        if two or (isinstance(model, Bidirectional) and "mask" in vocabulary.special):
            found.append("fill")
        if isinstance(model, EncoderDecoder):
            masks = learnt == "fill" and "mask" in vocabulary.special
            found += ["fill", "rewrite"] if vocabulary.sentinels or masks else ["rewrite"]
        if two or isinstance(model, Causal | Prefixed | TwoDirections):
            found.append("continue")
    first: tuple[Task, ...] = ("judge",) if judges else ()
    if isinstance(model, TwoDirections):
        return (*first, "vectors", *found)
    return (*first, *found, "vectors")


def task_of(able: tuple[Task, ...], learnt: str | None) -> Task:
    """What a text is used for where nobody says it: the task that was `learnt`, or else the role's own."""
    return next((task for task in able if task == learnt), able[0])


def leading(objective: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A run's record of its objective or, where that is made of others, what it says of the first of them."""
    while objective and objective.get("of"):
        objective = (objective.get("settings") or {}).get(objective["of"][0])
    return objective


def task_learnt(objective: Mapping[str, Any] | None) -> str | None:
    """The task that a run's record of its objective stands for."""
    objective = leading(objective)
    teaches = getattr(objective_class(objective), "teaches", None)
    taught: str | None = teaches(dict(objective or {})) if teaches else None
    return taught


def queries_learnt(objective: Mapping[str, Any] | None) -> bool:
    """Whether a model with two streams is asked by its second one: where it was trained so, or nobody knows how. Otherwise its second
    stream has learnt nothing, and it is used as any model that sees both sides."""
    if objective and objective.get("of"):  # made of others: one that trains it is enough
        return any(queries_learnt((objective.get("settings") or {}).get(name)) for name in objective["of"])
    return bool(getattr(objective_class(objective), "queries", True))


def objective_class(objective: Mapping[str, Any] | None) -> type | None:
    """The class that a run's record of its objective names, None where there is none of ours."""
    objective = leading(objective)
    try:
        return locate(objective.get("_target_"), "objective") if objective else None
    except Refusal:  # of a package of the user's own, which is not imported without being asked to
        return None
