"""Learning-rate schedules: pure functions of the step and the step at which the budget ends.

`factor(step, total)` is what the learning rate is multiplied by for the update after `step` updates (so it is asked for
0 … total - 1). A budget in minutes has no step that it ends at; then `total` is the estimate that the clock gives, so both are
floats. Warm-up rises in a straight line to 1 and never wastes an update on a rate of 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from cloze.errors import Refusal


@dataclass(frozen=True)
class Schedule(ABC):
    """`warmup` below 1 is a share of the budget, from 1 on it is a number of steps."""

    warmup: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.warmup) and self.warmup >= 0):
            raise Refusal(f"schedule.warmup={self.warmup} must be a share of the budget (0 to 1) or a number of steps")

    def warmup_steps(self, total: float) -> float:
        """How many updates the warm-up takes."""
        return self.warmup * total if self.warmup < 1 else self.warmup

    def factor(self, step: float, total: float) -> float:
        """What the learning rate is multiplied by."""
        warmup = self.warmup_steps(total)
        if step < warmup:
            return min(1.0, (step + 1) / warmup)
        return self.after(step, total, warmup)

    @abstractmethod
    def after(self, step: float, total: float, warmup: float) -> float:
        """The factor when the warm-up is over: 1 at its end."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate to the end."""

    warmup: float = 0.0

    def after(self, step: float, total: float, warmup: float) -> float:
        return 1.0


@dataclass(frozen=True)
class _Falling(Schedule):
    floor: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.floor <= 1:
            raise Refusal(f"schedule.floor={self.floor} must lie in [0, 1]: the share of the rate at the end")

    def progress(self, step: float, total: float, warmup: float) -> float:
        return min(1.0, (step - warmup) / max(total - warmup, 1e-9))


@dataclass(frozen=True)
class Linear(_Falling):
    """A straight line down to `floor` at the budget's end: BERT's (https://arxiv.org/abs/1810.04805)."""

    warmup: float = 0.01
    floor: float = 0.0

    def after(self, step: float, total: float, warmup: float) -> float:
        return 1 - (1 - self.floor) * self.progress(step, total, warmup)


@dataclass(frozen=True)
class Cosine(_Falling):
    """Half a cosine down to `floor` at the budget's end (https://arxiv.org/abs/1608.03983, without restarts)."""

    warmup: float = 0.01
    floor: float = 0.1

    def after(self, step: float, total: float, warmup: float) -> float:
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * self.progress(step, total, warmup))) / 2


@dataclass(frozen=True)
class InverseSquareRoot(Schedule):
    """1 / sqrt(step), scaled to be 1 when the warm-up ends (https://arxiv.org/abs/1706.03762).

    `rise=flat` holds the full rate during the warm-up, as T5 does: 1 / sqrt(max(step, warm-up)) (https://arxiv.org/abs/1910.10683).
    """

    warmup: float = 10_000
    rise: Literal["linear", "flat"] = "linear"

    def factor(self, step: float, total: float) -> float:
        if self.rise == "flat" and step < self.warmup_steps(total):
            return 1.0
        return super().factor(step, total)

    def after(self, step: float, total: float, warmup: float) -> float:
        return math.sqrt(max(warmup, 1.0) / max(step, warmup, 1.0))


@dataclass(frozen=True)
class SlantedTriangular(Schedule):
    """A short straight rise from 1/ratio, a long straight fall back to it: ULMFiT's (https://arxiv.org/abs/1801.06146)."""

    warmup: float = 0.1
    ratio: float = 32.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ratio < 1:
            raise Refusal(
                f"schedule.ratio={self.ratio} must be at least 1: how many times the highest rate is the lowest"
            )

    def factor(self, step: float, total: float) -> float:
        cut = math.floor(self.warmup_steps(total))
        height = step / cut if step < cut else 1 - min(1.0, (step - cut) / max(total - cut, 1))
        return (1 + height * (self.ratio - 1)) / self.ratio

    def after(self, step: float, total: float, warmup: float) -> float:
        return self.factor(step, total)
