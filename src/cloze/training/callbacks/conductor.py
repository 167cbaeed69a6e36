"""What happens at the end of an optimizer step, in one fixed order: log, save, stop, validate.

The order is what makes a resume exact: a checkpoint knows whether its step's validation has been done, how long metrics.jsonl was,
and what had been summed up since the last logged point. Everything is decided alike in all ranks.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from cloze.errors import Preempted
from cloze.folder import RunFolder
from cloze.models.base import Batch
from cloze.training import checkpoints
from cloze.training.budget import Plan
from cloze.training.checkpoints import Checkpointing
from cloze.training.module import PretrainingModule, Tally
from cloze.training.ranks import distributed, gather, highest_over_ranks
from cloze.training.signals import Signals

AGREE_EVERY_ON_GPU = 10  # steps: reading what the ranks agreed on makes the CPU wait for the GPU


@dataclass
class Progress:
    """How far a run has come: plain numbers, all of it in every checkpoint.

    `seconds` are on the run's own clock, which stands still while the run is down. `validated` is the last step whose validation
    was finished. `tokens` are real ones, over all ranks.
    """

    step: int = 0
    micro_batches: int = 0  # of this rank: the data's only state
    tokens: int = 0
    seconds: float = 0.0
    validated: int = 0
    best_step: int | None = None
    best_value: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)  # the last value of each


@dataclass(frozen=True)
class Rhythm:
    """How often what happens, in optimizer steps."""

    validate_every: int
    log_every: int = 10


class Conductor(Callback):
    """Owns the run's progress. `listeners` are told of every logged point: (step, metrics)."""

    def __init__(
        self,
        folder: RunFolder,
        plan: Plan,
        rhythm: Rhythm,
        saving: Checkpointing,
        signals: Signals,
        parts_per_rank: int,
        record: dict[str, Any],
        samples: Callable[[PretrainingModule, int], None] | None = None,
        keep: Callable[[dict[str, Tensor]], None] | None = None,
        verdict: Callable[[], dict[str, float]] | None = None,
    ) -> None:
        self.progress = Progress()
        self._folder, self._plan, self._rhythm, self._saving = folder, plan, rhythm, saving
        self._signals, self._parts, self._record, self._samples = signals, parts_per_rank, record, samples
        self._keep, self._verdict = keep, verdict
        self.listeners: list[Callable[[int, dict[str, float]], None]] = []
        self._began = time.monotonic()  # on this process's clock, less what earlier attempts took
        self._saved_at = (0, 0.0)  # step and run seconds of the newest checkpoint
        self._tokens = 0  # since the last logged point, this rank's
        self._idle = 0.0  # seconds since the last logged point that were not training
        self._point_at = (0, 0.0)
        self._ahead = 0  # tokens of the open interval that came with a checkpoint

    # --- Lightning's hooks ---------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes the signals over, starts the clock, makes up for a validation that was due and never finished."""
        assert isinstance(pl_module, PretrainingModule)
        self._signals.install()
        trainer._signal_connector.received_sigterm = False  # Lightning's own handler may have had one; ours has it too
        position = micro_batches_done(trainer)
        if position != self.progress.micro_batches or trainer.global_step != self.progress.step:
            raise RuntimeError(
                f"Lightning resumes at micro-batch {position}, step {trainer.global_step}; the checkpoint was written at "
                f"{self.progress.micro_batches}, {self.progress.step}"
            )
        self._began = time.monotonic() - self.progress.seconds
        self._point_at = (self.progress.step, self.progress.seconds)
        self._saved_at = (self.progress.step, self.progress.seconds)
        pl_module.seconds = self.progress.seconds
        step = self.progress.step
        if step and self.progress.validated < step and self._validation_due(step):
            self._validate(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Counts; at the end of an optimizer step conducts."""
        progress = self.progress
        progress.micro_batches += 1
        self._tokens += batch.real_tokens
        if progress.micro_batches % self._parts:
            return
        assert isinstance(pl_module, PretrainingModule)
        progress.step += 1
        step = progress.step
        asked = self._agree(pl_module)
        last = self._plan.over(step, progress.seconds)
        if step % self._rhythm.log_every == 0 or last:
            self._log(trainer, pl_module)
        if asked:
            if self._saved_at[0] != step:
                self._save(trainer)
            self._stop(asked)
        if self._save_due(step) and not last:
            self._save(trainer)
        if last or self._validation_due(step):
            self._validate(trainer, pl_module)
        if last:
            self._save(trainer)
            trainer.fit_loop.epoch_loop.max_steps = step  # ends a budget in minutes as if it had been one in steps

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Has the final weights kept, whole also where each rank has a part of them; then asks for the objective's verdict on them."""
        state = trainer.strategy.lightning_module_state_dict()
        if self._keep is not None:
            self._keep({name: tensor.detach().to("cpu") for name, tensor in state.items()})
        scores = self._verdict() if self._verdict is not None else {}
        if scores:
            self._point(trainer, scores, time.monotonic() - self._began)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """A signal does not wait for a long validation; the resumed run begins with it. (Several ranks agree at its end.)"""
        if self._signals.asked and not distributed():
            if self._saved_at[0] != self.progress.step:
                self._save(trainer)
            self._stop(self._signals.asked)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds what Lightning does not know of."""
        assert isinstance(pl_module, PretrainingModule)
        tokens = sum(gather(self._tokens + self._ahead))
        checkpoint["cloze"] = {
            "progress": asdict(self.progress),
            "parts_per_rank": self._parts,
            "tally": pl_module.tally.over_ranks().state(),
            "tokens": tokens,
            "files": self._folder.positions(),
            "memory": pl_module.memory(self._parts),
            **self._record,
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Takes progress over. A step may be cut into another number of parts now: the position is the step's."""
        assert isinstance(pl_module, PretrainingModule)
        ours = checkpoint["cloze"]
        self.progress = Progress(**ours["progress"])
        self.progress.micro_batches = self.progress.step * self._parts
        if trainer.is_global_zero:  # sums over ranks go on in one of them
            pl_module.tally = Tally.of(ours["tally"])
            self._ahead = ours["tokens"]
        pl_module.take_memory(ours.get("memory", {}), self._parts)
        self._folder.rewind(ours["files"])
        position = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for kind in ("total", "current"):
            for counter in ("ready", "started", "processed"):
                position[kind][counter] = self.progress.micro_batches
            position[kind]["completed"] = self.progress.micro_batches - 1
        position["is_last_batch"] = self._plan.over(self.progress.step, self.progress.seconds)

    # --- the steps' ends ------------------------------------------------------------------------------------------------------

    def _agree(self, module: PretrainingModule) -> int:
        """The signal that any rank has got (0: none); sets the clock to the slowest rank's."""
        asked, seconds = self._signals.asked, time.monotonic() - self._began
        if distributed():
            if (
                module.device.type == "cuda"
                and self.progress.step % AGREE_EVERY_ON_GPU
                and self._plan.steps != self.progress.step
            ):
                return 0
            highest = highest_over_ranks([float(asked), seconds], module.device)
            asked, seconds = int(highest[0]), highest[1]
        self.progress.seconds = module.seconds = seconds
        return asked

    def _log(self, trainer: pl.Trainer, module: PretrainingModule) -> None:
        progress = self.progress
        tally = module.tally.over_ranks()
        since = sum(gather(self._tokens))
        progress.tokens += since + sum(gather(self._ahead))
        seconds = time.monotonic() - self._began
        busy = seconds - self._point_at[1] - self._idle
        norm = module.gradient_norm
        metrics = {f"train/{name}": value for name, value in tally.means().items()}
        metrics["train/learning_rate"] = module.learning_rate
        if norm is not None:
            metrics["train/gradient_norm"] = float(norm)
        metrics["train/tokens_per_second"] = since / max(busy, 1e-9)
        if module.device.type == "cuda":
            metrics["train/gpu_gigabytes"] = torch.cuda.max_memory_allocated(module.device) / 1e9
        self._point(trainer, metrics, seconds)
        module.tally = Tally()
        self._tokens = self._ahead = 0
        self._idle, self._point_at = 0.0, (progress.step, seconds)

    def _point(self, trainer: pl.Trainer, metrics: dict[str, float], seconds: float) -> None:
        self.progress.metrics |= metrics
        if trainer.is_global_zero:
            clocks = {"tokens": self.progress.tokens, "seconds": round(seconds, 3)}
            for logger in trainer.loggers:
                logger.log_metrics({**clocks, **metrics}, step=self.progress.step)
            for listener in self.listeners:
                listener(self.progress.step, metrics)

    def _validation_due(self, step: int) -> bool:
        return step % self._rhythm.validate_every == 0 or self._plan.over(step, self.progress.seconds)

    def _validate(self, trainer: pl.Trainer, module: PretrainingModule) -> None:
        """Runs Lightning's own validation loop here and now (its schedule cannot resume one that was begun)."""
        began = time.monotonic()
        loop = trainer.fit_loop.epoch_loop.val_loop
        connector = trainer._logger_connector
        first = connector._first_loop_iter
        loop.restarting = False
        trainer.validating = True
        loop.run()
        trainer.training = True
        connector._first_loop_iter = first
        progress = self.progress
        progress.validated = progress.step
        self._point(trainer, module.validated, time.monotonic() - self._began)
        if self._samples is not None and trainer.is_global_zero:
            self._samples(module, progress.step)
        self._keep_best(trainer, module.validated)
        self._idle += time.monotonic() - began

    def _keep_best(self, trainer: pl.Trainer, metrics: dict[str, float]) -> None:
        name, progress = self._saving.best, self.progress
        value = metrics.get(name) if name else None
        if value is None or value != value:
            return
        best = progress.best_value
        if best is None or (value < best if self._saving.mode == "min" else value > best):
            progress.best_value, progress.best_step = value, progress.step
            if self._saved_at[0] != progress.step and not self._plan.over(progress.step, progress.seconds):
                self._save(trainer)

    def _save_due(self, step: int) -> bool:
        every, seconds = self._saving.every, self._saving.seconds
        return (every is not None and step % every == 0) or (
            seconds is not None and self.progress.seconds - self._saved_at[1] >= seconds
        )

    def _save(self, trainer: pl.Trainer) -> None:
        began = time.monotonic()
        step = self.progress.step
        trainer.save_checkpoint(self._path(step))
        self._saved_at = (step, self.progress.seconds)
        if trainer.is_global_zero:
            checkpoints.retain(self._folder.checkpoints, self._saving.keep, self.progress.best_step)
        self._idle += time.monotonic() - began

    def _path(self, step: int) -> Path:
        return checkpoints.checkpoint_path(self._folder.checkpoints, step)

    def _stop(self, number: int) -> None:
        raise Preempted(
            number, f"stopped by {signal.Signals(number).name} at step {self.progress.step}, with a checkpoint"
        )


def micro_batches_done(trainer: pl.Trainer) -> int:
    """Lightning's own count: what says where the data goes on."""
    counter: Any = trainer.fit_loop.epoch_loop.batch_progress.total
    return int(counter.processed)
