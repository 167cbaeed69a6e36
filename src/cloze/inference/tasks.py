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
    learnt: type | None = None,
) -> tuple[Task, ...]:
    """What a model with these heads that learnt this objective can do, its role's own task first."""
    found: list[Task] = ["replaced"] if has_discriminator else []
    if has_head:
        if isinstance(model, TwoStreams) or (isinstance(model, Bidirectional) and "mask" in vocabulary.special):
            found.append("fill")
        if isinstance(model, EncoderDecoder):
            masks = getattr(learnt, "task", None) == "fill" and "mask" in vocabulary.special
            found += ["fill", "rewrite"] if vocabulary.sentinels or masks else ["rewrite"]
        if isinstance(model, Causal | Prefixed | TwoStreams | TwoDirections):
            found.append("continue")
    if isinstance(model, TwoDirections):
        return ("vectors", *found)
    return (*found, "vectors")


def task_of(able: tuple[Task, ...], learnt: type | None) -> Task:
    """What a text is used for where nobody says it: what the objective `learnt` teaches, or else the role's own task."""
    task: Task | None = getattr(learnt, "task", None)
    return task if task in able else able[0]


def objective_class(objective: Mapping[str, Any] | None) -> type | None:
    """The class that a run's record of its objective names, None where there is none of ours."""
    if objective and objective.get("of"):  # made of others: what the first of them teaches
        return objective_class((objective.get("settings") or {}).get(objective["of"][0]))
    try:
        return locate(objective.get("_target_"), "objective") if objective else None
    except Refusal:  # of a package of the user's own, which is not imported without being asked to
        return None
