"""The cells of a comparison: every arm's figures over seeds, its difference to the baseline, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from cloze.report import LEVEL, statistics, words
from cloze.report.comparison import Absent, Arm, Cell, Difference, Metric, Summary

PAIRED_SHARE = 0.5  # of the smaller arm's seeds that the other must have too, for the arms to count as paired


def cells(metric: Metric, arms: Sequence[Arm], baseline: str | None) -> dict[str, Cell]:
    """A metric of all arms, judged together: Holm's correction is over the arms that can be compared."""
    values = {arm.name: _values(metric, arm) for arm in arms}
    against = values.get(baseline, {}) if baseline is not None else {}
    found = {
        arm.name: difference(values[arm.name], against)
        for arm in arms
        if baseline is not None and arm.name != baseline and values[arm.name] and against
    }
    judged = _corrected(found)
    return {arm.name: _cell(metric, arm, values[arm.name], judged, baseline, bool(against)) for arm in arms}


def difference(arm: Mapping[int, float], baseline: Mapping[int, float]) -> tuple[Difference, statistics.Contrast]:
    """An arm less the baseline, by seeds: paired where they share at least two and half of the smaller one's. Whether it is paired goes by
    the seeds alone, never by the figures."""
    common = sorted(arm.keys() & baseline.keys())
    pairs = len(common) >= 2 and len(common) >= PAIRED_SHARE * min(len(arm), len(baseline))
    if pairs or (len(common) == 1 and min(len(arm), len(baseline)) == 1):
        contrast = statistics.paired([arm[seed] for seed in common], [baseline[seed] for seed in common])
        paired = True
    else:
        contrast = statistics.unpaired([arm[s] for s in sorted(arm)], [baseline[s] for s in sorted(baseline)])
        paired = False
    return (
        Difference(
            n=contrast.n,
            mean=contrast.mean,
            low=contrast.low,
            high=contrast.high,
            bootstrap=contrast.bootstrap,
            p=contrast.p,
            p_holm=None,
            p_permutation=contrast.p_permutation,
            p_reachable=contrast.p_reachable,
            effect=contrast.effect,
            detectable=None,
            deviation=contrast.deviation,
            paired=paired,
            seeds=tuple(common) if paired else (),
            n_arm=len(arm),
            n_baseline=len(baseline),
            unjudged=_unjudged(contrast),
        ),
        contrast,
    )


def remarks(arms: Sequence[Arm], table: Mapping[str, Mapping[str, Cell]], baseline: str | None) -> list[str]:
    """What must be known to read the cells: the runs that are not there, how the seeds pair."""
    said = words.absences(arms)
    for row in table.values():
        for cell in row.values():
            if cell.absent and cell.summary is not None:
                seeds = ", ".join(str(each.seed) for each in cell.absent)
                said.append(
                    f"{cell.arm}, seed{'s' if len(cell.absent) > 1 else ''} {seeds}: no figure of {cell.metric.title}"
                )
    for arm in arms:
        judged = {key: found for key, row in table.items() if arm.name in row and (found := row[arm.name].difference)}
        unpaired = [table[key][arm.name].metric.title for key, found in judged.items() if not found.paired]
        if unpaired:
            where = "" if len(unpaired) == len(judged) else f" on {', '.join(unpaired)}"
            said.append(
                f"{arm.name} and {baseline} have other seeds, so they are compared unpaired{where} (Welch's t-test), "
                "which shows less than pairs would"
            )
        said += _left_over(arm, next((each for each in arms if each.name == baseline), None), judged.values())
    if baseline is None and len(arms) > 1:
        said.append("there is no baseline, so no difference is judged")
    return said


def _left_over(arm: Arm, baseline: Arm | None, judged: Iterable[Difference]) -> list[str]:
    """A sentence where pairs leave seeds out that nothing else speaks of: the difference is not that of the means beside it."""
    paired = next((each for each in judged if each.paired), None)
    if paired is None or baseline is None:
        return []
    have = {each.name: {run.seed for run in each.runs} for each in (arm, baseline)}
    named = {absent.seed for each in (arm, baseline) for absent in each.absent}
    alone = sorted(seed for seed in have[arm.name] ^ have[baseline.name] if seed is not None and seed not in named)
    if not alone:
        return []
    pairs = ", ".join(map(str, paired.seeds))
    which = f"seed{'s' if len(alone) > 1 else ''} {', '.join(map(str, alone))} of only one of them"
    return [
        f"{arm.name} and {baseline.name} are compared by the seeds that both have ({pairs}); {which} count in the means alone"
    ]


def _values(metric: Metric, arm: Arm) -> dict[int, float]:
    return {
        run.seed if run.seed is not None else 0: run.figures[metric.key]
        for run in arm.runs
        if metric.key in run.figures
    }


def _corrected(found: Mapping[str, tuple[Difference, statistics.Contrast]]) -> dict[str, Difference]:
    """With Holm's correction, and the detectable difference at the level that the smallest p of such a family has to reach."""
    tested = {arm: contrast for arm, (_, contrast) in found.items() if contrast.p is not None}
    corrected = dict(zip(tested, statistics.holm([each.p or 0.0 for each in tested.values()]), strict=True))
    judged = {}
    for arm, (each, contrast) in found.items():
        detectable = None
        if contrast.error is not None and contrast.freedom is not None:
            detectable = statistics.detectable(contrast.error, contrast.freedom, LEVEL / len(tested))
        judged[arm] = replace(each, p_holm=corrected.get(arm), detectable=detectable)
    return judged


def _cell(
    metric: Metric,
    arm: Arm,
    values: Mapping[int, float],
    judged: Mapping[str, Difference],
    baseline: str | None,
    comparable: bool,
) -> Cell:
    absent = [
        Absent(run.seed, "no figure", f"{metric.key} is not among its figures")
        for run in arm.runs
        if metric.key not in run.figures
    ]
    if not values:
        return Cell(metric, arm.name, None, None, f"no run of {arm.name} has {metric.title}", absent)
    spread = statistics.spread([values[seed] for seed in sorted(values)])
    summary = Summary(dict(sorted(values.items())), spread.mean, spread.deviation, spread.low, spread.high)
    if baseline is None or arm.name == baseline:
        return Cell(metric, arm.name, summary, None, "", absent)
    if not comparable:
        return Cell(metric, arm.name, summary, None, f"no run of {baseline} has {metric.title}", absent)
    found = judged[arm.name]
    tested = sum(each.p is not None for each in judged.values())
    return Cell(metric, arm.name, summary, found, words.verdict(metric, arm.name, baseline, found, tested), absent)


def _unjudged(contrast: statistics.Contrast) -> str:
    """Why a difference has no test, in words."""
    if contrast.n < 2:
        return "one seed cannot tell a difference from chance"
    if contrast.deviation is not None and not math.isfinite(contrast.deviation):
        return "these numbers are too large to square"
    if contrast.deviation == 0.0:
        alike = (
            "the figure is the same in every seed" if contrast.mean == 0 else "the difference is the same in every seed"
        )
        return f"{alike}, so there is no deviation to judge by"
    return ""
