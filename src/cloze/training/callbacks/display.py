"""Progress: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from cloze.training.budget import Plan
from cloze.training.callbacks.conductor import Conductor
from cloze.training.voice import Voice

BAR_SECONDS, LINE_SECONDS = 0.25, 10.0


class Display(Callback):
    """Shows the loss, tokens a second and the time that is left. Reads only what has been logged: it never waits for a GPU."""

    def __init__(
        self, conductor: Conductor, plan: Plan, voice: Voice, reference: dict[str, float], bar: bool | None = None
    ) -> None:
        self._conductor, self._plan, self._voice, self._reference = conductor, plan, voice, reference
        self._bar = sys.stdout.isatty() if bar is None else bar
        self._progress: Progress | None = None
        self._task: Any = None
        self._shown = 0.0
        self._began = (0.0, 0.0)
        conductor.listeners.append(self._hear)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts the bar on the screen."""
        self._began = (time.monotonic(), self._share())
        self._shown = time.monotonic()
        if self._bar and trainer.is_global_zero:
            self._progress = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[figures]}"),
                console=Console(), transient=True, auto_refresh=False,
            )  # fmt: skip
            self._task = self._progress.add_task("training", total=1.0, figures="")
            self._progress.start()
            self._voice.live = self._progress.console

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Moves the bar, a few times a second at most."""
        now = time.monotonic()
        if now - self._shown < (BAR_SECONDS if self._bar else LINE_SECONDS) or not trainer.is_global_zero:
            return
        self._shown = now
        if self._progress is not None:
            self._progress.update(self._task, completed=self._share(), figures=self._figures(), refresh=True)
        elif "train/loss" in self._conductor.progress.metrics and self._share() < 1:
            self._voice.say(self._figures())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes the bar off."""
        self.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Takes the bar off."""
        self.close()

    def close(self) -> None:
        """Takes the bar off the screen, if it is there."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = self._voice.live = None

    def _share(self) -> float:
        progress, plan = self._conductor.progress, self._plan
        return min(1.0, progress.step / plan.steps if plan.steps else progress.seconds / (plan.seconds or 1.0))

    def _figures(self) -> str:
        progress, metrics = self._conductor.progress, self._conductor.progress.metrics
        step = f"step {progress.step:,}" + (f" of {self._plan.steps:,}" if self._plan.steps else "")
        parts = [step]
        if "train/loss" in metrics:
            parts.append(f"loss {metrics['train/loss']:.3f}")
            parts.append(f"{metrics['train/tokens_per_second']:,.0f} tokens/s")
        done, elapsed = self._share() - self._began[1], time.monotonic() - self._began[0]
        if done > 0:
            parts.append(f"{clock(elapsed / done * (1 - self._share()))} left")
        return " · ".join(parts)

    def _hear(self, step: int, metrics: dict[str, float]) -> None:
        if "val/loss" not in metrics:
            return
        parts = [f"step {step:,}"]
        train = self._conductor.progress.metrics.get("train/loss")
        if train is not None:
            parts.append(f"train/loss {train:.3f}")
        terms = [name for name in metrics if name.startswith("val/loss_")]
        for name, value in metrics.items():
            if terms == [name]:
                continue  # the only term: the loss has been said
            parts.append(f"{name} {value:.3f}" if abs(value) < 1e4 else f"{name} {value:.3g}")
        references = [f"{name} {value:.3f}" for name, value in self._reference.items()]
        self._voice.say(" · ".join(parts) + (f"  ({', '.join(references)})" if references else ""))
        self._shown = time.monotonic()


def clock(seconds: float) -> str:
    """Seconds as 0:09, 12:34 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
