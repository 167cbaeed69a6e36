"""How a job ended, in one sentence: from its exit code, what its run folder says, and the last lines of its console."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

from cloze.folder import RunFolder

LINES = 12  # of a console that are shown where a job failed
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
_TRACEBACK = re.compile(r" \(the traceback is in .*\)$")
_OUT_OF_MEMORY = re.compile(
    r"MemoryError|OutOfMemoryError|out of memory|can't allocate memory|cannot allocate memory|Unable to allocate",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Ending:
    """An attempt that is over. `reason` is empty where it ended well."""

    done: bool
    reason: str
    exit_code: int | None  # None where a signal ended it
    signal: int | None
    tail: str
    again: bool = True  # whether another attempt could end otherwise: not where the user must mend something


def judge(
    folder: Path, returncode: int, log: Path, start: int, before: object = None, out_of_memory: bool = False
) -> Ending:
    """What became of an attempt whose console begins `start` bytes into the log.

    `returncode` is as `subprocess` gives it: minus the signal where one ended the process. `before` is the `stamp` of its folder when it
    began. `out_of_memory`: the kernel has counted a process that it ended for lack of memory meanwhile.
    """
    facts = RunFolder(folder).facts()
    said = tail(log, start)
    if returncode == 0 and facts.get("status") == "done":
        return Ending(True, "", 0, None, "")
    if returncode < 0:
        return Ending(False, _killed(-returncode, out_of_memory), None, -returncode, said)
    if stamp(folder) == before:  # what it says is of an earlier attempt
        facts = {}
    reason = _first(str(facts.get("reason") or "")) if facts.get("status") == "failed" else ""
    errors = [_TRACEBACK.sub("", line[7:]) for line in said.splitlines() if line.startswith("error: ")]
    if reason == str(returncode):  # all that sys.exit says is its code
        reason = f"left with sys.exit({returncode}) before its end"
    elif facts.get("status") == "preempted" and returncode > 128:
        reason = f"stopped by {_name(returncode - 128)}, with a checkpoint"
    elif errors and (not reason or reason in errors[-1]):  # it says the kind of error, too
        reason = errors[-1]
    elif not reason:
        reason = f"ended with exit code {returncode} before its end, and said no reason"
    if _OUT_OF_MEMORY.search(reason):
        reason = f"out of memory: {reason}"
    return Ending(False, reason, returncode, None, said, again=returncode != 2)


def stamp(folder: Path) -> tuple[int, int] | None:
    """Tells one writing of a run's record from the next; None where there is none."""
    try:
        file = (folder / "run.json").stat()
    except OSError:
        return None
    return file.st_ino, file.st_mtime_ns


def tail(log: Path, start: int = 0) -> str:
    """The last lines of a log from a place on, without what only a terminal understands."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(start, size - 16_384))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    lines = [_ESCAPES.sub("", line).rstrip() for line in text.splitlines()]
    return "\n".join([line for line in lines if line][-LINES:])


def ended_for_memory() -> int | None:
    """How many processes the kernel has ended for lack of memory since it started; None where it does not say."""
    try:
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return None


def _killed(number: int, out_of_memory: bool) -> str:
    if number == signal.SIGKILL:
        if out_of_memory:
            return "killed by SIGKILL, while the kernel ended a process because memory had run out"
        return "killed by SIGKILL; the kernel's OOM killer does that when memory runs out"
    return f"killed by {_name(number)}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _first(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
