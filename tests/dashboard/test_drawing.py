"""What is told of the runs that are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cloze.dashboard import drawing as drawn
from cloze.dashboard.charts import Look
from cloze.dashboard.index import Index
from tests.report.folders import write_run


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Four runs that failed, two without figures of validation, only one with FLOPs a token."""
    for seed, name in enumerate("abcd", 1):
        figures = {"train/loss": 2.0 + seed}
        if seed < 3:
            figures |= {"val/loss": 2.0 + seed, "val/accuracy": 0.5}
        points = [{"step": n, "tokens": n, "seconds": n, **figures} for n in (1, 2)]
        rate = 7.0 if seed == 1 else None
        write_run(tmp_path / name, seed, points=points, status="failed", name=name, flops_per_token=rate)
    found = Index(tmp_path)
    found.refresh()
    return found


def _drawing(index: Index, look: Look, by: str | None = None, ids: Sequence[str] = "abcd") -> dict[str, Any]:
    answer = drawn.drawing(index, {"ids": list(ids), "of": len(ids), "selected": True}, look, by)
    assert answer is not None
    return answer


def test_runs_that_are_too_many_are_told(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _drawing(index, Look(["train/loss"]))["note"] == "4 selected runs"
    monkeypatch.setattr(drawn, "MOST", 3)
    answer = _drawing(index, Look(["train/loss"]))
    assert len(answer["figure"]["data"]) == 3 and answer["note"] == "the first 3 of 4 selected runs"


@pytest.mark.parametrize(
    ("look", "lines", "told"),
    [
        (Look(["val/loss"]), 2, ["without val/loss: c; d"]),
        (Look(["val/loss", "train/loss", "val/accuracy"]), 8, ["without val/loss, val/accuracy: c; d"]),
        (Look(["val/loss"], "flops"), 1, ["without val/loss or FLOPs a token: b; c; d"]),
        (Look(["val/loss", "val/none"]), 2, ["without val/loss: c; d", "without val/none: all"]),
    ],
)
def test_runs_that_have_no_curve_are_named(index: Index, look: Look, lines: int, told: list[str]) -> None:
    answer = _drawing(index, look)
    assert len(answer["figure"]["data"]) == lines
    assert answer["note"] == " · ".join(["4 selected runs", *told])


def test_only_the_first_that_have_no_curve_are_named(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn, "NAMED", 1)
    assert _drawing(index, Look(["val/loss"]))["note"].endswith("without val/loss: c and 1 more")


def test_what_is_said_of_groups_holds_where_no_run_is_done(index: Index) -> None:
    told = str(_drawing(index, Look(["val/loss"]), "model.layers")["groups"])
    assert "4 failed" in told and "3.50 ± 0.71 (2 of 4)" in told
    assert "over a group's runs that are done (all, where none is) and have the figure; in brackets" in told
