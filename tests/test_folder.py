"""The run folder as a contract: what lies in it, who may write, how it is made."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "training"))
import jobs

from cloze.errors import Refusal
from cloze.folder import FOLDER_VARIABLE, RunFolder


def test_what_a_run_leaves(tmp_path: Path) -> None:
    facts = jobs.run(tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        ".lock", "config.yaml", "run.json", "metrics.jsonl", "checkpoints", "model", "samples.txt", "log.txt",
    }  # fmt: skip
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == facts
    assert facts["status"] == "done" and facts["reason"] is None and facts["steps"] == 12
    assert facts["parameters"]["model"] == sum(p.numel() for p in jobs.parts().model.parameters())
    assert len(facts["weights_sha256"]) == 64 and facts["metrics"]["val/loss"] > 0
    assert {"git", "versions", "machine", "command"} <= set(facts["provenance"])
    points = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(list(point)[:3] == ["step", "tokens", "seconds"] for point in points)
    assert [p["step"] for p in points if "train/loss" in p] == [3, 6, 9, 12]
    for split in ("train", "val"):  # a column that all arms of a study share
        assert all(p[f"{split}/loss_mlm"] == p[f"{split}/loss"] for p in points if f"{split}/loss" in p)
    assert [p["step"] for p in points if "val/loss" in p] == [5, 10, 12]
    assert [p["seconds"] for p in points] == sorted(p["seconds"] for p in points)
    from cloze.models.storage import read_model, weights_sha256

    stored = read_model(tmp_path / "run")
    assert weights_sha256(stored.weights) == facts["weights_sha256"]
    assert (tmp_path / "run" / "model" / "words.txt").exists()
    assert "step 12\n" in (tmp_path / "run" / "samples.txt").read_text()


def test_two_runs_of_the_same_second_get_two_folders(tmp_path: Path) -> None:
    folders = {RunFolder.take(None, None, "bert-mlm", root=tmp_path).path for _ in range(20)}
    assert len(folders) == 20 and all(path.is_dir() and "bert-mlm" in path.name for path in folders)
    assert len({path.parent for path in folders}) <= 2  # one a day


def test_auto_begins_what_has_not_begun(tmp_path: Path) -> None:
    folder = RunFolder.take(tmp_path / "run", "auto", "test")
    assert not folder.resumed and folder.path.is_dir()
    folder.record("running")
    assert RunFolder.take(tmp_path / "run", "auto", "test").resumed
    assert RunFolder.take(None, str(tmp_path / "run"), "test").resumed
    for output_dir, resume, message in [
        (None, "auto", "say which one, output_dir=FOLDER"),
        (None, tmp_path / "nowhere", "there is no such folder"),
        (None, tmp_path, "holds no run"),
        (tmp_path / "other", tmp_path / "run", "leave output_dir"),
    ]:
        with pytest.raises(Refusal, match=message):
            RunFolder.take(output_dir, None if resume is None else str(resume), "test")


def test_a_run_that_was_killed_while_it_began_begins_anew(tmp_path: Path) -> None:
    """Before run.json stands: whatever lies there by then is no reason to refuse, nor to leave it behind."""
    path = tmp_path / "run"
    with RunFolder.take(path, "auto", "test") as folder:
        folder.write("config.yaml", "seed: 1")
        folder.note("said")
        folder.checkpoints.mkdir()
        (folder.checkpoints / ".probe.tmp").touch()
        (path / ".run.json.x1.tmp").touch()
    again = RunFolder.take(path, "auto", "test")
    assert not again.resumed
    (path / "thesis.tex").touch()
    again.discard_if_fresh()
    with pytest.raises(Refusal, match="is not empty and holds no run"):
        RunFolder.take(path, "auto", "test")
    (path / "thesis.tex").unlink()
    again.discard_if_fresh()
    assert not path.exists()
    path.mkdir()
    (path / "config.yaml").write_text("somebody's own")
    with pytest.raises(Refusal, match="is not empty and holds no run"):
        RunFolder.take(path, "auto", "test")


def test_other_ranks_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunFolder.take(tmp_path / "run", None, "test"):
        assert os.environ[FOLDER_VARIABLE] == str(tmp_path / "run")
        monkeypatch.setenv("LOCAL_RANK", "1")
        joined = RunFolder.take(None, None, "test")
        assert joined.path == tmp_path / "run" and joined.follower
        with joined:
            joined.record("failed")
            joined.append("metrics.jsonl", "no")
            joined.note("no")
        monkeypatch.delenv("LOCAL_RANK")
    assert FOLDER_VARIABLE not in os.environ
    assert {path.name for path in (tmp_path / "run").iterdir()} == {".lock"}


def test_ranks_that_a_scheduler_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words are given again and again: the first time there is nothing to resume, for no rank."""
    monkeypatch.setenv("SLURM_PROCID", "1")
    for begun in (False, True):
        joined = RunFolder.take(tmp_path / "run", "auto", "test")
        assert joined.follower and joined.resumed is begun
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / "run.json").write_text("{}")
    assert RunFolder.take(None, str(tmp_path / "run"), "test").resumed


def test_a_line_cut_in_half_is_no_point(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append("metrics.jsonl", '{"step": 1}\n{"step": 2}\n{"st')
    assert [point["step"] for point in folder.points()] == [1, 2]
    folder.rewind({"metrics.jsonl": len('{"step": 1}\n')})
    assert [point["step"] for point in folder.points()] == [1]
