"""Hydra's launchers by name: those that run here train the same models as without one; others are refused with what would install them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloze import cli
from cloze.errors import Refusal
from cloze.folder import RunFolder
from cloze.multirun import EXTRAS, run_grid
from cloze.suites.process import Ended

SMALL = [
    "size=tiny", "length=32", "batch_size=8", "data.documents=120", "data.validation_documents=20", "data.test_documents=20",
    "validation.examples=8", "budget.steps=2", "tracking=none", "hardware.threads=1",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("launcher", "further"), [("joblib", ["hydra.launcher.n_jobs=2"]), ("submitit_local", []), ("ray", [])]
)
def test_a_launcher_runs_every_job_in_a_process_of_its_own(
    launcher: str,
    further: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if launcher == "ray":
        pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="needs pip install 'cloze[ray]'")
    monkeypatch.chdir(tmp_path)
    words = ["-m", *SMALL, "seed=1,2", f"hydra/launcher={launcher}", "hydra.sweep.dir=jobs", *further]
    monkeypatch.setattr("sys.argv", ["train.py", *words])
    assert cli._guarded(cli._train, words) == 0
    assert "2 of 2 jobs done: cloze compare jobs" in capfd.readouterr().out
    facts = [json.loads((tmp_path / "jobs" / n / "run.json").read_text(encoding="utf-8")) for n in ("0", "1")]
    assert [each["identity"]["seed"] for each in facts] == [1, 2] and all(each["status"] == "done" for each in facts)
    processes = {each["attempts"][0]["process"] for each in facts}
    assert len(processes) == 2


def test_a_job_that_is_refused_is_not_done_whatever_run_lies_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in ("0", "1"):
        (tmp_path / "jobs" / number).mkdir(parents=True)
        RunFolder(tmp_path / "jobs" / number).record("done")
    refused = Ended(2, "jobs/0 is another run: seed (1 there, 7 here)")
    monkeypatch.setattr("cloze.multirun._check_all", lambda jobs: None)
    monkeypatch.setattr("cloze.suites.process.train", lambda words: refused if "seed=7" in words else Ended(0))
    words = ["seed=7,8", "hydra/launcher=basic", "hydra.sweep.dir=jobs"]
    monkeypatch.setattr("sys.argv", ["train.py"])
    assert run_grid(words) == 1
    said = capsys.readouterr().out
    assert "job 0 (seed=7): jobs/0 is another run: seed (1 there, 7 here)" in said and "1 of 2 jobs done" in said
    monkeypatch.setattr("cloze.suites.process.train", lambda words: 1 / 0)  # a worker that ends before its job
    with pytest.raises(SystemExit):
        run_grid(words)
    assert not list((tmp_path / "jobs").glob("*.ended"))  # that of the last time


def test_a_launcher_that_is_not_there_is_refused_with_what_would_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "elsewhere", "far")
    with pytest.raises(Refusal, match=r"hydra/launcher=elsewhere is not installed: pip install 'cloze\[far\]'"):
        run_grid(["seed=1,2", "hydra/launcher=elsewhere"])
    with pytest.raises(Refusal, match=r"hydra/launcher=jobslib is not there; did you mean joblib\?"):
        run_grid(["seed=1,2", "hydra/launcher=jobslib"])
    with pytest.raises(Refusal, match=r"output_dir=x has no effect with a launcher of Hydra's"):
        run_grid(["seed=1,2", "hydra/launcher=joblib", "output_dir=x"])
