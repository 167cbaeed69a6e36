"""A study's folder: study.json, the runs, what they said. docs/sweeps.md is the contract."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from cloze.errors import Refusal, RunFailure
from cloze.folder import RunFolder
from cloze.studies.jobs import Job
from cloze.studies.study import Study
from cloze.studies.words import decisive, key_of

FORMAT = 1  # of study.json
FILE = "study.json"
Status = Literal["waiting", "running", "done", "failed", "skipped", "pruned"]  # pruned: a search has stopped it early


@dataclass
class State:
    """What has become of a job."""

    status: Status = "waiting"
    reason: str = ""
    exit_code: int | None = None
    signal: int | None = None
    attempts: int = 0
    began: str | None = None  # UTC, of the last attempt
    ended: str | None = None
    log_tail: str = ""  # the last lines of its console, where it failed


class StudyFolder:
    """A study on disk, held by this process while it is used as a context manager."""

    def __init__(self, study: Study, jobs: Sequence[Job], remarks: Sequence[str] = ()) -> None:
        self.study, self.jobs, self.remarks = study, tuple(jobs), tuple(remarks)
        self.path = study.folder.absolute()
        self.states: dict[str, State] = {job.name: State() for job in jobs}
        self._lock: IO[str] | None = None
        self._kept: list[dict[str, Any]] = []  # entries of study.json: jobs that are done and not asked for this time

    def __enter__(self) -> StudyFolder:
        """Takes the folder. Raises Refusal where it cannot be, where another process has it, and where it holds another study."""
        try:
            if self.path.exists() and not self.path.is_dir():
                raise Refusal(f"output_dir={self.study.folder} is a file; expected a folder")
            if self.path.is_dir() and not (self.path / FILE).exists() and _holds_something(self.path):
                raise Refusal(f"output_dir={self.study.folder} is not empty and holds no study; choose another folder")
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / "logs").mkdir(exist_ok=True)
            lock = (self.path / ".lock").open("a+", encoding="utf-8")
        except OSError as fault:
            raise Refusal(f"output_dir={self.study.folder} cannot be written: {fault.strerror}") from None
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, so it is never stale
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            lock.close()
            raise Refusal(
                f"{self.study.folder} is in use by {holder}; wait for it, or choose another output_dir"
            ) from None
        self._lock = lock
        try:
            self._recall()
            lock.truncate(0)
            os.write(lock.fileno(), f"process {os.getpid()}\n".encode())
        except Refusal:
            self.__exit__()
            raise
        except OSError as fault:
            self.__exit__()
            raise Refusal(f"output_dir={self.study.folder} cannot be written: {fault.strerror}") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def folder(self, job: Job) -> Path:
        """The run folder of a job, as it is said to the job."""
        return self.study.folder / job.folder

    def log(self, job: Job) -> Path:
        """What a job says, all attempts one after the other."""
        return self.path / "logs" / f"{job.name}.txt"

    def count(self, *statuses: Status) -> int:
        """How many jobs stand so."""
        return sum(state.status in statuses for state in self.states.values())

    def write(self) -> None:
        """study.json, replaced as a whole. Raises RunFailure where that cannot be."""
        from cloze.models.storage import write_json

        try:
            write_json(self.path / FILE, self.content())
        except OSError as fault:
            raise RunFailure(
                f"{self.study.folder / FILE} cannot be written ({fault.strerror}): the study is stopped; "
                "the same sentence goes on"
            ) from None

    def content(self) -> dict[str, Any]:
        """What study.json says."""
        study = self.study
        return {
            "format": FORMAT, "name": study.name, "question": study.question, "paper": dict(study.paper),
            "published": dict(study.published), "file": study.file, "words": list(study.words),
            "arms": {arm: list(words) for arm, words in study.arms.items()}, "seeds": list(study.seeds),
            "baseline": study.baseline, "metrics": [asdict(metric) for metric in study.metrics],
            "budget": None if study.budget is None else asdict(study.budget),
            "after": {name: list(words) for name, words in study.after.items()}, "minutes": study.minutes,
            "remarks": list(self.remarks),
            "jobs": [
                {"name": job.name, "arm": job.arm, "seed": job.seed, "evaluation": job.evaluation,
                 "folder": job.folder.as_posix(), "log": f"logs/{job.name}.txt", "words": list(job.words),
                 **asdict(self.states[job.name])}
                for job in self.jobs
            ] + self._kept,
        }  # fmt: skip

    def _recall(self) -> None:
        """Goes on with the study that lies here. Raises Refusal, naming what differs, where it is another one."""
        if not (self.path / FILE).exists():
            return
        try:
            there = json.loads((self.path / FILE).read_text(encoding="utf-8"))
            self._refuse_another(there)
            before = {(each["arm"], each["seed"], each["evaluation"]): each for each in there["jobs"]}
        except (OSError, ValueError, KeyError, TypeError):
            raise Refusal(f"{self.path / FILE} cannot be read: it is no record of a study") from None
        for job in self.jobs:
            known = before.pop((job.arm, job.seed, job.evaluation), None)
            with contextlib.suppress(KeyError):
                if known is None or known["name"] != job.name or _asked(known["words"]) != _asked(job.words):
                    continue
                self.states[job.name].attempts = int(known["attempts"])
                # both: a run that was killed after its training may still owe its scores
                if known["status"] == "done" and RunFolder(self.folder(job)).facts().get("status") == "done":
                    self.states[job.name] = State(**{key: known[key] for key in asdict(State())})
        self._kept = [each for each in before.values() if each.get("status") == "done"]

    def _refuse_another(self, there: dict[str, Any]) -> None:
        now = self.content()
        for key in ("words", "arms", "after", "budget"):
            then, here = _comparable(there[key]), _comparable(now[key])
            if key == "after":  # one that is left out, or comes anew, changes nothing of the others
                both = then.keys() & here.keys()
                then, here = ({name: each[name] for name in both} for each in (then, here))
            if then != here:
                raise Refusal(
                    f"{self.study.folder} holds a study of other words ({_difference(key, then, here)}): "
                    "say what was said, or another output_dir=FOLDER"
                )
        if lost := [seed for seed in there["seeds"] if seed not in now["seeds"]]:
            raise Refusal(
                f"{self.study.folder} holds this study with seed {lost[0]} too: say sweeps.seeds="
                f"[{','.join(map(str, sorted({*there['seeds'], *now['seeds']})))}], or another output_dir=FOLDER"
            )


def _asked(words: Sequence[str]) -> list[str]:
    """What a job is asked, wherever the run lies that it starts from."""
    return [word for word in decisive(words) if key_of(word) != "init"]


def _comparable(value: Any) -> Any:
    if isinstance(value, dict) and all(isinstance(each, list) for each in value.values()):
        return {name: decisive(words) for name, words in value.items()}
    return decisive(value) if isinstance(value, list) else value


def _difference(key: str, then: Any, here: Any) -> str:
    """The first things that differ, as `what there, what now`."""
    if isinstance(then, dict) and isinstance(here, dict):
        name = next(each for each in {**then, **here} if then.get(each) != here.get(each))
        if name not in then or name not in here:
            return f"{key}: {name} is only {'there' if name in then else 'here'}"
        return f"{name}, {_difference(key, then[name], here[name])}"
    if isinstance(then, list) and isinstance(here, list):
        sides = [" ".join(word for word in one if word not in other) for one, other in ((then, here), (here, then))]
        return f"{key}: {sides[0] or 'nothing'} there, {sides[1] or 'nothing'} now"
    return f"{key}: {then} there, {here} now"


def _holds_something(path: Path) -> bool:
    return any(each.name not in (".lock", "logs") for each in path.iterdir())
