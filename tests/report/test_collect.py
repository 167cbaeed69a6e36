"""Runs as read from disk: what their figures and curves are, and whether one that says that it runs does."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cloze.errors import Refusal
from cloze.folder import RunFolder
from cloze.report.collect import Run, find, read
from tests.report.folders import job, write_run, write_study

HOLDER = """
import sys, pathlib
from cloze.folder import RunFolder
with RunFolder(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_run_that_says_running_is_stopped_unless_a_process_holds_its_folder(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", status="running")
    assert run.status == "stopped"  # no .lock at all
    (tmp_path / "run" / ".lock").write_text("process 1 on h\n", encoding="utf-8")
    assert read(run.folder).status == "stopped"
    words = [sys.executable, "-c", HOLDER, str(run.folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert read(run.folder).status == "running"
        with pytest.raises(Refusal, match="is in use by process"):  # asking has not taken the lock away
            RunFolder(run.folder).lock()
        holder.kill()
        holder.wait()
    assert read(run.folder).status == "stopped"


def test_asking_never_stands_in_the_way_of_a_run_that_begins(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", status="running").folder
    (folder / ".lock").touch()
    words = "import sys, pathlib\nfrom cloze.folder import RunFolder\nfolder = RunFolder(pathlib.Path(sys.argv[1]))\n"
    words += "print('ready', flush=True)\nwhile True: folder.is_held()\n"
    with subprocess.Popen([sys.executable, "-c", words, str(folder)], stdout=subprocess.PIPE, text=True) as asker:
        assert asker.stdout is not None and asker.stdout.readline() == "ready\n"
        end = time.monotonic() + 0.5
        taken = 0
        while time.monotonic() < end:
            with RunFolder(folder):
                taken += 1
        asker.kill()
    assert taken > 10


def test_the_process_that_holds_a_folder_keeps_it_when_it_asks(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", status="running").folder
    (tmp_path / "link").symlink_to(folder)
    ask = (
        "import sys, pathlib\nfrom cloze.folder import RunFolder\nprint(RunFolder(pathlib.Path(sys.argv[1])).is_held())"
    )
    with RunFolder(folder):
        assert read(folder).status == "running" and read(tmp_path / "link").status == "running"
        seen = subprocess.run([sys.executable, "-c", ask, str(folder)], capture_output=True, text=True, check=True)
        assert seen.stdout == "True\n"  # closing a file that it had opened to ask would have given the lock away


def test_a_run_that_ends_while_it_is_read_is_not_called_stopped(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", status="running").folder
    run = read(folder)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8")) | {"status": "done"}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert run.status == "done"


@pytest.mark.parametrize("status", ["done", "failed", "preempted"])
def test_other_states_are_as_recorded(tmp_path: Path, status: str) -> None:
    assert write_run(tmp_path / "run", status=status).status == status


def test_figures_are_the_last_values(tmp_path: Path) -> None:
    points = [
        {"step": 1, "train/loss": 5.0, "val/loss": 4.0},
        {"step": 2, "val/loss": 3.0, "val/accuracy": 0.5},
        {"step": 3, "train/loss": 2.0, "val/accuracy": None},
    ]
    running = write_run(tmp_path / "running", points=points, status="running")
    assert running.figures == {"train/loss": 2.0, "val/loss": 3.0}  # the last accuracy was not a number
    done = write_run(tmp_path / "done", figures={"val/loss": 2.5, "val/x": float("nan"), "val/y": None}, points=points)
    assert done.figures == {"val/loss": 2.5}
    scored = write_run(tmp_path / "scored", figures={"val/loss": 1.0}, scores={"validation": {"f1": 0.25}})
    assert scored.figures == {"val/loss": 1.0, "score/validation/f1": 0.25}
    evaluated = Run(done.folder, done.facts, {"mrpc": scored})
    assert evaluated.figures == {"val/loss": 2.5, "mrpc:val/loss": 1.0, "mrpc:score/validation/f1": 0.25}


def test_a_run_that_goes_on_has_not_the_figures_of_its_first_end(tmp_path: Path) -> None:
    points = [{"step": 200, "val/loss": 2.0}]
    run = write_run(tmp_path / "run", points=points, status="running", metrics={"val/loss": 3.0})
    assert run.figures == {"val/loss": 2.0}


def test_curves(tmp_path: Path) -> None:
    points = [
        {"step": 1, "tokens": 10, "seconds": 0.5, "val/loss": 4.0},
        {"step": 2, "tokens": 20, "seconds": 1.0, "train/loss": 3.0},
        {"step": 3, "tokens": 30, "seconds": 1.5, "val/loss": None},
        {"step": 4, "tokens": 40, "seconds": 2.0, "val/loss": 2.0},
    ]
    run = write_run(tmp_path / "run", points=points, flops_per_token=100)
    for axis, expected in (("step", [1, 4]), ("tokens", [10, 40]), ("flops", [1000, 4000]), ("seconds", [0.5, 2])):
        curve = run.curve("val/loss", axis)  # type: ignore[arg-type]
        np.testing.assert_array_equal(curve.x, expected)
        np.testing.assert_array_equal(curve.y, [4.0, 2.0])
    without = write_run(tmp_path / "without", points=points)
    assert len(without.curve("val/loss", "flops").x) == 0 and len(without.curve("val/loss").x) == 2
    np.testing.assert_array_equal(Run(without.folder, without.facts, {"e": run}).curve("e:val/loss").y, [4.0, 2.0])


def test_lines_that_are_no_points_are_left_out_and_counted(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", points=[{"step": 1, "val/loss": 4.0}])
    with (run.folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 2, "val/lo\n[1]\n\xff\n{"step": 3, "val/loss": 3.0}\n{"step": 4')
    np.testing.assert_array_equal(run.curve("val/loss").x, [1, 3])
    assert run.unreadable_lines() == 3


def test_a_name_that_a_terminal_would_obey_is_shown_harmlessly(tmp_path: Path) -> None:
    assert write_run(tmp_path / "run", name="a\x1b[31m\nb").name == "a\ufffd[31m\ufffdb"


def test_settings_are_flat_and_references_resolved(tmp_path: Path) -> None:
    settings = {"model": {"layers": 2, "inner": "${length}"}, "data": {"path": "a ${length} b"}, "name": None}
    run = write_run(tmp_path / "run", settings=settings)
    assert run.settings["model.inner"] == 64 and run.settings["data.path"] == "a ${length} b"
    assert run.seed == 1


def test_runs_are_found_below_folders_once(tmp_path: Path) -> None:
    for name in ("b", "a/deep", "a/other"):
        write_run(tmp_path / name)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{", encoding="utf-8")
    (tmp_path / "again").symlink_to(tmp_path / "b")
    runs, unread = find(tmp_path / "a", tmp_path, tmp_path / "again")
    assert [run.folder for run in runs] == [tmp_path / "a/deep", tmp_path / "a/other", tmp_path / "b"]
    assert unread == [tmp_path / "broken"]
    with pytest.raises(Refusal, match="is not a folder"):
        find(tmp_path / "nowhere")
    with pytest.raises(Refusal, match="holds no run"):
        read(tmp_path / "broken")


@pytest.mark.parametrize("folder", ["../../outside", "/etc"])
def test_a_studys_jobs_are_below_it(tmp_path: Path, folder: str) -> None:
    from cloze.report.studies import read_study

    study = write_study(tmp_path / "s", {"a": {1: {}}}, jobs=[job("a", 2) | {"folder": folder}])
    with pytest.raises(Refusal, match="is not below the study's"):
        read_study(study)


def test_a_study_is_read_as_its_file_has_it(tmp_path: Path) -> None:
    from cloze.report.studies import is_study, read_study

    arms = {"a": {1: {"val/accuracy": 0.5}}, "b": {1: {"val/accuracy": 0.6}}}
    failed = job("b", 2, status="failed", reason="out of memory", exit_code=137, log_tail="…")
    folder = write_study(tmp_path / "s", arms, jobs=[failed], seeds=[1, 2], after={"mrpc": ["data=world/mrpc"]})
    study = read_study(folder)
    assert is_study(folder) and not is_study(tmp_path)
    assert (study.name, study.baseline, list(study.arms), study.seeds) == ("s", "a", ["a", "b"], [1, 2])
    assert study.evaluations == ["mrpc"] and study.metrics[0].title == "accuracy"
    last = study.jobs[-1]
    assert (last.arm, last.seed, last.status, last.reason) == ("b", 2, "failed", "out of memory")
    assert last.folder == folder / "runs/b-2" and last.facts["exit_code"] == 137


@pytest.mark.parametrize("content", ["{", "[]", '{"name": "s"}', '{"name": "s", "arms": {"a": []}, "seeds": ["x"]}'])
def test_a_file_that_is_no_study_is_refused(tmp_path: Path, content: str) -> None:
    from cloze.report.studies import read_study

    with pytest.raises(Refusal, match="holds no study"):
        read_study(tmp_path)
    (tmp_path / "study.json").write_text(content, encoding="utf-8")
    with pytest.raises(Refusal, match=r"study\.json"):
        read_study(tmp_path)
