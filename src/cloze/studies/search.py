"""A search: a study whose arms are not written down but proposed, one after the other, by what the ones before came to.

    python train.py sweeps=search_learning_rate sweeps.trials=30

Each trial is a job as any other (cloze.studies.supervisor). Optuna proposes and says which runs are to be stopped early; its memory is
search.db in the study's folder, so the same sentence goes on where it stopped: what ran then runs on from its last checkpoint.
docs/search.md says what a file holds.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloze.errors import Preempted, Refusal, did_you_mean
from cloze.folder import RunFolder
from cloze.studies import space
from cloze.studies.jobs import Job, check_all, jobs_of
from cloze.studies.record import FILE, State, StudyFolder
from cloze.studies.study import Study
from cloze.studies.supervisor import Supervisor, _Running
from cloze.studies.words import decisive, key_of, merged, taken_by

if TYPE_CHECKING:
    from rich.console import Console

    from cloze.report.collect import Run
    from cloze.studies.ending import Ending
    from cloze.studies.trials import Trials, Tried

MEMORY = "search.db"


def run(study: Study) -> int:
    """Tries what the study's space has, as often as it says; 0 where a trial is done in the end, 1 where none is.

    Raises Refusal where the file or a value of the space cannot be, before any is started; Preempted where a signal stopped it.
    """
    from rich.console import Console

    from cloze.studies.live import display, unfailing
    from cloze.studies.run import shares

    search = understood(study)
    example, accelerated, threads = _checked(study, search)
    console = Console()
    with SearchFolder(study, search, example) as folder:
        parallel, threads = shares(study, accelerated, threads, [example.devices] * search.trials)
        there = folder.count("done", "pruned", "failed")
        with unfailing(console):
            console.print(
                f"{study.name}: {len(search.space)} settings, {search.trials} trials"
                + (f", {there} of them over" if there else "")
                + f"; {parallel} at a time, in {study.folder}",
                highlight=False, markup=False, soft_wrap=True,
            )  # fmt: skip
        with display(folder, parallel, console) as live:
            stopped = SearchSupervisor(folder, live, parallel, threads, study.retries).run()
        show(folder, console)
        if stopped is not None:
            over = folder.count("done", "pruned", "failed")
            raise Preempted(
                stopped, f"stopped, {over} of {search.trials} trials over; the same sentence again goes on from there"
            )
        return 0 if folder.trials.best() else 1


def understood(study: Study) -> space.Search:
    """The study's search. Raises Refusal where the rest of the study does not go with it."""
    search = space.read(study.search, study.file or study.name)
    where = study.file or study.name
    if study.trials is not None:
        if study.trials < 1:
            raise Refusal(f"sweeps.trials={study.trials} must be at least 1")
        search = replace(search, trials=study.trials)
    if not study.metrics:
        raise Refusal(f"{where}: a search needs metrics; the first is what it goes by")
    if study.after or ":" in study.metrics[0].key:
        raise Refusal(f"{where}: a search goes by a figure of the run itself; after has no place in it")
    if len(study.seeds) > 1:
        raise Refusal(
            f"{where}: every trial has one seed, not {len(study.seeds)}; a study of the best ones tells chance from gain"
        )
    fixed = [*study.words, *([] if study.budget is None else [study.budget.word])]
    if both := [word for word in fixed if taken_by(word, list(search.space))]:
        raise Refusal(
            f"{both[0]}: the search tries other values of that; take it out of search.space, or leave the word out"
        )
    return search


def _checked(study: Study, search: space.Search) -> tuple[Job, bool, int | None]:
    """Holds the ends of every range and every choice against the signatures, each beside the first value of all others.

    Returns a job of that kind, whether it asks for more than the CPU, and the threads that it asks for.
    """
    ends = {key: space.ends(each) for key, each in search.space.items()}
    first = {key: values[0] for key, values in ends.items()}
    arms = {"the first of every range": tuple(search.words(first))}
    for key, values in ends.items():
        for value in values[1:]:
            arms[f"{key}={space.written(value)}"] = tuple(search.words({**first, key: value}))
    probe = replace(study, arms=arms, baseline=None, after={})
    checking = check_all(probe, jobs_of(probe))
    return checking.jobs[0], checking.accelerated, checking.threads


class SearchFolder(StudyFolder):
    """A study's folder whose jobs are trials: those to come wait without words. `example` is a job like all of them."""

    trials: Trials

    def __init__(self, study: Study, search: space.Search, example: Job) -> None:
        super().__init__(replace(study, arms={}), [])
        self.search, self._example = search, example
        self._before: dict[str, dict[str, Any]] = {}  # what study.json says of each job

    def __enter__(self) -> SearchFolder:
        """Takes the folder, and the trials that there are. Raises Refusal as a study's folder does, and where another search lies there."""
        from cloze.studies.trials import Trials

        super().__enter__()
        try:
            if not (self.path / FILE).exists():  # first: a folder with Optuna's memory alone would be no study's
                self.write()
            file = self.path / MEMORY
            self.trials = Trials(self.search, self.study.metrics[0], file, self._asked())
        except BaseException:
            self.__exit__()
            raise
        self.jobs, self.states = (), {}
        for tried in self.trials.all():
            self.put(tried)
        for number in range(len(self.jobs), self.search.trials):
            name = name_of(number)
            self.jobs += (Job(name, name, self.study.seeds[0], Path("runs") / name, ()),)
            self.states[name] = State()
        return self

    def put(self, tried: Tried) -> Job:
        """The job of a trial, in its place among all."""
        name, study = name_of(tried.number), self.study
        self.study = replace(study, arms={**study.arms, name: tried.words})
        # checking has added the tracker's group, and nothing else that is the same for all
        added = [word for word in self._example.words if key_of(word) == "tracking.group"]
        words = merged(self.study.training_words(name, study.seeds[0]), added)
        job = replace(self._example, name=name, arm=name, folder=Path("runs") / name, words=words)
        self.jobs = (*self.jobs[: tried.number], job, *self.jobs[tried.number + 1 :])
        if name not in self.states:
            known = {key: value for key, value in self._before.get(name, {}).items() if key in State.__annotations__}
            state = State(**known)
            if tried.outcome == "running":
                state = State(attempts=state.attempts)
            else:
                state.status, state.reason = tried.outcome, state.reason or tried.reason
            self.states[name] = state
        return job

    def content(self) -> dict[str, Any]:
        """As of any study, with the search as its file says it."""
        return {**super().content(), "search": {**dict(self.study.search or {}), "trials": self.search.trials}}

    def _asked(self) -> dict[str, Any]:
        """What all trials are asked."""
        words = decisive([*self.study.words, *([] if self.study.budget is None else [self.study.budget.word])])
        precision = [word for word in words if key_of(word) == "hardware.precision"]  # apart: not in older lists
        others = [word for word in words if word not in precision]
        return {"words": others, "hardware.precision": precision, "seed": self.study.seeds[0]}

    def _recall(self) -> None:
        """What is known of the jobs; Optuna's memory says which there are. Raises Refusal where no search lies here."""
        if not (self.path / FILE).exists():
            return
        try:
            there = json.loads((self.path / FILE).read_text(encoding="utf-8"))
            self._before = {str(each["name"]): each for each in there["jobs"]}
        except (OSError, ValueError, KeyError, TypeError):
            raise Refusal(f"{self.path / FILE} cannot be read: it is no record of a study") from None
        if "search" not in there:
            raise Refusal(f"{self.study.folder} holds a study that is no search; say another output_dir=FOLDER")


class SearchSupervisor(Supervisor):
    """Brings trials to their ends: asks for the next one, shows each validation to the pruner, tells how it came out."""

    folder: SearchFolder

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._seen: dict[str, int] = {}  # bytes of each run's metrics.jsonl that the pruner knows
        self._stopped: set[str] = set()

    def _next(self) -> Job | None:
        """A trial that was begun, or one that failed and is tried again, before a new one. One at a time, a new one is proposed when those
        before it have ended."""
        job = super()._next()
        if job is None or job.words:
            return job
        if self.parallel == 1 and self.awaited:  # another process still runs one
            return None
        tried = self.folder.trials.next()
        return None if tried is None else self.folder.put(tried)

    def _watch(self, running: _Running) -> None:
        super()._watch(running)
        name, progress = running.job.name, running.progress
        if name in self._stopped or (progress.steps and progress.step >= progress.steps):
            return  # what has trained to its end is not stopped any more
        size = _size(RunFolder(self.folder.folder(running.job)).metrics)
        if size == self._seen.get(name, 0):
            return
        self._seen[name] = size
        points = RunFolder(self.folder.folder(running.job)).points()
        if self.folder.trials.hopeless(self._tried(running.job), points):
            self._stopped.add(name)
            running.process.send_signal(signal.SIGTERM)

    def _decide(self, job: Job, state: State, ending: Ending) -> None:
        trials, metric = self.folder.trials, self.folder.study.metrics[0]
        by_us = ending.exit_code == 128 + signal.SIGTERM or ending.signal == signal.SIGTERM
        if job.name in self._stopped and by_us:
            reason = (
                f"stopped early at {_at(self.folder, job)}: others were better by then ({self.folder.search.pruner})"
            )
            state.status, state.reason, state.log_tail = "pruned", reason, ""
        else:
            super()._decide(job, state, ending)
        if state.status in ("done", "pruned", "failed"):
            from cloze.report import collect

            run = collect.read(self.folder.folder(job)) if state.status == "done" else None
            outcome: Any = state.status
            tried = self._tried(job)
            # what came between the last look and its end
            trials.note(tried, RunFolder(self.folder.folder(job)).points())
            tried = trials.end(tried, outcome, None if run is None else run.figures.get(metric.key), state.reason)
            if tried.outcome != state.status:
                state.status, state.reason = "failed", tried.reason
            if run is not None and all(each.value is None for each in trials.all()):
                self._refuse_a_metric_that_no_run_has(job, run)

    def _refuse_a_metric_that_no_run_has(self, job: Job, run: Run) -> None:
        """Ends the search where its metric is not among the figures of a run that is done: every other would train for nothing, too."""
        key, study = self.folder.study.metrics[0].key, self.folder.study
        scores = {f"score/{split}/{name}" for split, its in (run.facts.get("scores") or {}).items() for name in its}
        # one that is null is a figure, too
        known = {name for each in (run.figures, scores, *run.points) for name in each if "/" in name}
        if key not in known:
            self.of_metrics.add(None)  # the supervisor's note, that other arms may have it, would say the opposite
            self._stop_for(
                Refusal(
                    f"{study.file or study.name}: metrics: {key} is not a figure of {job.name}, which is done{did_you_mean(key, known)}"
                )
            )

    def _tried(self, job: Job) -> Tried:
        return self.folder.trials.all()[number_of(job.name)]


def show(folder: SearchFolder, console: Console) -> None:
    """Prints the trials, the best first, what mattered, and the best one's sentence."""
    from rich.markup import escape
    from rich.table import Table

    from cloze.studies.live import unfailing

    metric, trials = folder.study.metrics[0], folder.trials
    best, tried = trials.best(), [each for each in trials.all() if each.outcome != "running"]
    sign = -1 if metric.higher_is_better else 1
    rank = {"done": 0, "pruned": 1, "failed": 2}
    tried.sort(key=lambda each: (rank[each.outcome], sign * (each.value or 0.0), each.number))
    table = Table(title=escape(folder.study.question or folder.study.name))
    for column in ("trial", *(key_of(key).rpartition(".")[2] for key in folder.search.space), escape(metric.title), ""):
        table.add_column(column, overflow="fold")
    for each in tried:
        values = [word.partition("=")[2] for word in each.words]
        told = {"done": "", "pruned": "stopped early", "failed": f"failed: {each.reason}"}[each.outcome]
        value = "" if each.value is None else f"{each.value:.4f}"
        table.add_row(name_of(each.number), *map(escape, values), value, escape(told))
    with unfailing(console):
        console.print(table)

    def say(line: str) -> None:
        with unfailing(console):
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    if found := trials.importance():
        shares = ", ".join(f"{key} {share:.0%}" for key, share in sorted(found.items(), key=lambda pair: -pair[1]))
        say(f"what the differences in {metric.title} go back to: {shares}")
    if best is not None:
        say(f"best: {name_of(best.number)}, {metric.title} {best.value:.4f}. Its sentence:")
        say(f"    python train.py {command(folder.jobs[best.number].words)}")
    say(f"record: {folder.study.folder / FILE}")


def command(words: Sequence[str]) -> str:
    """The words as a shell takes them."""
    import shlex

    return " ".join(shlex.quote(word) for word in words if key_of(word) != "tracking.group")


def name_of(number: int) -> str:
    """What a trial's job is called."""
    return f"trial-{number:03d}"


def number_of(name: str) -> int:
    """The opposite of `name_of`."""
    return int(name.rpartition("-")[2])


def _at(folder: SearchFolder, job: Job) -> str:
    points: list[Mapping[str, Any]] = list(RunFolder(folder.folder(job)).points())
    return f"step {points[-1]['step']:,}" if points else "its beginning"


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
