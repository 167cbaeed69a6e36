"""What the dashboard knows of runs on disk, while they are written, broken and taken away."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from cloze.dashboard.index import Index
from cloze.dashboard.series import Series, tail
from cloze.report.collect import AXES, Run, read
from tests.report.folders import job, write_run, write_study


def _point(step: int, **values: float | None) -> str:
    named = {key.replace("_", "/", 1): value for key, value in values.items()}
    return json.dumps({"step": step, "tokens": 64 * step, "seconds": step / 2, **named}) + "\n"


def test_points_are_read_as_they_are_appended(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    series = Series(file)
    assert not series.refresh()
    whole = _point(1, train_loss=3.0) + _point(2, train_loss=2.0, val_loss=2.5)
    file.write_text(whole + '{"step": 3, "train/lo', encoding="utf-8")
    assert series.refresh() and series.count == 2
    assert not series.refresh()
    with file.open("a", encoding="utf-8") as stream:
        stream.write('ss": 1.5}\n' + _point(4, train_loss=None))
    assert series.refresh()
    assert (series.count, series.broken) == (4, 0)
    assert series.last == {"val/loss": 2.5}  # the last training loss is no number
    assert series.curve("train/loss", "step", {}).x.tolist() == [1, 2, 3]


def test_curves_are_those_of_the_report(tmp_path: Path) -> None:
    points = [
        {
            "step": n,
            "tokens": 10 * n,
            "seconds": n / 3,
            "train/loss": 1 / n,
            **({"val/loss": 2 / n} if n % 3 == 0 else {}),
        }
        for n in range(1, 20)
    ]
    del points[5]["tokens"]
    run = write_run(tmp_path / "run", points=points, flops_per_token=7.0)
    series = Series(run.folder / "metrics.jsonl")
    series.refresh()
    for metric in ("train/loss", "val/loss", "val/none"):
        for axis in AXES:
            ours, theirs = series.curve(metric, axis, run.facts), run.curve(metric, axis)
            np.testing.assert_array_equal(ours.x, theirs.x)
            np.testing.assert_array_equal(ours.y, theirs.y)
    assert len(series.curve("val/loss", "flops", {}).x) == 0


@pytest.mark.parametrize(
    ("status", "metrics"), [("failed", None), ("done", None), ("done", {}), ("done", {"val/loss": None})]
)
def test_figures_are_those_of_the_report(tmp_path: Path, status: str, metrics: dict[str, float | None] | None) -> None:
    lines = [
        {"train/loss": 3.0, "val/loss": 2.0, "val/accuracy": 0.5, "judge/x": 1},
        {"train/loss": 2.0, "val/loss": None, "val/accuracy": None},
        {"train/loss": None, "val/accuracy": 0.75},
    ]
    points = [{"step": n, "tokens": n, "seconds": n, **line} for n, line in enumerate(lines, 1)]
    run = write_run(tmp_path / "run", status="running", points=points)
    index = Index(tmp_path)
    index.refresh()
    (run.folder / "run.json").write_text(json.dumps({**run.facts, "status": status, "metrics": metrics}))
    index.refresh()
    entry = index.find("run")
    assert entry is not None and dict(entry.figures) == dict(read(run.folder).figures)
    assert entry.figures == ({} if metrics else {"val/accuracy": 0.75, "judge/x": 1.0})


def test_a_file_that_was_cut_back_is_read_again(tmp_path: Path) -> None:
    """A resumed run cuts its file back to the checkpoint; by the next look it can be longer than it was."""
    file = tmp_path / "metrics.jsonl"
    first = _point(1, train_loss=3.0)
    file.write_text(first + _point(2, train_loss=2.0), encoding="utf-8")
    series = Series(file)
    series.refresh()
    with file.open("r+", encoding="utf-8") as stream:
        stream.truncate(len(first))
        stream.seek(0, os.SEEK_END)
        stream.write(_point(2, train_loss=2.25) + _point(3, train_loss=1.0))
    assert series.refresh()
    assert series.curve("train/loss", "step", {}).y.tolist() == [3.0, 2.25, 1.0]
    file.unlink()
    assert series.refresh() and series.count == 0


def test_lines_that_are_no_points_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1, "val/loss": 2}\nnot json\n[1]\n\x00\x00\n' + _point(2, val_loss=1.0), encoding="utf-8")
    series = Series(file)
    series.refresh()
    assert (series.count, series.broken) == (2, 3)
    assert series.last == {"val/loss": 1.0}


def test_the_end_of_a_text(tmp_path: Path) -> None:
    file = tmp_path / "log.txt"
    assert tail(file) == ""
    file.write_bytes(b"one\n" * 100 + "fünf\n".encode() + b"\xff\n")
    assert tail(file, 20).splitlines()[-2:] == ["fünf", "�"]
    assert len(tail(file, 20)) < 20


def test_what_changes_is_told_and_nothing_else(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run(tmp_path / f"run-{seed}", seed, {"val/loss": 2.0}, settings={"data": {"documents": 8}})
    index = Index(tmp_path)
    version = index.refresh()
    assert [entry.id for entry in index.since(0)] == ["run-1", "run-2"]
    assert index.refresh() == version and index.since(version) == []
    entry = index.find("run-1")
    assert entry is not None and entry.status == "done" and entry.seed == 1
    assert entry.settings["data.documents"] == 8 and entry.settings["model.layers"] == 2
    assert dict(entry.figures) == dict(Run(entry.run.folder, entry.run.facts).figures)

    with (tmp_path / "run-2" / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(_point(200, val_loss=1.0))
    later = index.refresh()
    assert [entry.id for entry in index.since(version)] == ["run-2"]

    shutil.rmtree(tmp_path / "run-1")
    assert index.refresh() > later and index.since(later) == []
    assert index.find("run-1") is None


def test_a_running_run_grows_and_stops(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run", status="running", points=[{"step": 1, "tokens": 1, "seconds": 1, "val/loss": 2.0}]
    )
    index = Index(tmp_path)
    index.refresh()
    entry = index.find("run")
    assert entry is not None and entry.status == "stopped" and entry.figures == {"val/loss": 2.0}  # nobody holds it
    assert entry.count("step") == 1
    with (run.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(_point(9, val_loss=1.0))
    index.refresh()
    assert entry.figures == {"val/loss": 1.0} and entry.count("step") == 9


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', "\x00"])
def test_a_record_that_cannot_be_read(tmp_path: Path, content: str) -> None:
    run = write_run(tmp_path / "good", figures={"val/loss": 2.0})
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text(content, encoding="utf-8")
    index = Index(tmp_path)
    index.refresh()
    assert {entry.id: entry.status for entry in index.all()} == {"good": "done", "bad": "unreadable"}
    (run.folder / "run.json").write_text(content, encoding="utf-8")  # what was known stands
    index.refresh()
    entry = index.find("good")
    assert entry is not None and entry.figures == {"val/loss": 2.0}


def test_records_of_something_else(tmp_path: Path) -> None:
    odd = {"identity": [1], "metrics": {"a/b": "x", "c/d": True}, "scores": {"validation": 3}, "name": None, "began": 5}
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "run.json").write_text(json.dumps({"status": "done", **odd}), encoding="utf-8")
    (tmp_path / "odd" / "config.yaml").write_text("a: [", encoding="utf-8")
    index = Index(tmp_path)
    index.refresh()
    (entry,) = index.all()
    assert (entry.run.name, entry.settings, entry.figures, entry.seed) == ("odd", {}, {}, None)


def test_a_look_takes_only_so_long_and_the_next_goes_on(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path / f"run-{seed}", seed, {"val/loss": 2.0}, settings={"data": {"documents": 8}})
    index = Index(tmp_path)
    index.refresh(seconds=0)
    assert len(index.all()) == 3 and index.behind == 2
    index.refresh(seconds=0)
    index.refresh(seconds=0)
    assert index.behind == 0
    assert all("data.documents" in entry.settings for entry in index.all())


def test_jobs_of_a_study_are_there_before_they_have_a_run(tmp_path: Path) -> None:
    study = write_study(
        tmp_path / "order",
        {"nsp": {1: {"val/loss": 2.0}}},
        jobs=[
            {**job("sop", 1), "status": "waiting"},
            {**job("sop", 2), "status": "failed", "reason": "killed by signal 9", "log_tail": ["step 3", "boom"]},
        ],
    )
    index = Index(tmp_path)
    index.refresh()
    entries = {entry.place.arm + str(entry.seed): entry for entry in index.all() if entry.place}
    assert {name: entry.status for name, entry in entries.items()} == {
        "nsp1": "done",
        "sop1": "waiting",
        "sop2": "failed",
    }
    assert entries["sop2"].reason == "killed by signal 9" and entries["sop2"].log == "step 3\nboom"

    write_run(entries["sop1"].run.folder, 1, {"val/loss": 1.0})
    (study / "study.json").write_text("{", encoding="utf-8")  # being written by something that does not replace it
    index.refresh()
    begun = index.find(entries["sop1"].id)
    assert begun is not None and begun.status == "done" and begun.place == entries["sop1"].place


def test_studies_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for folder in ("studies/grid-1", "studies/grid-2", "mine"):
        write_study(tmp_path / folder, {"a": {1: {"val/loss": 1.0}}})
    index = Index(tmp_path)
    index.refresh()
    assert {entry.place.study for entry in index.all() if entry.place} == {"grid-1", "grid-2", "mine"}
