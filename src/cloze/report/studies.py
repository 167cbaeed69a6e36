"""A study's folder, read and never written: study.json and the runs below it (docs/sweeps.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloze.errors import Refusal
from cloze.report.collect import Run
from cloze.report.comparison import Absent, Metric

FILE = "study.json"


@dataclass(frozen=True)
class Job:
    """One run of a study as study.json has it; `evaluation` is the name of one after training, None of the training itself."""

    name: str
    arm: str
    seed: int
    evaluation: str | None
    folder: Path
    status: str  # waiting, running, done, failed, skipped
    reason: str = ""
    facts: Mapping[str, Any] = field(
        default_factory=dict, repr=False
    )  # the whole entry: exit_code, signal, attempts, …


@dataclass(frozen=True)
class Study:
    """A study as it stood when it was read. `facts` is study.json."""

    path: Path
    name: str
    question: str
    arms: Mapping[str, Sequence[str]]  # the words that make each
    seeds: Sequence[int]
    baseline: str | None
    metrics: Sequence[Metric]  # the first is the one to judge by
    budget: Mapping[str, Any]
    evaluations: Sequence[str]  # names of what comes after training
    jobs: Sequence[Job]
    paper: Mapping[str, Any]
    published: Mapping[str, Any]
    remarks: Sequence[str]  # that the study was given on its way
    facts: Mapping[str, Any] = field(repr=False)


def is_study(folder: Path) -> bool:
    """Whether a folder is a study's."""
    return (folder / FILE).is_file()


def read_study(folder: Path) -> Study:
    """The study in a folder. Raises Refusal where there is none, or its file is not one."""
    try:
        facts: Any = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refusal(f"{folder} holds no study (no {FILE})") from None
    except (OSError, ValueError) as fault:
        raise Refusal(f"{folder / FILE} cannot be read: {fault}") from None
    try:
        return Study(
            path=folder,
            name=str(facts["name"]),
            question=str(facts.get("question") or ""),
            arms={
                **{str(name): [str(word) for word in words] for name, words in facts["arms"].items()},
                **{str(job["arm"]): () for job in facts.get("jobs") or [] if str(job["arm"]) not in facts["arms"]},
            },
            seeds=[int(seed) for seed in facts.get("seeds") or []],
            baseline=facts.get("baseline"),
            metrics=[
                Metric(each["key"], each.get("title") or each["key"], each["higher_is_better"], each.get("unit") or "")
                for each in facts.get("metrics") or []
            ],
            budget=facts.get("budget") or {},
            evaluations=list(facts.get("after") or {}),
            jobs=[_job(folder, each) for each in facts.get("jobs") or []],
            paper=facts.get("paper") or {},
            published=facts.get("published") or {},
            remarks=[str(each) for each in facts.get("remarks") or []],
            facts=facts,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as fault:
        raise Refusal(f"{folder / FILE} is not a study's file: {type(fault).__name__}: {fault}") from None


def trained(study: Study) -> tuple[dict[str, list[Run]], dict[str, list[Absent]]]:
    """The study's runs that are done, by arm, with their evaluations; and what should be there and is not, by arm."""
    runs: dict[str, list[Run]] = {arm: [] for arm in study.arms}
    absent: dict[str, list[Absent]] = {arm: [] for arm in study.arms}
    jobs = {(job.arm, job.seed, job.evaluation): job for job in study.jobs}
    seeds = list(dict.fromkeys([*study.seeds, *(job.seed for job in study.jobs)]))
    for arm in study.arms:
        for seed in seeds:
            job = jobs.get((arm, seed, None))
            if job is None and seed not in study.seeds:
                continue  # of another arm alone
            found = _found(job, seed, None)
            if isinstance(found, Absent):
                absent[arm].append(found)
                continue
            evaluations = {}
            for name in study.evaluations:
                after = _found(jobs.get((arm, seed, name)), seed, name)
                if isinstance(after, Absent):
                    absent[arm].append(after)
                else:
                    evaluations[name] = after
            runs[arm].append(Run(found.folder, found.facts, evaluations))
    return runs, absent


def unbegun(root: Path) -> list[str]:
    """Of the studies below a folder, whose runs are looked for there, a sentence for every job that has left none to be found."""
    from cloze.folder import RunFolder

    said = []
    for file in sorted(root.rglob(FILE)):
        try:
            study = read_study(file.parent)
        except Refusal as fault:  # the runs can be compared all the same
            said.append(str(fault))
            continue
        for job in study.jobs:
            if not RunFolder(job.folder).facts():
                what = "" if job.evaluation is None else f", {job.evaluation}"
                why = f" ({job.reason})" if job.reason else ""
                said.append(f"{study.name}: {job.arm}{what}, seed {job.seed}: {job.status}{why}")
    return said


def _job(folder: Path, entry: Mapping[str, Any]) -> Job:
    its = folder / str(entry["folder"])
    if not its.resolve().is_relative_to(
        folder.resolve()
    ):  # or a file that someone sent would show others of this machine
        raise ValueError(f"the folder of {entry['name']} is not below the study's: {entry['folder']}")
    return Job(
        name=str(entry["name"]),
        arm=str(entry["arm"]),
        seed=int(entry["seed"]),
        evaluation=entry.get("evaluation"),
        folder=its,
        status=str(entry.get("status") or "waiting"),
        reason=str(entry.get("reason") or ""),
        facts=entry,
    )


def _found(job: Job | None, seed: int, evaluation: str | None) -> Run | Absent:
    """A job's run, where it is done: by its own record, for the study's may be that of a supervisor that was killed."""
    from cloze.folder import RunFolder

    if job is None:
        return Absent(seed, "missing", "the study has no such job", evaluation)
    facts = RunFolder(job.folder).facts()
    run = Run(job.folder, facts)
    if facts and run.status == "done":
        return run
    if job.status in ("failed", "skipped") or not facts:
        status = "failed" if job.status == "failed" else "missing"
        waiting = "it has not begun" if job.status == "waiting" else "its folder has no run" if not facts else ""
        return Absent(seed, status, job.reason or run.reason or waiting, evaluation)
    return Absent(seed, run.status, run.reason, evaluation)
