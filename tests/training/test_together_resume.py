"""Several objectives together: a run that is stopped and resumed ends in bitwise the weights of one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jobs
import pytest
import torch
from test_resume import curve, interrupted

from cloze.folder import RunFolder
from cloze.models.bert import Bert
from cloze.objectives.together import Together

MLM = {"_target_": "cloze.objectives.mlm.MaskedLM"}
SETTINGS = {"mlm": MLM, "sop": {**MLM, "pair": "sop", "format": "segment_pair"}}


def settings(mix: Any, **more: Any) -> dict[str, Any]:
    """Fresh parts of a run with two objectives, one of which gets more to say as steps go by."""
    made: dict[str, Any] = {"of": ["mlm", "sop"], "weights": {"sop": "0:0.2,8:2"}, "settings": SETTINGS, "mix": mix}
    builder = Together.Examples(jobs.VOCABULARY, 32, **made)
    torch.manual_seed(1)
    model = Bert(jobs.SIZE, 32, pooler=True, layers=1, width=16, heads=2, inner=32, positions=32)
    return {
        "objective": Together(model, jobs.VOCABULARY, **made), "model": model, "builder": builder,
        "train": builder.build(jobs.corpus(40, 1), 1), "validation": builder.judge().build(jobs.corpus(8, 2), 2),
        **more,
    }  # fmt: skip


@pytest.mark.parametrize(("mix", "workers", "micro"), [("sum", 0, None), ("alternate", 1, 2)])
def test_stopped_and_resumed_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mix: str, workers: int, micro: int | None
) -> None:
    cut = {"workers": workers, "micro": micro}
    whole = jobs.run(tmp_path / "whole", **settings(mix, **cut))
    folder = tmp_path / "stopped"
    for at in (3, 7):
        interrupted(folder, monkeypatch, at, **settings(mix, **cut))
    resumed = jobs.run(folder, resume=True, **settings(mix, **cut))
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    assert resumed["steps"] == 12 and resumed["tokens"] == whole["tokens"]
    assert curve(folder) == curve(tmp_path / "whole")
    names = {name for point in RunFolder(folder).points() for name in point}
    assert {"val/loss_mlm/mlm", "val/loss_sop/pair", "val/mlm/accuracy", "val/sop/pair_accuracy"} <= names


def test_the_cut_does_not_change_the_curve(tmp_path: Path) -> None:
    """A step of one part or four: the same means, but for the order of additions."""
    losses = {}
    for micro in (None, 2):
        made = settings("sum", micro=micro)
        for module in made["model"].modules():
            for name in ("dropout", "sublayer_dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
        jobs.run(tmp_path / str(micro), **made)
        losses[micro] = [p["train/loss"] for p in RunFolder(tmp_path / str(micro)).points() if "train/loss" in p]
    assert losses[None] == pytest.approx(losses[2], rel=1e-4)
