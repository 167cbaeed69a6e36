"""Runs side by side: arms (runs that differ only in their seed), their figures over seeds, their differences to a baseline, in words.

Every table, page and file that shows a comparison shows the numbers of one `Comparison`; none computes its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloze.errors import Refusal, did_you_mean
from cloze.report import LEVEL
from cloze.report.collect import Run


@dataclass(frozen=True)
class Metric:
    """A figure that arms are judged by: its key in `Run.figures` and how it reads."""

    key: str
    title: str
    higher_is_better: bool | None  # None: neither side is the good one
    unit: str = ""  # "nats", "%", …


@dataclass(frozen=True)
class Absent:
    """A run that should be there and is not, or did not end: named, never dropped."""

    seed: int | None
    status: str  # "missing", "failed", "running", "stopped", "preempted", "no figure"
    reason: str = ""
    evaluation: str | None = None  # of an evaluation after training, its name in the study


@dataclass(frozen=True)
class Arm:
    """Runs of one configuration, one a seed, all done. `differs` are the settings that tell it from the other arms."""

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
    """An arm less the baseline: paired over the seeds that both have or, where the seeds are others, unpaired over all of them."""

    n: int  # seeds; of unpaired ones, of the arm that has fewer
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
    deviation: float | None = None  # of the paired differences; of unpaired ones, pooled
    paired: bool = True
    seeds: Sequence[int] = ()  # that were paired
    n_arm: int = 0
    n_baseline: int = 0
    unjudged: str = ""  # why there is no p: one seed, the same in every seed

    @property
    def half(self) -> float | None:
        """Half of the interval: what stands after ± beside a difference."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    @property
    def claimed(self) -> bool:
        """Whether the verdict says that there is a difference."""
        return self.p_holm is not None and self.p_holm < LEVEL


@dataclass(frozen=True)
class Cell:
    """A metric of an arm: its summary, its difference to the baseline (None for the baseline itself) and the verdict in words."""

    metric: Metric
    arm: str
    summary: Summary | None  # None where no run of the arm has the figure
    difference: Difference | None
    verdict: str
    absent: Sequence[Absent] = ()  # runs that are done and have not this figure


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
    paper: Mapping[str, Any] = field(default_factory=dict)  # whose question it is: title, url


def compare(
    *folders: Path, metrics: Sequence[str | Metric] | None = None, baseline: str | None = None, title: str | None = None
) -> Comparison:
    """Runs below `folders` side by side: one study's folder, or folders of plain runs, which are grouped by all that decides them but the
    seed.

    `metrics`: keys of `Run.figures`; None: the study's, or else those that all arms have. `baseline`: an arm's name; None: the study's,
    which may have none, or else the first arm. Raises Refusal for folders without runs, a metric that no run has, an arm that is not there.
    """
    from cloze.report import metrics as measures
    from cloze.report.groups import below, between, of_study
    from cloze.report.judge import cells, remarks
    from cloze.report.studies import is_study, read_study

    if len(folders) == 1 and is_study(folders[0]):
        study = read_study(folders[0])
        arms, said = of_study(study)
        said = [*study.remarks, *said]
        wanted: Sequence[Metric] = study.metrics
        told = study.metrics
        baseline = baseline if baseline is not None else study.baseline
        title, question, published, paper = title or study.name, study.question, study.published, study.paper
    else:
        arms, said = below(*folders)
        if not arms:
            raise Refusal(f"{' '.join(map(str, folders))}: no run (no run.json below that can be read)")
        wanted, told, question, published, paper = (), (), "", {}, {}
        title = title or ", ".join(folder.name or str(folder) for folder in folders)
        baseline = baseline if baseline is not None else arms[0].name
    names = [arm.name for arm in arms]
    if baseline is not None and baseline not in names:
        raise Refusal(f"baseline={baseline} is no arm{did_you_mean(baseline, names)}")
    every = [run for arm in arms for run in arm.runs]
    if metrics is not None:
        known = dict.fromkeys(key for run in every for key in run.figures)
        keys = [each for each in metrics if isinstance(each, str)]
        by_key = dict(zip(keys, measures.chosen(keys, known, told), strict=True))
        wanted = [by_key[each] if isinstance(each, str) else each for each in metrics]
    elif not wanted:
        wanted, left_out = measures.usual(arms)
        said += left_out
    said += between(arms)
    table = {metric.key: cells(metric, arms, baseline) for metric in wanted}
    said += remarks(arms, table, baseline)
    return Comparison(title, arms, wanted, baseline, table, said, question, published, paper)
