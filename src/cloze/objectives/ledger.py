"""What a supervised objective notes of each example in a validation, and the figures that come of it.

A `Ledger` is plain rows, gathered over ranks and scored once; a `Figure` is one of its figures as a torchmetric, so that the training loop
treats it as any other metric.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from cloze.training.ranks import gather

Row = tuple[Any, ...]


class Ledger:
    """Rows of all examples that were seen, and `score`, which makes figures (fractions of 1) of them."""

    def __init__(self, score: Callable[[list[Row]], dict[str, float]]) -> None:
        self.rows: list[Row] = []
        self._score = score
        self._figures: dict[str, float] | None = None

    def add(self, rows: Iterable[Row]) -> None:
        self.rows += rows
        self._figures = None

    def figures(self) -> dict[str, float]:
        """Every rank asks for them, and gets the same."""
        if self._figures is None:
            rows = [row for part in gather(self.rows) for row in part]
            self._figures = self._score(rows) if rows else {}
        return self._figures


class Figure(Metric):
    """One figure of a ledger; not a number where the ledger has nothing that it is of."""

    full_state_update = False

    def __init__(self, ledger: Ledger, name: str) -> None:
        super().__init__()
        self.ledger, self.name = ledger, name

    def update(self) -> None:
        """The ledger is what is updated."""

    def compute(self) -> Tensor:
        return torch.tensor(self.ledger.figures().get(self.name, torch.nan), dtype=torch.float64)
