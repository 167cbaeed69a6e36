"""What the terminal shows of a study while it runs: a live table; where there is no terminal, a line when a job begins and ends."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cloze.studies.jobs import Job
from cloze.studies.progress import Progress, spoken
from cloze.studies.record import State, StudyFolder

EVERY = 60.0  # seconds between two lines of progress
_REFRESH = 0.5  # seconds between two looks at the live table
_COLOURS = {"running": "cyan", "done": "green", "failed": "red", "skipped": "yellow", "pruned": "yellow"}


def display(folder: StudyFolder, parallel: int, console: Console) -> Lines:
    """A live table on a terminal, lines elsewhere."""
    return (LiveTable if console.is_terminal and not console.is_dumb_terminal else Lines)(folder, parallel, console)


@contextlib.contextmanager
def unfailing(console: Console) -> Iterator[None]:
    """What is said within may have nobody left to hear it, where a terminal was closed or a pipe left. The jobs are none of that: the
    console is quiet from there on."""
    try:
        yield
    except (OSError, SystemExit):  # rich leaves where a pipe is closed
        console.quiet = True
        with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:  # no file: no number
            gone = console.file.fileno()
            if os.path.sameopenfile(gone, sys.stderr.fileno()):  # the command's last message would fail
                os.dup2(nowhere.fileno(), sys.stderr.fileno())
            os.dup2(nowhere.fileno(), gone)  # and what is left in a buffer, when the process ends


class Lines:
    """One line a beginning and an end, and one now and then."""

    def __init__(self, folder: StudyFolder, parallel: int, console: Console) -> None:
        self.folder, self.parallel, self.console = folder, parallel, console
        self._last = time.monotonic()
        self._took: dict[str | None, list[float]] = {}  # seconds of the jobs that ended well, by kind

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def began(self, job: Job, attempt: int) -> None:
        """A job has been started."""
        self.say(f"started {job.name}" + (f", attempt {attempt}" if attempt > 1 else ""))

    def awaits(self, job: Job, holder: str) -> None:
        """A job cannot be started yet."""
        self.say(f"{job.name} waits for {holder}, which is still in its folder")

    def ended(self, job: Job, state: State, seconds: float) -> None:
        """A job has ended, or will not be started."""
        if state.status == "done":
            self._took.setdefault(job.evaluation, []).append(seconds)
        after = f" in {spoken(seconds)}" if seconds else ""
        words = {"done": "done", "failed": "FAILED", "skipped": "left out", "pruned": "stopped"}
        word = words.get(state.status, "ended")
        self.say(f"{word} {job.name}{after} ({self.count()})" + (f": {state.reason}" if state.reason else ""))

    def look(self, running: Mapping[str, Progress]) -> None:
        """Called again and again."""
        if time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            now = [f"{name} {progress.words}" for name, progress in running.items()]
            self.say("; ".join([self.count(), *now]) + self._left(running))

    def say(self, line: str) -> None:
        """A line of its own."""
        with unfailing(self.console):
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def count(self) -> str:
        """`3 of 9 done, 1 failed`."""
        done, failed = self.folder.count("done"), self.folder.count("failed", "skipped")
        early = self.folder.count("pruned")
        further = (f", {early} stopped early" if early else "") + (f", {failed} failed" if failed else "")
        return f"{done} of {len(self.folder.jobs)} done{further}"

    def _left(self, running: Mapping[str, Progress]) -> str:
        """`; about 12 min left`, once a job of every kind that is to come has shown how long it takes."""
        took = {kind: sum(times) / len(times) for kind, times in self._took.items()}
        of = {job.name: job.evaluation for job in self.folder.jobs}
        ends = []
        for name, progress in running.items():
            left, gone = progress.seconds_left, time.monotonic() - progress.began
            if left is None and of[name] not in took:
                return ""
            ends.append(max(0.0, took[of[name]] - gone) if left is None else left)
            took.setdefault(of[name], gone + (left or 0.0))
        waiting = [of[name] for name, state in self.folder.states.items() if state.status == "waiting"]
        if any(kind not in took for kind in waiting):
            return ""
        whole = sum(ends) + sum(took[kind] for kind in waiting)
        return f"; about {spoken(max([whole / self.parallel, *ends]))} left" if ends else ""


class LiveTable(Lines):
    """A table of the jobs that is drawn again as they go."""

    def __init__(self, folder: StudyFolder, parallel: int, console: Console) -> None:
        super().__init__(folder, parallel, console)
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._running: Mapping[str, Progress] = {}
        self._drawn = 0.0

    def __enter__(self) -> Lines:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        with unfailing(self.console):
            self._live.stop()

    def began(self, job: Job, attempt: int) -> None:
        """The table shows it."""

    def look(self, running: Mapping[str, Progress]) -> None:
        """Draws the table again, if it is time to."""
        self._running = running
        if time.monotonic() - self._drawn >= _REFRESH:
            self._drawn = time.monotonic()
            with unfailing(self.console):
                self._live.update(self.drawn(), refresh=True)

    def drawn(self) -> RenderableType:
        """The table: jobs that run and those that failed; of the others as many as there is room for."""
        table = Table(box=None, pad_edge=False)
        for title in ("job", "status", "step", "loss", "left"):
            table.add_column(title, justify="left" if title in ("job", "status") else "right", no_wrap=True)
        room = max(4, self.console.height - 4)
        rank = {"running": 0, "failed": 1, "skipped": 2, "waiting": 3, "pruned": 4, "done": 5}
        jobs = sorted(self.folder.jobs, key=lambda job: rank[self.folder.states[job.name].status])
        shown = {job.name for job in jobs[:room]}
        for job in self.folder.jobs:
            if job.name not in shown:
                continue
            state, progress = self.folder.states[job.name], self._running.get(job.name)
            cells = ["", "", ""]
            if progress is not None and progress.step:
                left = progress.seconds_left
                cells = [
                    f"{progress.step:,}" + (f" of {progress.steps:,}" if progress.steps else ""),
                    "" if progress.loss is None else f"{progress.loss:.3f}",
                    "" if left is None else spoken(left),
                ]
            table.add_row(Text(job.name), Text(state.status, _COLOURS.get(state.status, "dim")), *cells)
        hidden = len(jobs) - len(shown)
        summary = f"{self.folder.study.name}: {self.count()}{self._left(self._running)}"
        return Group(table, Text(summary + (f" ({hidden} jobs are not shown)" if hidden > 0 else ""), "bold"))
