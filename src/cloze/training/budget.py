"""How long a run trains: steps, tokens, epochs, FLOPs or minutes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from cloze.errors import Refusal


@dataclass(frozen=True)
class Plan:
    """A budget held against the data: where training ends. Exactly one of the two is given.

    steps    optimizer steps
    seconds  on the clock, validations included; the schedule then follows the clock, and two runs are not bitwise the same
    """

    steps: int | None = None
    seconds: float | None = None

    def total(self, step: int, seconds: float) -> float:
        """The step that training will end at, as far as known after `step` steps and `seconds`."""
        if self.steps is not None:
            return float(self.steps)
        assert self.seconds is not None
        share = min(1.0, seconds / self.seconds)
        return max(step + 1.0, step / share) if share > 0 and step > 0 else 1e9

    def over(self, step: int, seconds: float) -> bool:
        """Whether training has ended."""
        return step >= self.steps if self.steps is not None else seconds >= (self.seconds or 0)


@dataclass(frozen=True)
class Budget:
    """At most one of the five; with none of them `otherwise_steps` holds."""

    steps: int | None = None
    tokens: float | None = None
    epochs: float | None = None
    flops: float | None = None
    minutes: float | None = None
    otherwise_steps: int = 1000

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("steps", "tokens", "epochs", "flops", "minutes")}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) > 1:
            words = " and ".join(f"budget.{name}={value}" for name, value in given.items())
            raise Refusal(f"{words}: a run has one budget; set the others to null")
        for name, value in {**given, "otherwise_steps": self.otherwise_steps}.items():
            if not (math.isfinite(value) and value > 0):
                raise Refusal(f"budget.{name}={value} must be above 0")

    def plan(
        self, examples: int, tokens: float, batch_size: int, flops_per_token: Callable[[], float] | None = None
    ) -> Plan:
        """Where training ends, for a corpus of so many examples and tokens. Raises Refusal where it has fewer than one batch.

        `flops_per_token` (`training.flops.per_token`) is asked only where the budget is in FLOPs.
        """
        if examples < batch_size:
            raise Refusal(
                f"the training split gives {examples} examples, fewer than one step takes (batch_size={batch_size}): "
                f"more data, or batch_size={max(1, examples)} and below"
            )
        if self.minutes is not None:
            return Plan(seconds=60 * self.minutes)
        if self.tokens is not None:
            return Plan(steps=max(1, math.ceil(self.tokens / (batch_size * tokens / examples))))
        if self.flops is not None:
            if flops_per_token is None:
                raise ValueError("a budget in FLOPs needs to know how many a token takes")
            return Plan(steps=max(1, round(self.flops / (flops_per_token() * batch_size * tokens / examples))))
        if self.epochs is not None:
            return Plan(
                steps=max(1, math.ceil(self.epochs * (examples // batch_size)))
            )  # incomplete batches are left out
        return Plan(steps=self.steps or self.otherwise_steps)
