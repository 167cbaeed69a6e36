"""Run folders and studies on disk as training leaves them, without training: what tests of the report read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cloze.report.collect import Run, read

BERT = {
    "model._target_": "cloze.models.bert.BERT",
    "model.layers": 2,
    "objective._target_": "cloze.objectives.mlm.MaskedLM",
    "budget.steps": 100,
    "batch_size": 16,
    "init": None,
    "data": "d1",
    "tokenizer": "t1",
}


def write_run(
    folder: Path,
    seed: int = 1,
    figures: Mapping[str, float | None] | None = None,
    *,
    identity: Mapping[str, Any] | None = None,
    points: Sequence[Mapping[str, Any]] | None = None,
    status: str = "done",
    words: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    **facts: Any,
) -> Run:
    """A run of BERT that ended with `figures`. `identity`: what differs from `BERT`; `points`: of metrics.jsonl; `facts`: of run.json."""
    folder.mkdir(parents=True)
    figures = {} if figures is None else figures
    decides = {**BERT, **(identity or {}), "seed": seed}
    record = {
        "format": 1,
        "status": status,
        "reason": None,
        "name": "bert-mlm-world",
        "identity": decides,
        "provenance": {"words": list(words), "directory": str(folder.parent)},
        **({"metrics": figures, "ended": "2026-01-01T00:00:00+00:00"} if status == "done" else {}),
        **facts,
    }
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    lines = [{"step": 100, "tokens": 6400, "seconds": 1.0, **figures}] if points is None else points
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    config = {"seed": seed, "length": 64, **(settings or {})}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return read(folder)


def write_study(
    folder: Path,
    done: Mapping[str, Mapping[int, Mapping[str, float | None]]],
    /,
    *,
    identities: Mapping[str, Mapping[str, Any]] | None = None,
    jobs: Sequence[Mapping[str, Any]] = (),
    **facts: Any,
) -> Path:
    """A study with runs that are `done`: {arm: {seed: figures}}. `jobs`: further entries of study.json; `facts`: of study.json."""
    entries = []
    for arm, seeds in done.items():
        for seed, figures in seeds.items():
            identity = {"objective.arm": arm} if identities is None else identities[arm]
            write_run(folder / "runs" / f"{arm}-{seed}", seed, figures, identity=identity)
            entries.append(job(arm, seed))
    record = {
        "format": 1,
        "name": folder.name,
        "question": "Is it better?",
        "words": [],
        "arms": {arm: [f"objective.arm={arm}"] for arm in done},
        "seeds": sorted({seed for seeds in done.values() for seed in seeds}),
        "baseline": next(iter(done), None),
        "metrics": [{"key": "val/accuracy", "title": "accuracy", "higher_is_better": True}],
        "budget": None,
        "after": {},
        "jobs": [*entries, *jobs],
        **facts,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def job(arm: str, seed: int, evaluation: str | None = None, status: str = "done", **facts: Any) -> dict[str, Any]:
    """An entry of study.json's jobs."""
    name = f"{arm}-{seed}" + (f"-{evaluation}" if evaluation else "")
    entry = {"name": name, "arm": arm, "seed": seed, "evaluation": evaluation, "folder": f"runs/{name}"}
    return {**entry, "status": status, "reason": None, **facts}
