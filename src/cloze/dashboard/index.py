"""All runs below a folder, kept in memory and up to date: a look costs one `stat` a file, and only what has changed is read.

The first look reads every run.json (500 in well under a second). The settings (config.yaml) and the points of runs that have not ended
take longer, so a look spends at most so many seconds on them; the next one goes on.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cloze.dashboard.series import Series, Stamp, stamp
from cloze.errors import Refusal
from cloze.folder import RunFolder
from cloze.report import studies as report_studies
from cloze.report.collect import Run, is_number
from cloze.report.studies import Job, Study

INSIDE_RUNS = {"checkpoints", "model", "wandb", "tensorboard"}  # folders of a run: no runs lie below them
ENDED = {"done", "failed", "preempted"}
UNREADABLE = "unreadable"  # run.json is there and no JSON object


@dataclass(frozen=True)
class Place:
    """A run's place in a study. `arm` says also what was evaluated, where the run is an evaluation."""

    study: str
    arm: str
    seed: int | None


@dataclass
class Entry:
    """A run as the dashboard knows it. `id` is its folder below the root; `version` rises whenever something of it changes.

    `settings` are all of them, flat; those of run.json until config.yaml is read (`configured`). `complete`: so have been its points,
    where run.json does not have its figures.
    """

    id: str
    run: Run
    series: Series
    status: str = ""
    reason: str = ""
    version: int = 0
    place: Place | None = None  # in a study
    settings: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    configured: bool = False
    complete: bool = False
    log: str = ""  # of a job without a folder: what study.json has of its log
    stamps: Mapping[str, Stamp | None] = field(default_factory=dict)

    def fact(self, key: str) -> Any:
        """What run.json says."""
        return self.run.facts.get(key)

    def count(self, key: str) -> float | None:
        """`step`, `tokens` or `seconds` so far."""
        said = self.fact("steps" if key == "step" else key)
        if isinstance(said, int | float):
            return float(said)
        return self.series.latest(key)

    @property
    def began(self) -> str:
        """UTC, as run.json has it; empty where it does not say."""
        return str(self.fact("began") or "")

    @property
    def seed(self) -> int | None:
        """The seed that decided it; the study's where there is no run yet."""
        seed = self.settings.get("seed", self.place.seed if self.place else None)
        return seed if isinstance(seed, int) else None

    def describe(self) -> None:
        """Settings and figures, put together from what was read."""
        config = self.run.settings if self.configured else {}
        self.settings = {**dict(_pairs(self.fact("identity"))), **config}
        if self.needs_points:
            self.figures = self.series.last
        else:
            self.figures = {key: value for key, value in _pairs(self.fact("metrics")) if is_number(value)}
        scores = {
            f"score/{split}/{key}": value
            for split, found in _pairs(self.fact("scores"))
            for key, value in _pairs(found)
            if is_number(value)
        }
        if scores:
            self.figures = {**self.figures, **scores}

    @property
    def needs_points(self) -> bool:
        """Whether its figures are those of its points: run.json has them when it is done."""
        return not (self.fact("status") == "done" and self.fact("metrics"))


class Index:
    """The runs below `root`. All methods may be called from several threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.born = (
            uuid.uuid4().hex
        )  # a page that outlives the server must not take the new one's versions for the old one's
        self.version = 0
        self.studies: dict[Path, Study] = {}
        self._study_stamps: dict[Path, Stamp | None] = {}
        self._entries: dict[str, Entry] = {}
        self._lock = threading.RLock()
        self._looked: float | None = None

    def refresh(self, seconds: float | None = None, every: float = 0.0) -> int:
        """Looks at the disk, unless somebody has within the last `every` seconds; returns the version.

        `seconds` limits what is spent on settings and points (None: all are read). Never raises for what lies in the folders.
        """
        with self._lock:
            if self._looked is not None and time.monotonic() - self._looked < every:
                return self.version
            self._look()
            end = None if seconds is None else time.monotonic() + seconds
            for entry in self._entries.values():
                if not entry.complete:
                    self._complete(entry)
                    if end is not None and time.monotonic() > end:
                        break
            self._looked = time.monotonic()
            return self.version

    def find(self, name: str | None) -> Entry | None:
        """The run of an id, its points read; None where it is not (or no longer) there."""
        found = self.get([name]) if name else []
        return found[0] if found else None

    def get(self, names: Sequence[str]) -> list[Entry]:
        """The runs of these ids that are there, their points read."""
        with self._lock:
            found = [self._entries[name] for name in names if name in self._entries]
            for entry in found:
                known = entry.series.count
                if entry.series.refresh() and known:  # points that were only not looked at yet change nothing
                    entry.describe()
                    self._touch(entry)
            return found

    def all(self) -> list[Entry]:
        """Every run, the newest first."""
        with self._lock:
            return sorted(self._entries.values(), key=lambda entry: (entry.began, entry.id), reverse=True)

    def since(self, version: int) -> list[Entry]:
        """The runs that are new or other than at a version."""
        with self._lock:
            return [entry for entry in self._entries.values() if entry.version > version]

    @property
    def behind(self) -> int:
        """How many runs have settings or points that were not read yet."""
        with self._lock:
            return sum(not entry.complete for entry in self._entries.values())

    # --- looking -----------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        runs, files = found_below(self.root)
        self._read_studies(files)
        placed = {job.folder: (study, job) for study in self.studies.values() for job in study.jobs}
        waiting = {folder: found for folder, found in placed.items() if folder not in set(runs)}
        there = {self._id(folder) for folder in (*runs, *waiting)}
        for name in [name for name in self._entries if name not in there]:
            del self._entries[name]
            self.version += 1
        for folder in runs:
            self._look_at(folder, placed.get(folder))
        for folder, (study, job) in waiting.items():
            self._await(folder, study, job)

    def _read_studies(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            now = stamp(folder / report_studies.FILE)
            if now != self._study_stamps.get(folder):
                with contextlib.suppress(Refusal):  # half-written, or none of ours: what was known stands
                    study = report_studies.read_study(folder)
                    self.studies[folder] = replace(study, name=self._called(folder, study.name))
                    self._study_stamps[folder] = now
        for folder in [folder for folder in self.studies if folder not in folders]:
            del self.studies[folder], self._study_stamps[folder]

    def _called(self, folder: Path, name: str) -> str:
        """A study by its folder: several may have one name, all of `-m` have, and their arms are not to be taken for each other's."""
        return name if folder == self.root else self._id(folder).removeprefix("studies/")

    def _id(self, folder: Path) -> str:
        return folder.relative_to(self.root).as_posix() if folder.is_relative_to(self.root) else folder.as_posix()

    def _look_at(self, folder: Path, placed: tuple[Study, Job] | None) -> None:
        name = self._id(folder)
        entry = self._entries.get(name)
        if entry is None or not entry.stamps:
            entry = self._add(Entry(name, Run(folder, {}), Series(folder / "metrics.jsonl")))
        now = {file: stamp(folder / file) for file in ("run.json", "metrics.jsonl", "config.yaml")}
        changed = {file for file in now if not entry.stamps or now[file] != entry.stamps[file]}
        place = _place(*placed) if placed else None
        if not changed and entry.status in ENDED and place == entry.place:
            return
        facts = RunFolder(folder).facts() if "run.json" in changed else {}
        run = Run(folder, facts or entry.run.facts)  # what was known stands while the file cannot be read
        status = _status(run, placed[1] if placed else None)
        if not changed and status == entry.status and place == entry.place:
            return
        if changed - {"metrics.jsonl"} or status != entry.status:
            entry.run, entry.configured, entry.complete = run, False, False
        if entry.needs_points:
            entry.complete = False
        entry.stamps, entry.status, entry.place, entry.log = now, status, place, ""
        entry.reason = run.reason or (placed[1].reason if placed else "")
        if status == UNREADABLE:
            entry.reason = "run.json is there and cannot be read"
        entry.describe()
        self._touch(entry)

    def _await(self, folder: Path, study: Study, job: Job) -> None:
        """A job of a study that has no run: it waits, or ended before it had one."""
        name = self._id(folder)
        entry = self._entries.get(name)
        if entry is None or entry.stamps:
            nothing = Run(folder, {"name": job.name})
            entry = self._add(Entry(name, nothing, Series(folder / "metrics.jsonl"), complete=True))
        tail = job.facts.get("log_tail") or ""
        log = "\n".join(map(str, tail)) if isinstance(tail, list) else str(tail)
        said = (job.status, job.reason, _place(study, job), log)
        if said != (entry.status, entry.reason, entry.place, entry.log):
            entry.status, entry.reason, entry.place, entry.log = said
            self._touch(entry)

    def _complete(self, entry: Entry) -> None:
        if entry.needs_points:
            entry.series.refresh()
        entry.configured = entry.complete = True
        entry.describe()
        self._touch(entry)

    def _add(self, entry: Entry) -> Entry:
        self._entries[entry.id] = entry
        return entry

    def _touch(self, entry: Entry) -> None:
        self.version += 1
        entry.version = self.version


def found_below(root: Path) -> tuple[list[Path], list[Path]]:
    """The folders of runs and those of studies, at or below a folder; links to folders are not followed."""
    runs, studies = [], []
    for folder, names in _folders(root):
        if "run.json" in names:
            runs.append(folder)
        if report_studies.FILE in names:
            studies.append(folder)
    return runs, studies


def _status(run: Run, job: Job | None) -> str:
    if not run.facts:
        return UNREADABLE
    if job and job.status == "failed" and run.status == "stopped":
        return "failed"  # killed: it could not say so itself, whoever started it saw it end
    return run.status


def _place(study: Study, job: Job) -> Place:
    return Place(study.name, f"{job.arm} · {job.evaluation}" if job.evaluation else job.arm, job.seed)


def _folders(root: Path) -> Iterator[tuple[Path, set[str]]]:
    for path, folders, files in os.walk(root):  # what cannot be read is passed over
        names = set(files)
        is_run = "run.json" in names
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not (is_run and name in INSIDE_RUNS)
        )
        yield Path(path), names


def _pairs(value: Any) -> Sequence[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []
