"""What goes wrong while running ends the run in one sentence, and leaves the last good checkpoint as it was."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import Any

import jobs
import pytest
import torch

from cloze.errors import Preempted, Refusal, RunFailure
from cloze.folder import RunFolder
from cloze.session import train
from cloze.training import checkpoints


def test_a_loss_that_is_no_number_never_touches_the_weights(tmp_path: Path) -> None:
    folder = RunFolder.take(tmp_path / "run", None, "test")
    made = jobs.parts(save_every=3)
    jobs.spoil(made, 7)  # steps count from 0
    with pytest.raises(RunFailure, match=r"norm is nan at step 8 \(training examples \d+(, \d+){7}\)") as fault:
        train(made, folder)
    assert fault.value.exit_code == 1
    facts = folder.facts()
    assert facts["status"] == "failed" and "norm is nan at step 8" in facts["reason"]
    assert all(bool(value.isfinite().all()) for value in made.model.state_dict().values())
    newest, _ = checkpoints.newest_valid(folder.checkpoints)
    assert newest is not None and checkpoints.step_of(newest) == 6
    # with the cause mended it goes on, to the weights of a run that never had it
    whole = jobs.run(tmp_path / "whole", save_every=3)
    assert jobs.run(folder.path, resume=True, save_every=3)["weights_sha256"] == whole["weights_sha256"]


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = jobs.run(tmp_path / "whole", save_every=4)
    save, limits = checkpoints.save, resource.getrlimit(resource.RLIMIT_FSIZE)

    def save_on_a_small_disk(content: Any, path: Path) -> None:
        if checkpoints.step_of(path) > 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            save(content, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_on_a_small_disk)
        with pytest.raises(RunFailure, match=r"no checkpoint could be written at step \d+: File too large"):
            jobs.run(folder, save_every=4)
    assert RunFolder(folder).facts()["status"] == "failed"
    assert [path.name for path in sorted((folder / "checkpoints").iterdir())] == [
        "step-00000004.ckpt",
        "step-00000004.json",
    ]
    assert jobs.run(folder, resume=True, save_every=4)["weights_sha256"] == whole["weights_sha256"]


def test_the_last_words_hold_language_against_language(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = jobs.run(tmp_path / "run", objective="mlm_sop", steps=2)
    loss, mlm = facts["metrics"]["val/loss"], facts["metrics"]["val/loss_mlm"]
    assert loss > mlm + 0.1  # the pair's
    assert f"validation loss {loss:.3f}, that of mlm {mlm:.3f} (unigram entropy 3.900)\n" in capsys.readouterr().out


def test_the_best_of_what_nobody_measures(tmp_path: Path) -> None:
    from cloze.training.checkpoints import Checkpointing

    with pytest.raises(
        Refusal, match=r"checkpoint\.best=val/los is nothing .* did you mean val/loss\?.*val/perplexity"
    ):
        jobs.run(tmp_path / "run", checkpoint=Checkpointing(best="val/los"))
    assert not (tmp_path / "run" / "run.json").exists()
    metrics = RunFolder(tmp_path / "all")
    facts = jobs.run(metrics.path, objective="mlm_sop", steps=1)["metrics"]
    for name in [name for name in facts if name.startswith("val/")]:  # each of those that a validation did report
        jobs.run(metrics.path, resume=True, objective="mlm_sop", steps=1, checkpoint=Checkpointing(best=name))


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(file: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    import cloze.folder

    with monkeypatch.context() as patch:
        patch.setattr(cloze.folder, "_reserve", no_room)
        with pytest.raises(Refusal, match=r"cannot take a checkpoint of .* MB: No space left on device"):
            jobs.run(tmp_path / "full")
    (tmp_path / "file").write_text("something")
    with pytest.raises(Refusal, match="is a file; expected a folder"):
        jobs.run(tmp_path / "file")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.tex").write_text("something")
    with pytest.raises(Refusal, match="is not empty and holds no run"):
        jobs.run(tmp_path / "used")
    with pytest.raises(Refusal, match=r"cannot be made: Not a directory"):
        jobs.run(tmp_path / "file" / "below")


def test_an_error_of_ours_goes_to_the_log(tmp_path: Path) -> None:
    made = jobs.parts()

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("twelve by nothing")

    made.objective.forward = broken  # type: ignore[method-assign]
    folder = RunFolder.take(tmp_path / "run", None, "test")
    with pytest.raises(RunFailure, match=r"ZeroDivisionError: twelve by nothing \(the traceback is in .*log\.txt\)"):
        train(made, folder)
    assert folder.facts()["status"] == "failed"
    assert "Traceback (most recent call last)" in folder.log.read_text() and "in broken" in folder.log.read_text()


def test_a_verdict_that_fails_costs_no_model(tmp_path: Path) -> None:
    from cloze.models.storage import read_model, weights_sha256

    made = jobs.parts(steps=3)

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("nothing to judge by")

    made.objective.verdict = broken  # type: ignore[method-assign]
    folder = RunFolder.take(tmp_path / "run", None, "test")
    with pytest.raises(RunFailure, match="ZeroDivisionError: nothing to judge by"):
        train(made, folder)
    assert folder.facts()["status"] == "failed" and (folder.model / "words.txt").exists()
    kept = weights_sha256(read_model(folder.path).weights)
    assert jobs.run(folder.path, resume=True, steps=3)["weights_sha256"] == kept  # the verdict alone is made up for


def test_ctrl_c_in_this_process(tmp_path: Path) -> None:
    made = jobs.parts(steps=200, save_every=None)
    forward = made.objective.forward

    def pressed(model: Any, batch: Any) -> Any:
        if batch.step == 2:
            os.kill(os.getpid(), 2)
        return forward(model, batch)

    made.objective.forward = pressed  # type: ignore[method-assign]
    folder = RunFolder.take(tmp_path / "run", None, "test")
    with pytest.raises(Preempted, match="stopped by SIGINT at step 3, with a checkpoint") as fault:
        train(made, folder)
    assert fault.value.exit_code == 130
    assert folder.facts()["status"] == "preempted"


def test_minutes_end_a_run(tmp_path: Path) -> None:
    facts = jobs.run(tmp_path / "run", minutes=0.02, steps=1)
    assert facts["status"] == "done" and 1.2 <= facts["seconds"] < 6
    assert facts["steps"] > 3 and facts["metrics"]["val/loss"] < 4.2
    rates = [p["train/learning_rate"] for p in RunFolder(tmp_path / "run").points() if "train/loss" in p]
    assert rates[-1] < max(rates) / 3  # the schedule follows the clock
    newest, _ = checkpoints.newest_valid(tmp_path / "run" / "checkpoints")
    assert newest is not None and checkpoints.step_of(newest) == facts["steps"]


def test_gradients_are_clipped_and_measured_before_it(tmp_path: Path) -> None:
    from cloze.training.optimizers import AdamW

    jobs.run(tmp_path / "run", optimizer=AdamW(clip_norm=1e-3), steps=3, log_every=1)
    norms = [p["train/gradient_norm"] for p in RunFolder(tmp_path / "run").points() if "train/loss" in p]
    assert len(norms) == 3 and all(norm > 0.1 for norm in norms)
    clipped: list[float] = []
    made = jobs.parts(optimizer=AdamW(clip_norm=0.01), steps=2)
    after = made.objective.after_step

    def look(model: Any, step: int) -> None:
        gradients = [p.grad for module in (made.model, made.objective) for p in module.parameters()]
        clipped.append(float(torch.nn.utils.get_total_norm(gradients)))
        after(model, step)

    made.objective.after_step = look  # type: ignore[method-assign]
    train(made, RunFolder.take(tmp_path / "clipped", None, "test"))
    assert clipped == pytest.approx([0.01, 0.01], rel=1e-3)


@pytest.mark.parametrize("objective", ["mlm", "mlm_sop"])
def test_static_shapes_change_nothing(tmp_path: Path, objective: str) -> None:
    from cloze.training.hardware import Hardware

    losses = {}
    for layout in ("packed", "padded"):
        hardware = Hardware(accelerator="cpu", precision=32, threads=1, layout=layout)  # type: ignore[arg-type]
        jobs.run(tmp_path / layout, objective=objective, dropout=0.0, hardware=hardware, log_every=1)
        losses[layout] = [p["train/loss"] for p in RunFolder(tmp_path / layout).points() if "train/loss" in p]
    assert losses["padded"] == pytest.approx(losses["packed"], rel=1e-4) and len(losses["padded"]) == 12


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_other_precisions_train(tmp_path: Path, precision: str) -> None:
    facts = jobs.run(tmp_path / "run", precision=precision)
    assert facts["metrics"]["val/loss"] < 4.1 and facts["hardware"]["precision"] == precision
