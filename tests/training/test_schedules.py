"""Schedules against closed forms and transformers' own."""

from __future__ import annotations

import math

import pytest
import torch

from cloze.errors import Refusal
from cloze.training.schedules import Constant, Cosine, InverseSquareRoot, Linear, Schedule, SlantedTriangular

TOTAL = 100


def curve(schedule: Schedule, total: int = TOTAL) -> list[float]:
    return [schedule.factor(step, total) for step in range(total)]


def test_linear_is_transformers() -> None:
    """Theirs begins with an update at a rate of 0; ours is the same curve one step further into the warm-up."""
    from transformers import get_linear_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_linear_schedule_with_warmup(optimizer, 10, TOTAL)
    expected = []
    for _ in range(TOTAL):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    ours = curve(Linear(warmup=10))
    assert ours[10:] == pytest.approx(expected[10:])
    assert ours[:10] == pytest.approx(expected[1:11])
    assert curve(Linear(warmup=0.1)) == ours  # a share of the budget


def test_cosine_is_torchs() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, TOTAL, eta_min=0.1)
    expected = []
    for _ in range(TOTAL):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    assert curve(Cosine(warmup=0, floor=0.1)) == pytest.approx(expected)


def test_inverse_square_root() -> None:
    """T5's 1 / sqrt(max(step, k)), and the Transformer's min(step^-1/2, step * k^-3/2), both scaled to 1 at their top."""
    flat = InverseSquareRoot(warmup=16, rise="flat")
    assert curve(flat) == pytest.approx([math.sqrt(16 / max(step, 16)) for step in range(TOTAL)])
    noam = InverseSquareRoot(warmup=16)
    assert curve(noam)[16:] == pytest.approx([4 * step**-0.5 for step in range(16, TOTAL)])
    assert curve(noam)[:16] == pytest.approx([4 * step * 16**-1.5 for step in range(1, 17)])


def test_slanted_triangular() -> None:
    """ULMFiT's formulas 3, word for word."""
    share, ratio = 0.1, 32
    cut = math.floor(TOTAL * share)
    expected = []
    for t in range(TOTAL):
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / share - 1))
        expected.append((1 + p * (ratio - 1)) / ratio)
    assert curve(SlantedTriangular(warmup=share, ratio=ratio)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "schedule", [Constant(), Linear(), Cosine(), InverseSquareRoot(warmup=10), SlantedTriangular()]
)
@pytest.mark.parametrize("total", [1, 2, 100])
def test_in_bounds(schedule: Schedule, total: int) -> None:
    factors = curve(schedule, total)
    assert all(0 < factor <= 1 for factor in factors)
    assert curve(Constant(warmup=4), 6) == [0.25, 0.5, 0.75, 1, 1, 1]


def test_the_end_is_the_budgets() -> None:
    assert Linear(warmup=0).factor(99, 100) == pytest.approx(0.01)
    assert Linear(warmup=0, floor=0.2).factor(100, 100) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(warmup=-1), r"schedule\.warmup=-1"),
        (lambda: Cosine(floor=1.5), r"schedule\.floor=1\.5"),
        (lambda: SlantedTriangular(ratio=0.5), r"schedule\.ratio=0\.5"),
        (lambda: Constant(warmup=math.inf), r"schedule\.warmup=inf"),
    ],
)
def test_refusals(make: object, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        make()  # type: ignore[operator]
