"""Weights & Biases: offline unless a key is configured, files below the run folder, and nothing it does can stop a run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cloze.errors import Refusal
from cloze.tracking.base import TrackedRun, Tracking

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger


@dataclass(frozen=True)
class Wandb(Tracking):
    """Settings of conf/tracking/wandb.yaml."""

    project: str = "cloze"
    entity: str | None = None
    group: str | None = None
    tags: list[str] | None = None
    mode: Literal["auto", "online", "offline"] = "auto"
    timeout: float = 20.0

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise Refusal(f"tracking.timeout={self.timeout} must be above 0 seconds")

    def loggers(self, run: TrackedRun) -> list[Logger]:
        """One logger, or none where WANDB_MODE says disabled."""
        if os.environ.get("WANDB_MODE") == "disabled" or os.environ.get("WANDB_DISABLED", "").lower() == "true":
            return []
        from cloze.tracking.wandb_logger import GuardedWandbLogger

        online = self.mode == "online" or (self.mode == "auto" and online_by_default())
        return [GuardedWandbLogger(run, self, online)]


def online_by_default() -> bool:
    """Whether a key is configured here (and WANDB_MODE does not say offline)."""
    mode = os.environ.get("WANDB_MODE")
    if mode is not None:
        return mode == "online"
    if os.environ.get("WANDB_API_KEY"):
        return True
    files = [Path(name).expanduser() for name in (os.environ.get("NETRC") or "~/.netrc", "~/_netrc")]
    return any(map(_has_a_key, files))


def _has_a_key(file: Path) -> bool:
    try:
        return "wandb.ai" in file.read_text(encoding="utf-8", errors="replace")
    except OSError:  # there is none, or it is not ours to read
        return False
