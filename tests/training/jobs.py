"""Small real runs: a real model, objective and data path on a random corpus. Also a program, for tests that kill it.

python jobs.py FOLDER [--objective mlm_sop] [--workers 2] [--micro 4] [--steps 40] …
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from cloze.data.base import TokenizedCorpus, Vocabulary
from cloze.finetuning.ways import Finetuning
from cloze.folder import RunFolder
from cloze.models.bert import Bert
from cloze.objectives.mlm import MaskedLM
from cloze.session import CorpusFacts, Parts, train
from cloze.tracking.base import NoTracking
from cloze.training.budget import Budget
from cloze.training.checkpoints import Checkpointing
from cloze.training.hardware import Hardware
from cloze.training.optimizers import AdamW
from cloze.training.schedules import Linear

SIZE = 60
VOCABULARY = Vocabulary(SIZE, {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4})


class Speller:
    """A tokenizer whose words are numbers."""

    vocabulary = VOCABULARY
    roles: dict[str, str] = {role: f"[{role.upper()}]" for role in VOCABULARY.special}  # noqa: RUF012

    def encode(self, text: str, special: bool = False) -> list[int]:
        return [4 if word == "[MASK]" else int(word) for word in text.split()]

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        return " ".join(self.token(i) for i in ids if not (skip_special and i < 5))

    def token(self, id: int) -> str:
        return "[MASK]" if id == 4 else str(id)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "words.txt").write_text("numbers")


def corpus(documents: int, seed: int) -> TokenizedCorpus:
    """Sentences that count upwards, so that there is something to learn: 7 8 9 10 …"""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(documents):
        starts = random.integers(5, SIZE - 12, random.integers(3, 7))
        made.append([list(range(start, start + int(random.integers(3, 10)))) for start in starts])
    return TokenizedCorpus.of(made)


def parts(
    *,
    objective: Any = "mlm",  # a name, or a built one
    workers: int = 0,
    micro: int | None = None,
    steps: int = 12,
    minutes: float | None = None,
    save_every: int | None = 4,
    validate_every: int = 5,
    batch_size: int = 8,
    seed: int = 1,
    rate: float = 3e-3,
    dropout: float = 0.1,
    documents: int = 40,
    precision: Any = 32,
    pause: float = 0.0,
    layers: int = 1,
    **changed: Any,
) -> Parts:
    """The parts of a small run; `changed` replaces whole parts."""
    pair: Any = "sop" if objective == "mlm_sop" else "none"
    format: Any = "segment_pair" if pair != "none" else "full_sentences"
    builder = MaskedLM.Examples(VOCABULARY, 32, pair=pair, format=format)
    if pause:
        builder = _slow(builder, pause)
    torch.manual_seed(seed)
    model = Bert(
        SIZE, 32, pooler=pair != "none", layers=layers, width=16, heads=2, inner=32, positions=32,
        dropout=dropout, attention_dropout=dropout,
    )  # fmt: skip
    learner = MaskedLM(model, VOCABULARY, pair=pair) if isinstance(objective, str) else objective
    objective = objective if isinstance(objective, str) else type(objective).__name__
    tokenizer = Speller()
    made: dict[str, Any] = {
        "name": f"bert-{objective}-numbers", "model": model, "objective": learner, "builder": builder,
        "train": builder.build(corpus(documents, 1), 1), "validation": builder.judge().build(corpus(8, 2), 2),
        "vocabulary": VOCABULARY, "tokenizer": tokenizer, "save_tokenizer": tokenizer.save,
        "description": {"model": {}, "objective": {}, "vocabulary": SIZE, "length": 32},
        "facts": CorpusFacts("numbers", 3.9), "optimizer": AdamW(learning_rate=rate), "schedule": Linear(warmup=0.1),
        "budget": Budget(steps=None if minutes else steps, minutes=minutes),
        "hardware": Hardware(accelerator="cpu", precision=precision, micro_batch=micro, workers=workers, threads=1),
        "checkpoint": Checkpointing(every=save_every), "tracking": NoTracking(), "seed": seed, "batch_size": batch_size,
        "validation_every": validate_every, "validation_examples": 16, "log_every": 3, "config": {"seed": seed},
        "config_text": f"seed: {seed}\n", "may_differ": ("budget.steps",),
        "identity": {"seed": seed, "objective": objective, "rate": rate, "dropout": dropout, "batch_size": batch_size,
                  "budget.steps": steps},
    }  # fmt: skip
    return Parts(**{**made, **changed})


def run(folder: Path, resume: bool = False, **settings: Any) -> dict[str, Any]:
    """Trains in this process; returns the run's facts."""
    return train(parts(**settings), RunFolder.take(folder, "auto" if resume else None, "test"))


def _slow(builder: Any, seconds: float) -> Any:
    """The same builder, taking its time: so that a test can hit a run in the middle."""
    fast = builder.sample

    def sample(*arguments: Any) -> Any:
        time.sleep(seconds)
        return fast(*arguments)

    builder.sample = sample
    return builder


def main(words: Sequence[str]) -> int:
    """A run with the exit codes of the command line."""
    from cloze.errors import Preempted, Refusal, RunFailure

    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--objective", default="mlm")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--nan-at", type=int, default=None)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--trace", type=Path, default=None)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--finetuning", type=json.loads, default=None)
    for name, default in (("workers", 0), ("micro", None), ("steps", 12), ("save_every", 4), ("validate_every", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = vars(parser.parse_args(words))
    folder, devices, nan_at, trace = (given.pop(name) for name in ("folder", "devices", "nan_at", "trace"))
    given["finetuning"] = Finetuning(**(given["finetuning"] or {}))
    if devices > 1:
        given["hardware"] = Hardware(
            accelerator="cpu", precision=32, devices=devices, strategy="ddp", workers=given["workers"], threads=1,
            micro_batch=given["micro"],
        )  # fmt: skip
    made = parts(**given)
    if nan_at is not None:
        spoil(made, nan_at)
    if trace is not None:
        follow(made, trace)
    try:
        train(made, RunFolder.take(folder, "auto", "test"))
    except (Refusal, RunFailure, Preempted) as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.exit_code
    return 0


def follow(made: Parts, file: Path) -> None:
    """Writes down which examples each rank trains on in which step."""
    forward = made.objective.forward

    def followed(model: Any, batch: Any) -> Any:
        if made.objective.training and not _get_current_dispatch_mode():  # where FLOPs are counted nothing is learnt
            with file.with_suffix(f".{os.environ.get('LOCAL_RANK', 0)}").open("a") as stream:
                stream.write(f"{batch.step} {' '.join(map(str, batch.indices))}\n")
        return forward(model, batch)

    made.objective.forward = followed  # type: ignore[method-assign]


def spoil(made: Parts, step: int) -> None:
    """Makes the loss of a step not a number."""
    forward = made.objective.forward

    def spoilt(model: Any, batch: Any) -> Any:
        output = forward(model, batch)
        if batch.step == step and made.objective.training:
            output.terms["mlm"].total = output.terms["mlm"].total * float("nan")
        return output

    made.objective.forward = spoilt  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
