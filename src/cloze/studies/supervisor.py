"""Runs the jobs of a study, n at a time, each in a process of its own: one that raises, exits or is killed never ends the others.

A job is `python -m cloze train WORDS output_dir=…` in a session of its own, without a terminal; what it says goes to its log. Signals
that ask to stop are handed on, and the jobs' ends awaited, so that each leaves a checkpoint.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

from cloze.environment import STUDY_VARIABLE
from cloze.errors import RunFailure
from cloze.folder import RunFolder
from cloze.studies.ending import Ending, ended_for_memory, judge, stamp
from cloze.studies.jobs import Job
from cloze.studies.outcome import unknown_metrics
from cloze.studies.progress import Progress
from cloze.studies.record import State, StudyFolder

PAUSE = 0.1  # seconds between two looks
PATIENCE = 120.0  # seconds that a job waits for a process in its folder: one of a killed study, at its checkpoint
_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
# What a launcher tells the ranks of one distributed run, and a run its own processes: never a job's business.
_NOT_A_JOBS = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK", "ROLE_RANK", "MASTER_ADDR", "MASTER_PORT",
    "CLOZE_RUN_FOLDER", "CLOZE_RUN_RESUMED", "CLOZE_RUN_PROCESS", "PL_GLOBAL_SEED", "PL_SEED_WORKERS",
    "WANDB_RUN_ID", "WANDB_NAME", "WANDB_RESUME",
)  # fmt: skip


class Display(Protocol):
    """What is told of the jobs as they go."""

    def began(self, job: Job, attempt: int) -> None: ...

    def awaits(self, job: Job, holder: str) -> None: ...

    def ended(self, job: Job, state: State, seconds: float) -> None: ...

    def look(self, running: dict[str, Progress]) -> None: ...

    def say(self, line: str) -> None: ...


@dataclass
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    progress: Progress
    log_start: int
    record: object  # the stamp of its run's record when it began
    memory: int | None  # the kernel's count when it began


class Supervisor:
    """The jobs of a study, brought to their ends."""

    def __init__(
        self,
        folder: StudyFolder,
        display: Display,
        parallel: int,
        threads: int | None = None,
        retries: int = 0,
        command: Sequence[str] = (sys.executable, "-m", "cloze", "train"),
    ) -> None:
        """`threads` of the CPU are shared out to each job (None: it takes what it likes)."""
        self.folder, self.display, self.parallel, self.threads = folder, display, parallel, threads
        self.retries, self.command = retries, tuple(command)
        self.failures: dict[str, int] = {}  # of this time, by job
        self.running: dict[str, _Running] = {}
        self.awaited: dict[str, float] = {}  # jobs whose folder another process is in: since when
        self.signals: list[int] = []
        self.handed_on = 0  # how many of the signals the jobs have been told
        self.of_metrics: set[str | None] = set()  # the kinds of jobs that were looked at for the study's metrics
        self.fault: BaseException | None = None  # why it cannot go on

    def run(self) -> int | None:
        """Returns when no job is left to run; the signal, where one has stopped it before.

        Raises RunFailure where study.json cannot be written, and what else goes wrong here, once the jobs have been stopped.
        """
        self._write()
        with self._caught():
            while self._goes_on():
                time.sleep(PAUSE)
        if self.fault is not None:
            for state in self.folder.states.values():
                if state.status == "running":  # its end was not judged any more
                    state.status = "waiting"
            self._write()
            raise self.fault
        return self.signals[0] if self.signals else None

    def _goes_on(self) -> bool:
        """One look at everything; whether there is more to come. What goes wrong here must not cost the jobs their checkpoints."""
        try:
            if len(self.signals) > self.handed_on:
                self.handed_on = len(self.signals)
                self._hand_on(self.handed_on)
            for each in [each for each in self.running.values() if each.process.poll() is not None]:
                self._end(each)
            while not self.signals and len(self.running) < self.parallel and (job := self._next()) is not None:
                self._begin(job)
            if not self.running and (self.signals or not self.awaited):
                return False
            for each in self.running.values():
                self._watch(each)
            self.display.look({name: each.progress for name, each in self.running.items()})
        except (Exception, SystemExit) as fault:
            self._stop_for(fault)
        return True

    def _stop_for(self, fault: BaseException) -> None:
        """Everything stops as if it were asked to."""
        if self.fault is None:
            self.fault = fault
        if not self.signals:  # a second one would have the jobs stop at once, without a checkpoint
            self.signals.append(signal.SIGTERM)

    def _write(self) -> None:
        """The record; where there can be none, everything stops."""
        try:
            self.folder.write()
        except RunFailure as fault:
            self._stop_for(fault)

    def _next(self) -> Job | None:
        """The first job that waits for nothing; those that failed in this session come after all others."""
        states = self.folder.states
        for job in self.folder.jobs:
            if states[job.name].status == "waiting" and job.after and states[job.after].status in ("failed", "skipped"):
                states[job.name].status = "skipped"
                states[job.name].reason = f"{job.after}, whose model it starts from, did not end well"
                self._write()
                self.display.ended(job, states[job.name], 0.0)
        able = [
            job
            for job in self.folder.jobs
            if states[job.name].status == "waiting" and (job.after is None or states[job.after].status == "done")
        ]
        able.sort(key=lambda job: (not job.words, self.failures.get(job.name, 0)))  # without words: a trial to come
        return next((job for job in able if not self._must_wait(job)), None)

    def _must_wait(self, job: Job) -> bool:
        """Whether another process is in a job's folder and may yet leave it."""
        folder = RunFolder(self.folder.folder(job))
        if not folder.is_held():
            return False
        if job.name not in self.awaited:
            self.awaited[job.name] = time.monotonic()
            self.display.awaits(job, folder.holder)
        return time.monotonic() - self.awaited[job.name] < PATIENCE

    def _begin(self, job: Job) -> None:
        self.awaited.pop(job.name, None)
        state = self.folder.states[job.name]
        state.status, state.reason, state.log_tail, state.exit_code, state.signal = "running", "", "", None, None
        state.attempts, state.began, state.ended = state.attempts + 1, _now(), None
        self._write()
        if self.fault is not None:  # nothing is begun any more
            state.status = "waiting"
            return
        try:
            self.running[job.name] = self._started(job, state)
        except OSError as fault:  # of the folder, the log or the process
            told = ": ".join(str(each) for each in (fault.filename, fault.strerror) if each) or str(fault)
            self._conclude(job, Ending(False, f"could not be started: {told}", None, None, ""), 0.0)
        else:
            self.display.began(job, state.attempts)

    def _started(self, job: Job, state: State) -> _Running:
        """The job's process. Raises OSError where there can be none."""
        from cloze.suites.glue import written

        run = self.folder.folder(job)
        if (there := RunFolder(run)).is_held():
            raise OSError(f"{run} is still in use by {there.holder}")
        begun = bool(there.facts())
        if begun and not job.trains:  # it has nothing to go on from
            import shutil

            shutil.rmtree(run)
        record = stamp(run)
        words = [*job.words, f"output_dir={written(str(run))}", *(["resume=auto"] if begun and job.trains else [])]
        with self.folder.log(job).open("ab") as log:
            log.write(f"--- attempt {state.attempts}, {state.began}: {' '.join(words)}\n".encode())
            log.flush()
            start = log.tell()
            process = subprocess.Popen(
                [*self.command, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True, env=self._environment(job),
            )  # fmt: skip
        return _Running(job, process, Progress(run), start, record, ended_for_memory())

    def _end(self, ended: _Running) -> None:
        job = ended.job
        del self.running[job.name]
        memory = ended_for_memory()
        short = memory is not None and ended.memory is not None and memory > ended.memory
        verdict = judge(
            self.folder.folder(job),
            ended.process.returncode,
            self.folder.log(job),
            ended.log_start,
            ended.record,
            short,
        )
        if not verdict.done:  # ranks and workers that it left behind; a run that ended well has none
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(ended.process.pid, signal.SIGKILL)
        self._conclude(job, verdict, time.monotonic() - ended.progress.began)
        if verdict.done and job.evaluation not in self.of_metrics:
            self.of_metrics.add(job.evaluation)
            for line in unknown_metrics(self.folder, job):
                self.display.say(f"note: {line}")

    def _conclude(self, job: Job, verdict: Ending, seconds: float) -> None:
        """Writes down and tells how an attempt has ended."""
        state = self.folder.states[job.name]
        state.ended, state.exit_code, state.signal = _now(), verdict.exit_code, verdict.signal
        state.reason, state.log_tail = verdict.reason, verdict.tail
        self._decide(job, state, verdict)
        self._write()
        self.display.ended(job, state, seconds)

    def _watch(self, running: _Running) -> None:
        """Looks at a job that runs."""
        running.progress.look()

    def _decide(self, job: Job, state: State, verdict: Ending) -> None:
        """What an attempt's end means for its job."""
        if verdict.done:
            state.status = "done"
        elif self.signals:
            state.status, state.reason = (
                "waiting",
                f"stopped by {signal.Signals(self.signals[0]).name}; the same sentence goes on",
            )
        else:
            self.failures[job.name] = self.failures.get(job.name, 0) + 1
            again = verdict.again and self.failures[job.name] <= self.retries
            state.status = "waiting" if again else "failed"

    def _hand_on(self, times: int) -> None:
        """The first signal asks the jobs to stop, the second to stop at once, the third ends them."""
        for each in self.running.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if times < 3:
                    each.process.send_signal(self.signals[-1])
                else:
                    os.killpg(each.process.pid, signal.SIGKILL)

    def _environment(self, job: Job) -> dict[str, str]:
        environment = {key: value for key, value in os.environ.items() if not _is_of_a_rank(key)}
        environment |= {
            STUDY_VARIABLE: str(os.getpid()),
            "PYTHONUNBUFFERED": "1",
        }  # so that a log is whole after a kill
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if self.threads is not None:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, self.threads // job.devices)))
        return environment

    @contextmanager
    def _caught(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: FrameType | None) -> None:
            self.signals.append(number)

        before: dict[int, Callable[..., Any] | int | None] = {each: signal.signal(each, note) for each in _STOP}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def _is_of_a_rank(key: str) -> bool:
    return key in _NOT_A_JOBS or key.startswith("TORCHELASTIC_")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
