"""The arithmetic of what pre-training pays, against scipy and by hand; nothing is trained."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from scipy import stats

from benchmarks import pretraining_pays as pays


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    ours, theirs = [71.2, 69.0, 73.5, 70.1], [65.0, 66.1, 64.2, 67.9]
    mean, half = pays.interval([a - b for a, b in zip(ours, theirs, strict=True)])
    low, high = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_the_table_by_hand() -> None:
    lines = pays.table({"mrpc": {"pre-trained": [80.0, 82.0, 84.0], "scratch": [80.0, 80.0, 80.0]}})
    # differences 0, 2, 4: mean 2, deviation 2, Student's t for two degrees of freedom 4.303
    assert lines[2] == "| paraphrase (MRPC, all) | f1 | 82.0 ± 2.0 | 80.0 ± 0.0 | +2.0 ± 5.0 |"


def test_what_is_there_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "ud-scratch-2"
    folder.mkdir()
    (folder / "scores.json").write_text(json.dumps({"validation": {"accuracy": 0.5}}), encoding="utf-8")
    (folder / "metrics.jsonl").write_text(
        '{"step": 10, "train/loss": 2.0}\n{"step": 10, "val/loss": 3.0}\n', encoding="utf-8"
    )
    monkeypatch.setattr(pays.subprocess, "run", lambda *_, **__: pytest.fail("a run was started"))
    given = argparse.Namespace(out=tmp_path, data=tmp_path, init=tmp_path, world=tmp_path)
    assert pays.run("ud", "scratch", 2, given) == folder
    assert pays.score(folder, "ud") == 50.0
    assert pays.curve(folder) == [(10, 2.0)]
