"""The benchmark of the generated language's tasks: its arithmetic, the answer that is most frequent, and what is not run again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import world_tasks
from benchmarks.world_tasks import Row


def test_what_a_row_says() -> None:
    row = Row("mnli", 0.35, [0.41, 0.43, 0.45], [0.81, 0.82, 0.83])
    assert row.closed == pytest.approx((0.43 - 0.35) / 0.65) and row.clear is True
    assert Row("mnli", 0.35, [0.43, 0.43], [0.46, 0.46]).clear is False  # no scatter, but less than 0.05
    assert (
        Row("mnli", 0.35, [0.30, 0.50, 0.40], [0.38, 0.62, 0.50]).clear is False
    )  # a mean 0.1 higher, errors 0.06 and 0.07
    assert Row("mnli", 0.35, [0.40], [0.90]).clear is None
    header, _, line, _, counts = world_tasks.table([row]).splitlines()
    assert header.count("|") == line.count("|") == 9
    assert line == "| mnli | accuracy | 0.35 | 0.430 ± 0.020 | 0.820 ± 0.010 | 1.00 | 0.12 | yes |"
    assert counts == "scratch goes 0.6 of the way or less: 1 of 1; pre-trained clearly above scratch: 1 of 1"


def test_majorities() -> None:
    assert 0.25 <= world_tasks.majority("race") < 0.33
    assert 0.33 <= world_tasks.majority("mnli") < 0.40
    assert world_tasks.majority("squad2") == pytest.approx(0.5, abs=0.02)
    assert world_tasks.majority("cola") == world_tasks.majority("squad") == 0.0
    assert 0.125 < world_tasks.majority("unseen_words") < 0.3  # eight classes


def test_runs_are_made_once_and_differ_in_scratch_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[list[str]] = []

    def run(words: Sequence[str], folder: Path) -> float:
        said.append(list(words))
        folder.mkdir(parents=True)
        value = 0.5 if "finetune=scratch" in words else 0.9
        (folder / "scores.json").write_text(json.dumps({"validation": {}, "test": {"accuracy": value}}))
        return 1.0

    monkeypatch.setattr(world_tasks, "run", run)
    (tmp_path / "run/model").mkdir(parents=True)
    words = ["--tasks", "race", "--seeds", "2", "--init", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    assert world_tasks.main(words) == 0
    for scratch, pretrained in zip(said[::2], said[1::2], strict=True):
        assert set(scratch) - set(pretrained) == {"finetune=scratch"} and len(scratch) == len(pretrained) + 1
    assert len(said) == 4 and sum("finetune=scratch" in each for each in said) == 2
    assert "| race | accuracy |" in capsys.readouterr().out
    assert world_tasks.main([*words, "--table"]) == 0 and world_tasks.main(words) == 0
    assert len(said) == 4
    assert "0.500 ± 0.000 | 0.900 ± 0.000" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        world_tasks.main(["--tasks", "race", "--init", str(tmp_path / "nothing"), "--out", str(tmp_path / "out")])
