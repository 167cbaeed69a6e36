"""A run in a process of its own: its own seeds, memory, process group and tracker, so that its end is never that of the others."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import IO


@dataclass(frozen=True)
class Ended:
    """How a run ended. `error` is the last line that it said began with "error: "; `signal` one that this process got meanwhile."""

    exit_code: int
    error: str = ""
    signal: int | None = None


def train(words: Sequence[str]) -> Ended:
    """`cloze train WORDS`, shown here as it goes. A signal that asks this process to stop is handed on, and the run's end awaited."""
    command = [sys.executable, "-m", "cloze", "train", *words]
    errors: list[str] = []
    running: list[subprocess.Popen[str]] = []
    with _handed_on(running) as got:
        # A session of its own, so that Ctrl-C reaches it once, through us: a second signal would end it without a checkpoint.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        running.append(process)
        if got:  # before there was anything to hand it on to
            process.send_signal(got[-1])
        assert process.stderr is not None
        reader = threading.Thread(target=_repeat, args=(process.stderr, errors), daemon=True)
        reader.start()
        exit_code = process.wait()
    reader.join(5)  # a data worker that outlives the run may hold the pipe open
    return Ended(exit_code, errors[-1] if errors else "", got[0] if got else None)


def _repeat(stream: IO[str], errors: list[str]) -> None:
    """Shows what a run says on standard error and keeps its errors."""
    for line in stream:
        print(line, end="", file=sys.stderr, flush=True)
        if line.startswith("error: "):
            errors.append(line.removeprefix("error: ").strip())


@contextmanager
def _handed_on(running: list[subprocess.Popen[str]]) -> Iterator[list[int]]:
    """Within, signals that ask to stop go to the processes; the list is of those."""
    got: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield got
        return

    def hand_on(number: int, frame: FrameType | None) -> None:
        got.append(number)
        for process in running:
            process.send_signal(number)

    before = {
        each: signal.signal(each, hand_on) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    }
    try:
        yield got
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
