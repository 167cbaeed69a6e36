"""How far the jobs have come, read from their run folders while they run."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloze.folder import RunFolder


@dataclass
class Progress:
    """A run's position. Only the lines that are new are read, so that asking often costs nothing."""

    folder: Path
    began: float = field(default_factory=time.monotonic)
    point: dict[str, Any] = field(default_factory=dict)  # the last value of everything
    _offset: int = 0
    _budget: dict[str, Any] = field(default_factory=dict)

    def look(self) -> None:
        """Reads what has been written since."""
        if not self._budget:
            self._budget = RunFolder(self.folder).facts().get("budget") or {}
        try:
            with RunFolder(self.folder).metrics.open("rb") as file:
                if file.seek(0, 2) < self._offset:  # a resumed run has cut it back
                    self._offset = 0
                file.seek(self._offset)
                text = file.read()
        except OSError:
            return
        whole = text.rpartition(b"\n")[0]
        for line in whole.splitlines():
            try:
                self.point.update(json.loads(line))
            except ValueError:
                continue
        self._offset += len(whole) + 1 if whole else 0

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.point.get("step") or 0)

    @property
    def steps(self) -> int | None:
        """Where it will end, where that is known in steps."""
        return self._budget.get("steps")

    @property
    def loss(self) -> float | None:
        """The last training loss."""
        return self.point.get("train/loss")

    @property
    def seconds_left(self) -> float | None:
        """Of training, by the pace so far; None before there is one."""
        seconds = float(self.point.get("seconds") or 0)
        if (whole := self._budget.get("seconds")) is not None:
            return max(0.0, float(whole) - seconds)
        if not self.steps or not self.step or not seconds:
            return None
        return max(0, self.steps - self.step) * seconds / self.step

    @property
    def words(self) -> str:
        """`step 500 of 2,000, loss 3.215`."""
        if not self.step:
            return "starting"
        of = f" of {self.steps:,}" if self.steps else ""
        return f"step {self.step:,}{of}" + ("" if self.loss is None else f", loss {self.loss:.3f}")


def spoken(seconds: float) -> str:
    """A length of time in few words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
