"""What Lightning and our callbacks cost: a run's step against a bare loop over the same batches, in one process, in turn.

    python benchmarks/lightning_overhead.py [--size tiny] [--steps 40] [--rounds 5]

Prints the median CPU time of a step both ways and their ratio. Both clip, use the fused AdamW and the same precision; ours also
logs, guards against gradients that are no numbers, reseeds dropout, listens to signals and shows progress.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from cloze.check import check
from cloze.compose import compose
from cloze.environment import prepare as prepare_environment
from cloze.folder import RunFolder
from cloze.prepare import Prepared, prepare
from cloze.run import _parts
from cloze.session import Parts, train


class Clock(Callback):
    """CPU seconds between the starts of steps."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.marks.append(time.thread_time())

    @property
    def steps(self) -> list[float]:
        return [after - before for before, after in itertools.pairwise(self.marks)]


def ours(parts: Parts, folder: Path) -> list[float]:
    """A run through `session.train`, timed by a callback that is slipped into Lightning's list."""
    clock = Clock()
    made = pl.Trainer.__init__

    def with_clock(self: pl.Trainer, *arguments: Any, **named: Any) -> None:
        named["callbacks"] = [clock, *named["callbacks"]]
        made(self, *arguments, **named)

    pl.Trainer.__init__ = with_clock  # type: ignore[method-assign]
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            train(parts, RunFolder.take(folder, None, "overhead"))
    finally:
        pl.Trainer.__init__ = made  # type: ignore[method-assign]
    return clock.steps


def bare(parts: Parts, steps: int) -> list[float]:
    """The loop that one would write by hand."""
    from cloze.data.module import DataModule

    data = DataModule(
        parts.train, parts.validation, parts.builder, batch_size=parts.batch_size, parts_per_rank=1, rank=0, world=1,
        workers=0, seed=parts.seed, start=lambda: 0, steps=steps, validation_examples=None,
    )  # fmt: skip
    module = torch.nn.ModuleDict({"model": parts.model, "objective": parts.objective}).train()
    optimizer = parts.optimizer.build(module)
    bf16 = parts.hardware.resolve(parts.batch_size).precision == "bf16-mixed"
    marks: list[float] = []
    for batch in _marked(data.train_dataloader(), marks):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = parts.objective(parts.model, batch)
            loss = sum(term.weight * term.total / batch.step_counts[name] for name, term in output.terms.items())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), parts.optimizer.clip_norm or 1.0)
        optimizer.step()
    return [after - before for before, after in itertools.pairwise(marks)]


def _marked(loader: Any, marks: list[float]) -> Iterator[Any]:
    for batch in loader:
        marks.append(time.thread_time())
        yield batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    prepare_environment()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        words = [
            "objective=mlm", f"size={given.size}", f"budget.steps={given.steps}", "tracking=none", "validation.every=1000000",
            "validation.examples=8", "checkpoint.every=null", "checkpoint.best=null", "hardware.threads=1",
        ]  # fmt: skip
        checked = check(compose(words))
        prepared: Prepared = prepare(checked, say=lambda line: None)
        times: dict[str, list[float]] = {"ours": [], "bare": []}
        for round_number in range(given.rounds):
            parts = _parts(prepared)
            times["ours"] += ours(parts, Path(directory) / str(round_number))[5:]
            times["bare"] += bare(_parts(prepared), given.steps)[5:]
    medians = {name: 1000 * statistics.median(seconds) for name, seconds in times.items()}
    ratio = medians["ours"] / medians["bare"]
    print(
        f"bert {given.size}, batch {checked.top.batch_size}, length {checked.top.length}: bare {medians['bare']:.2f} ms, "
        f"with Lightning {medians['ours']:.2f} ms a step (CPU, medians of {len(times['ours'])}): {100 * (ratio - 1):+.1f} %"
    )


if __name__ == "__main__":
    main()
