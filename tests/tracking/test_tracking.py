"""Trackers mirror a run and can never stop it."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import jobs

from cloze.folder import RunFolder
from cloze.tracking.base import TrackedRun, group_of
from cloze.tracking.local import LocalLogger
from cloze.tracking.tensorboard import TensorBoard
from cloze.tracking.wandb import Wandb, online_by_default


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # nothing configured
    (tmp_path / "home").mkdir()
    plain = jobs.run(tmp_path / "plain", steps=6)
    tracked = jobs.run(tmp_path / "run", steps=6, tracking=Wandb(tags=["try"]))
    assert tracked["weights_sha256"] == plain["weights_sha256"]
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert not list((tmp_path / "home").iterdir())  # nothing outside of the run folder
    said = capfd.readouterr()
    assert "wandb" not in (said.out + said.err).lower()
    import wandb

    assert wandb.run is None


def test_wandb_gets_every_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    class Run:
        config: dict[str, Any]
        points: list[dict[str, Any]]

        def __init__(self, **settings: Any) -> None:
            self.settings, self.points, self.id = settings, [], "x"

        def log(self, point: dict[str, Any]) -> None:
            self.points.append(point)

        def finish(self, exit_code: int) -> None:
            self.ended = exit_code

    runs: list[Run] = []
    monkeypatch.setattr(wandb, "init", lambda **settings: runs.append(Run(**settings)) or runs[-1])
    jobs.run(tmp_path / "run", steps=6, tracking=Wandb(project="p", tags=["try"], mode="offline"))
    (run,) = runs
    assert run.settings["project"] == "p" and run.settings["mode"] == "offline"
    assert run.settings["group"].startswith("bert-mlm-numbers-") and run.settings["job_type"] == "pretrain"
    assert run.settings["tags"] == ["BertMaskedLM", "bert", "mlm", "numbers", "try"] and run.settings["config"] == {
        "seed": 1
    }
    local = list(RunFolder(tmp_path / "run").points())
    mirrored = [dict(point) for point in run.points if "samples" not in point]
    assert [p["trainer/global_step"] for p in mirrored] == [p["step"] for p in local]
    assert all(p["train/loss"] == q["train/loss"] for p, q in zip(mirrored, local, strict=True) if "train/loss" in q)
    assert [type(p["samples"]).__name__ for p in run.points if "samples" in p] == ["Table", "Table"]
    assert run.ended == 0


def test_a_folder_is_one_wandb_run_until_it_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    begun: list[str] = []
    monkeypatch.setattr(wandb, "init", lambda **settings: begun.append(settings["id"]))
    for folder in ("run", "run", "other", "run"):
        if len(begun) == 3:
            shutil.rmtree(tmp_path / "run")
        (tmp_path / folder).mkdir(exist_ok=True)
        (logger,) = Wandb(mode="offline").loggers(TrackedRun("name", tmp_path / folder, {}, "group"))
        assert logger.experiment is not None
    assert begun[0] == begun[1] and len(set(begun)) == 3


@pytest.mark.parametrize("fault", ["raises", "hangs", "fails later"])
def test_wandb_cannot_stop_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import wandb

    class Broken:
        id = "x"

        def log(self, point: Any) -> None:
            raise OSError("the network is gone")

        def finish(self, exit_code: int) -> None:
            raise OSError("the network is still gone")

    def init(**_: Any) -> Any:
        if fault == "raises":
            raise wandb.errors.UsageError("api_key not configured (no-tty)")
        if fault == "hangs":
            time.sleep(60)
        return Broken()

    monkeypatch.setattr(wandb, "init", init)
    facts = jobs.run(tmp_path / "run", steps=6, tracking=Wandb(mode="online", timeout=0.2))
    assert facts["status"] == "done" and len(list(RunFolder(tmp_path / "run").points())) == 4
    warnings = [line for line in capsys.readouterr().err.splitlines() if "W&B could not" in line]
    assert len(warnings) == 1


def test_online_only_where_a_key_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not online_by_default()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password none\n")
    assert online_by_default()
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(PermissionError()))
    assert not online_by_default()
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert not online_by_default()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert Wandb().loggers(TrackedRun("name", tmp_path, {}, "group")) == []


def test_seeds_share_a_group() -> None:
    assert (
        group_of("n", {"seed": 1, "a": 2}) == group_of("n", {"seed": 2, "a": 2}) != group_of("n", {"seed": 1, "a": 3})
    )


def test_tensorboard(tmp_path: Path) -> None:
    jobs.run(tmp_path / "run", steps=6, tracking=TensorBoard())
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def test_local_lines_are_json(tmp_path: Path) -> None:
    logger = LocalLogger(RunFolder(tmp_path))
    logger.log_metrics({"train/loss": float("nan"), "tokens": 7, "seconds": 1.5}, step=3)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 3, "tokens": 7, "seconds": 1.5, "train/loss": null}\n'
