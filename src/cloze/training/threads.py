"""One thread or all of them? Measured, because it depends on the model and on who else is at work on the machine.

What was chosen is remembered for the machine and the shape of the work: the number of threads decides the order in which numbers
are added up, so a run and its repetition must have the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from cloze.training.hardware import cores

SECONDS = 2.0


def chosen_outside() -> int | None:
    """The number that OMP_NUM_THREADS asks for, if it does."""
    value = os.environ.get("OMP_NUM_THREADS", "")
    return int(value) if value.isdigit() and int(value) > 0 else None


def calibrate(step: Callable[[], object], key: str, cache: Path | None, limit: float = SECONDS) -> tuple[int, str]:
    """The number of threads to take, and a sentence that says why. `step` does a piece of the run's work; it is left as it was.

    `limit` is how many seconds measuring may take; `key` names the shape of the work.
    """
    every = cores()
    if every == 1:
        return 1, "1 thread: one core"
    file = None if cache is None else cache / "threads" / f"{_digest(key, every)}.json"
    if file is not None and (known := _recall(file)) is not None:
        return known, f"{known} of {every} threads, as measured before on this machine"
    medians = _measure(step, (1, every), limit)
    best = min(medians, key=lambda threads: medians[threads])
    sentence = f"{best} of {every} threads: " + ", ".join(
        f"{1000 * medians[n]:.1f} ms a step with {n}" for n in sorted(medians)
    )
    if file is not None:
        best_known = _remember(file, best)
        if best_known != best:
            return best_known, f"{best_known} of {every} threads, as measured by another run at the same time"
    return best, sentence


def _measure(step: Callable[[], object], candidates: tuple[int, ...], limit: float) -> dict[int, float]:
    before = torch.get_num_threads()
    times: dict[int, list[float]] = {threads: [] for threads in candidates}
    try:
        began = time.monotonic()
        step()  # for caches to fill
        while True:
            for threads in candidates:
                torch.set_num_threads(threads)
                start = time.perf_counter()
                step()
                times[threads].append(time.perf_counter() - start)
            medians = {threads: statistics.median(measured) for threads, measured in times.items()}
            rounds, clear = len(times[candidates[0]]), max(medians.values()) > 3 * min(medians.values())
            if rounds >= 10 and max(medians.values()) > 1.2 * min(medians.values()):
                return medians  # no more seconds will change that
            if time.monotonic() - began > (limit if rounds >= 3 or clear else 3 * limit):
                return medians
    finally:
        torch.set_num_threads(before)


def _digest(key: str, every: int) -> str:
    return hashlib.sha256(f"{key}|{every}|{torch.__version__}|{os.uname().nodename}".encode()).hexdigest()[:24]


def _recall(file: Path) -> int | None:
    try:
        return int(json.loads(file.read_text(encoding="utf-8"))["threads"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(file: Path, threads: int) -> int:
    """Writes it down, unless another run was first; returns what stands there."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps({"threads": threads}), encoding="utf-8")
        try:
            os.link(temporary, file)  # fails where the file is there: the first one stays
        except FileExistsError:
            return _recall(file) or threads
        finally:
            temporary.unlink()
    except OSError:
        pass  # a cache that cannot be written only costs the next run its two seconds
    return threads
