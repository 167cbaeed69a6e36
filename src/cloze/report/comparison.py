"""Runs side by side: arms (runs that differ only in their seed), their figures over seeds, their differences to a baseline, in words.

Every table, page and file that shows a comparison shows the numbers of one `Comparison`; none computes its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloze.report.collect import Run


@dataclass(frozen=True)
class Metric:
    """A figure that arms are judged by: its key in `Run.figures` and how it reads."""

    key: str
    title: str
    higher_is_better: bool
    unit: str = ""  # "nats", "%", …


@dataclass(frozen=True)
class Absent:
    """A run that should be there and is not, or did not end: named, never dropped."""

    seed: int | None
    status: str  # "missing", "failed", "running", "stopped", "preempted", "no figure"
    reason: str = ""


@dataclass(frozen=True)
class Arm:
    """Runs of one configuration, one a seed. `differs` are the settings that tell it from the other arms."""

    name: str
    runs: Sequence[Run]
    differs: Mapping[str, Any] = field(default_factory=dict)
    absent: Sequence[Absent] = ()


@dataclass(frozen=True)
class Summary:
    """One metric of one arm over its seeds. `deviation`, `low`, `high` are None for a single seed."""

    values: Mapping[int, float]  # seed: value
    mean: float
    deviation: float | None
    low: float | None  # Student's 95 % interval of the mean
    high: float | None

    @property
    def n(self) -> int:
        """The number of seeds."""
        return len(self.values)


@dataclass(frozen=True)
class Difference:
    """An arm less the baseline, over the seeds that both have."""

    n: int
    mean: float
    low: float | None  # the interval that the verdict goes by
    high: float | None
    bootstrap: tuple[float, float] | None  # of the paired differences
    p: float | None  # that the verdict goes by, before Holm's correction
    p_holm: float | None  # after it, over all arms of this metric
    p_permutation: float | None  # exact sign flips of the paired differences
    p_reachable: float | None  # the smallest that so many seeds can give in that permutation test
    effect: float | None  # standardised by the deviation of the differences, with the small-sample correction
    detectable: float | None  # the smallest true difference that so many seeds show with a power of 0.8


@dataclass(frozen=True)
class Cell:
    """A metric of an arm: its summary, its difference to the baseline (None for the baseline itself) and the verdict in words."""

    metric: Metric
    arm: str
    summary: Summary | None  # None where no run of the arm has the figure
    difference: Difference | None
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """What is shown. `cells[metric.key][arm.name]`; `remarks` are sentences that must stand beside every table."""

    title: str
    arms: Sequence[Arm]
    metrics: Sequence[Metric]
    baseline: str | None
    cells: Mapping[str, Mapping[str, Cell]]
    remarks: Sequence[str] = ()
    question: str = ""
    published: Mapping[str, Any] = field(default_factory=dict)  # the paper's table, as the study's file has it
