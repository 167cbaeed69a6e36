"""What came out, as figures, as a table, as lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cloze.data.base import Labels
from cloze.fewshot.comparison import Judged
from cloze.fewshot.prompts import Asked, chance, majority
from cloze.scoring import score


@dataclass(frozen=True)
class Results:
    """The figures of a split. `metrics` are fractions by name, the first being the one that counts; `groups` the accuracy of each group
    and its size; `baselines` what one gets who has no model. Without gold answers there is nothing but the predictions."""

    task: str
    split: str
    examples: int
    shots: int
    metrics: Mapping[str, float]
    standard_error: float | None = None  # of the first metric, where it is a share of the examples
    baselines: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    cut: int = 0  # examples whose prompt did not fit
    notes: tuple[str, ...] = ()

    def figures(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "task": self.task,
            "split": self.split,
            "examples": self.examples,
            "shots": self.shots,
            "metrics": dict(self.metrics),
            "standard_error": self.standard_error,
            "baselines": dict(self.baselines),
            "groups": {name: {"accuracy": share, "examples": n} for name, (share, n) in self.groups.items()},
            "cut": self.cut,
        }

    def rows(self) -> list[tuple[str, str]]:
        """What there is to say, name and figure."""
        error = "" if self.standard_error is None else f" ± {self.standard_error:.3f}"
        found = [("task", f"{self.task}, {self.split}: {self.examples:,} examples, {self.shots} shots")]
        found += [(name, f"{share:.3f} ({n:,})") for name, (share, n) in self.groups.items()]
        for number, (name, value) in enumerate(self.metrics.items()):
            found.append(
                (
                    name,
                    f"{value:.4g}{error if number == 0 else ''}"
                    if value > 1
                    else f"{value:.3f}{error if number == 0 else ''}",
                )
            )
        found += [(name, f"{value:.3f}") for name, value in self.baselines.items()]
        return found + [("", note) for note in self.notes]


def of_classes(
    asked: Sequence[Asked], judged: Sequence[Judged], labels: Labels, groups: Sequence[str], **facts: Any
) -> Results:
    """Classes: accuracy and the benchmark's own metrics."""
    gold = [each.gold for each in asked]
    cut = sum(each.cut for each in judged)
    if any(each is None for each in gold):
        return Results(metrics={}, examples=len(asked), cut=cut, **facts)
    chosen = [each.choice for each in judged]
    right = float(np.mean([one == other for one, other in zip(chosen, gold, strict=True)]))
    own = [name for name in labels.metrics if name != "accuracy"]
    metrics = {"accuracy": right, **score(own, chosen, gold, list(groups) if any(groups) else None)}  # type: ignore[arg-type]
    most = majority(asked)
    baselines = {"chance": chance(asked)} | ({} if most is None else {"majority": most})
    return Results(
        metrics=metrics,
        standard_error=_error(right, len(asked)),
        baselines=baselines,
        examples=len(asked),
        cut=cut,
        **facts,
    )


def of_options(asked: Sequence[Asked], judged: Sequence[Judged], groups: Sequence[str], **facts: Any) -> Results:
    """Options: the share of examples whose right one is preferred to all others; where there are groups (paradigms of minimal pairs) that
    of each too, and their mean, in which each counts alike."""
    cut = sum(each.cut for each in judged)
    if any(each.gold is None for each in asked):
        return Results(metrics={}, examples=len(asked), cut=cut, **facts)
    right = [float(one.prefers(int(each.gold or 0))) for one, each in zip(judged, asked, strict=True)]
    by_group: dict[str, list[float]] = {}
    for name, each in zip(groups, right, strict=True):
        by_group.setdefault(name, []).append(each)
    metrics = {"accuracy": float(np.mean(right))}
    error = _error(metrics["accuracy"], len(right))
    shares: dict[str, tuple[float, int]] = {}
    if len(by_group) > 1:
        shares = {name: (float(np.mean(own)), len(own)) for name, own in sorted(by_group.items())}
        metrics = {"mean_accuracy": float(np.mean([share for share, _ in shares.values()])), **metrics}
        error = math.sqrt(sum(share * (1 - share) / n for share, n in shares.values())) / len(shares)
    return Results(
        metrics=metrics, standard_error=error, baselines={"chance": chance(asked)}, groups=shares,
        examples=len(asked), cut=cut, **facts,
    )  # fmt: skip


def of_last_words(judged: Sequence[Judged], **facts: Any) -> Results:
    """One completion each: how often greedy decoding writes it, and its perplexity per word (the completion) and per token."""
    said = [each.likelihoods[0] for each in judged]
    right = float(np.mean([each.greedy for each in said]))
    nats = -sum(each.log_likelihood for each in said)
    metrics = {
        "accuracy": right,
        "perplexity": math.exp(min(nats / len(said), 700.0)),
        "perplexity_per_token": math.exp(min(nats / sum(each.tokens for each in said), 700.0)),
    }
    cut = sum(each.cut for each in judged)
    return Results(metrics=metrics, standard_error=_error(right, len(said)), examples=len(said), cut=cut, **facts)


def _error(share: float, n: int) -> float:
    """The standard error of a share of n examples."""
    return math.sqrt(share * (1 - share) / n)
