"""TensorBoard files below the run folder."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloze.errors import Refusal
from cloze.tracking.base import TrackedRun, Tracking

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger


@dataclass(frozen=True)
class TensorBoard(Tracking):
    """Settings of conf/tracking/tensorboard.yaml."""

    folder: str = "tensorboard"

    def __post_init__(self) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise Refusal("tracking=tensorboard needs the package tensorboard: pip install 'cloze[tensorboard]'")

    def loggers(self, run: TrackedRun) -> list[Logger]:
        """One logger."""
        from pytorch_lightning.loggers import TensorBoardLogger

        return [TensorBoardLogger(save_dir=str(run.folder), name=self.folder, version="")]
