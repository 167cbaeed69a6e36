"""What a tracker is told of a run. The local metrics.jsonl is the truth; a tracker is a mirror that may fail and stops nothing."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker sees it. `group` is the same for runs that differ only in their seed."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    group: str
    kind: str = "pretrain"
    tags: tuple[str, ...] = field(default=())


class Tracking(ABC):
    """Settings of conf/tracking."""

    @abstractmethod
    def loggers(self, run: TrackedRun) -> list[Logger]:
        """Lightning loggers, metrics.jsonl's apart."""


class NoTracking(Tracking):
    """Only the run folder."""

    def loggers(self, run: TrackedRun) -> list[Logger]:
        return []


def group_of(name: str, identity: Mapping[str, Any]) -> str:
    """A name for all seeds of one configuration."""
    content = {key: value for key, value in identity.items() if key != "seed"}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    return f"{name}-{digest[:8]}"
