"""What `cloze compare` is given, whichever it is: one study, several of them, plain runs, or models that were taken through GLUE."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cloze.errors import Refusal, did_you_mean
from cloze.report import comparison as comparisons
from cloze.report.collect import Run
from cloze.report.comparison import Absent, Arm, Comparison, Metric

SUITE = "glue.json"  # what data=glue/all leaves in its folder
MEAN = ("glue", "mean")  # stands for a task and its metric


def compare(folders: Sequence[Path], metrics: Sequence[str] | None = None, baseline: str | None = None) -> Comparison:
    """The comparison of some folders. Raises Refusal for folders without runs, a metric that no run has, an arm that is not there."""
    from cloze.report.studies import is_study

    for folder in folders:
        if not folder.is_dir():
            raise Refusal(f"{folder} is not a folder")
    if all((folder / SUITE).is_file() for folder in folders):
        return _of_suites(folders, metrics, baseline)
    if len(folders) > 1 and any(map(is_study, folders)):
        found = _of_studies(folders, metrics, baseline)
    else:
        found = comparisons.compare(*folders, metrics=metrics, baseline=baseline)
    return found if found.metrics else replace(found, remarks=[*found.remarks, _nothing_common(found)])


def _nothing_common(comparison: Comparison) -> str:
    counts = Counter(key for arm in comparison.arms for run in arm.runs for key in run.figures)
    there = [key for key, _ in counts.most_common() if not key.startswith("train/")][:8]
    if not there:
        return "no run that is done has a figure yet"
    return f"no figure with a good side is in all arms; --metric KEY compares by one: {', '.join(there)}"


def _of_studies(folders: Sequence[Path], metrics: Sequence[str] | None, baseline: str | None) -> Comparison:
    """The arms of all of them, each with its study's name before its own. They are compared by the metrics of the first
    study that names any, else by what all arms have."""
    from cloze.report import metrics as measures
    from cloze.report.groups import below, between, differing_settings, of_study, settings_of
    from cloze.report.studies import is_study, read_study

    arms: list[Arm] = []
    remarks: list[str] = []
    wanted: Sequence[Metric] = ()
    told: dict[str, Metric] = {}
    first = None
    for folder in folders:
        if is_study(folder):
            study = read_study(folder)
            found, said = of_study(study)
            wanted = wanted or study.metrics
            told = {metric.key: metric for metric in study.metrics} | told
            name = study.name
            first = first or (f"{name}: {study.baseline}" if study.baseline else None)
        else:
            found, said = below(folder)
            name = folder.name
        arms += [Arm(f"{name}: {arm.name}", arm.runs, arm.differs, arm.absent) for arm in found]
        remarks += [f"{name}: {each}" for each in said]
    _refuse_alike([arm.name for arm in arms])
    differing = differing_settings([run for arm in arms for run in arm.runs])
    arms = [
        Arm(arm.name, arm.runs, settings_of(arm.runs[0], differing) if arm.runs else {}, arm.absent) for arm in arms
    ]
    title = ", ".join(folder.name for folder in folders)
    wanted = _chosen(arms, metrics, told.values()) or wanted
    if not wanted:
        wanted, left_out = measures.usual(arms)
        remarks += left_out
    remarks += between(arms)
    return _judged(arms, wanted, baseline or first, remarks, title)


def _refuse_alike(names: Sequence[str]) -> None:
    if alike := [name for name, n in Counter(names).items() if n > 1]:
        raise Refusal(f"{alike[0]} is there twice: folders of one name with arms of one name cannot be told apart")


def _chosen(arms: Sequence[Arm], metrics: Sequence[str] | None, told: Iterable[Metric] = ()) -> list[Metric]:
    from cloze.report import metrics as measures

    if metrics is None:
        return []
    return measures.chosen(metrics, dict.fromkeys(key for arm in arms for run in arm.runs for key in run.figures), told)


def _judged(
    arms: Sequence[Arm],
    metrics: Sequence[Metric],
    baseline: str | None,
    remarks: Sequence[str],
    title: str,
    **more: Any,
) -> Comparison:
    from cloze.report.judge import cells
    from cloze.report.judge import remarks as further

    names = [arm.name for arm in arms]
    against = names[0] if baseline is None and names else baseline
    if against is not None and against not in names:
        raise Refusal(f"baseline={against} is no arm{did_you_mean(against, names)}")
    table = {metric.key: cells(metric, arms, against) for metric in metrics}
    return Comparison(title, arms, metrics, against, table, [*remarks, *further(arms, table, against)], **more)


# --- GLUE ---------------------------------------------------------------------------------------------------------------------


def _of_suites(folders: Sequence[Path], metrics: Sequence[str] | None, baseline: str | None) -> Comparison:
    """A model is an arm and a task's score a metric, in per cent of the development sets, with the published rows."""
    from cloze.suites.glue_table import COLUMNS, Report

    columns = {**COLUMNS, MEAN: ("mean", "")}
    arms = [_suite(folder) for folder in folders]
    names = Counter(arm.name for arm in arms)
    arms = [
        arm if names[arm.name] == 1 else Arm(folder.name, arm.runs, arm.differs, arm.absent)
        for folder, arm in zip(folders, arms, strict=True)
    ]
    _refuse_alike([arm.name for arm in arms])
    there = {key for arm in arms for run in arm.runs for key in run.figures}
    usual = [
        Metric(key, f"{title} {measure}".strip(), True, "%")
        for (task, metric), (title, measure) in columns.items()
        if (key := f"score/{task}/{metric}") in there
    ]
    table = Report("", {}, ())
    head = [" ".join(filter(None, lines)) for lines in table.head()]
    rows = {row[0]: row[1:] for row in table.rows()[1:]}
    remarks = ["figures are percentages of the development sets, the last step of each run"]
    if f"score/{'/'.join(MEAN)}" in there:
        remarks.append("mean: the average of BERT's paper, without WNLI, of the seeds that have all nine figures")
    published = {"columns": head[1:], "rows": rows, "note": " ".join(table.notes()[1:])}
    return _judged(arms, _chosen(arms, metrics) or usual, baseline, remarks, "GLUE", published=published)


def _suite(folder: Path) -> Arm:
    """Of each seed one run that stands for its tasks' runs."""
    try:
        facts = json.loads((folder / SUITE).read_text(encoding="utf-8"))
        entries = [(str(each["task"]), int(each["seed"]), each) for each in facts["runs"]]
        name, seeds = str(facts["name"]), [int(seed) for seed in facts.get("seeds") or []]
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise Refusal(f"{folder / SUITE} is not what data=glue/all writes: {type(fault).__name__}: {fault}") from None
    scores: dict[int, dict[str, Mapping[str, float]]] = {}
    begun = {(task, seed) for task, seed, _ in entries}
    absent = [
        Absent(seed, "missing", "it has not begun", task)
        for task in dict.fromkeys(task for task, _, _ in entries)
        for seed in seeds
        if (task, seed) not in begun
    ]
    sources: dict[int, Path] = {}
    for task, seed, each in entries:
        if each.get("status") == "failed":
            absent.append(Absent(seed, "failed", str(each.get("reason") or ""), task))
            continue
        run = folder / Path(str(each["folder"])).name
        scores.setdefault(seed, {}).update(_scores(run, task))
        sources.setdefault(seed, run)
    return Arm(name, [_of_seed(folder, name, seed, found, sources[seed]) for seed, found in scores.items()], {}, absent)


def _scores(folder: Path, task: str) -> Iterator[tuple[str, Mapping[str, float]]]:
    from cloze.folder import RunFolder

    found = RunFolder(folder).facts().get("scores") or {}
    for split, name in (("validation", task), ("validation_mismatched", f"{task}_mismatched")):
        if split in found:
            yield name, {metric: 100.0 * value for metric, value in found[split].items()}


def _of_seed(folder: Path, name: str, seed: int, scores: Mapping[str, Any], source: Path) -> Run:
    from cloze.folder import RunFolder
    from cloze.suites.glue_table import AVERAGES, Report

    average = Report(name, {seed: scores}).average(AVERAGES["BERT's"])
    if average is not None and average.whole:
        scores = {**scores, MEAN[0]: {MEAN[1]: average.value.mean}}
    provenance = RunFolder(source).facts().get("provenance") or {}
    facts = {"name": name, "status": "done", "identity": {"seed": seed}, "scores": scores, "provenance": provenance}
    return Run(folder, facts)
