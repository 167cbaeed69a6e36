"""metrics.jsonl as a Lightning logger: one line a logged point, with the system before `log_metrics` returns."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import Logger

from cloze.folder import RunFolder


class LocalLogger(Logger):
    """Writes {"step": …, "tokens": …, "seconds": …, "train/loss": …} lines into the run folder."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self._folder = folder

    @property
    def name(self) -> str:
        """The folder's name."""
        return self._folder.path.name

    @property
    def version(self) -> str:
        """There is one."""
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """config.yaml has them."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Appends one line. A value that is no number is written as null: JSON has no NaN."""
        values = {key: _number(value) for key, value in metrics.items()}
        head = {"step": step, "tokens": values.pop("tokens", None), "seconds": values.pop("seconds", None)}
        self._folder.append("metrics.jsonl", json.dumps({**head, **values}) + "\n")


def _number(value: Any) -> float | int | None:
    number = value if isinstance(value, int) else float(value)
    return number if math.isfinite(number) else None
