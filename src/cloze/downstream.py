"""A fine-tuned model on every split of its task: figures, and predictions in the form that the benchmark's scorer takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cloze.data import keyed
from cloze.data.base import TaskCorpus, Text
from cloze.data.batches import batch_of
from cloze.data.records import tokenized_records
from cloze.errors import Refusal, RunFailure
from cloze.inference.reading import device_of, judging
from cloze.models.storage import write_atomically, write_json
from cloze.objectives.framing import RecordExamples
from cloze.objectives.supervised import Supervised

if TYPE_CHECKING:
    from cloze.objectives.base import Examples
    from cloze.objectives.ledger import Row
    from cloze.prepare import Prepared

AT_ONCE = 32  # examples of a batch


@dataclass(frozen=True)
class Outcome:
    """One split: its figures as fractions (none where it has no labels), and its submission's files with their content."""

    split: str
    examples: int
    figures: dict[str, float]
    files: dict[str, str]


def is_supervised(prepared: Prepared) -> bool:
    """Whether a run learns from labelled data."""
    return isinstance(prepared.objective, Supervised) and isinstance(prepared.corpus, TaskCorpus)


def outcomes(
    prepared: Prepared, splits: tuple[str, ...] = (), precision: str = "32", say: Callable[[str], Any] = print
) -> list[Outcome]:
    """The model on `splits`, all but the training split where none is named. `precision` as the run's validations had it."""
    corpus = prepared.corpus
    assert isinstance(corpus, TaskCorpus)
    known = corpus.splits()
    for split in splits:
        if split not in known:
            raise Refusal(f"{corpus.announcement}: there is no {split} split; it has {', '.join(known)}")
    found = []
    for split in splits or [each for each in known if each != "train"]:
        assert isinstance(prepared.builder, RecordExamples)
        texts = tokenized_records(corpus, split, prepared.tokenizer, prepared.builder.reworded)
        examples = prepared.builder.judge().build(texts, keyed.key("validation examples"))
        rows = seen(prepared, examples, precision)
        objective = prepared.objective
        assert isinstance(objective, Supervised)
        records = [record for record in texts.records if isinstance(record, Text)]
        answers = objective.answers(rows, records)
        found.append(Outcome(split, len(records), objective.score(rows), corpus.submission(split, records, answers)))
        figures = ", ".join(f"{name} {value:.4f}" for name, value in found[-1].figures.items())
        say(f"{split}: {len(records):,} examples · {figures or 'no labels'}")
    return found


def seen(prepared: Prepared, examples: Examples, precision: str) -> list[Row]:
    """What the objective notes of every example, in batches of similar length."""
    objective, model, builder = prepared.objective, prepared.model, prepared.builder.judge()
    assert isinstance(objective, Supervised)
    order = np.argsort(-examples.lengths, kind="stable")
    device, rows = device_of(model), []
    with judging(model, objective), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
        for start in range(0, len(order), AT_ONCE):
            mine = order[start : start + AT_ONCE]
            sample = builder.sample(examples, mine, keyed.keys(keyed.key("validation"), mine))
            batch = batch_of(sample, indices=mine.tolist()).to(device)
            rows += objective.told(model, objective(model, batch), batch)
    return rows


def write(found: list[Outcome], folder: Path) -> dict[str, dict[str, float]]:
    """predictions/ and scores.json below a run's folder; returns what scores.json says. Raises RunFailure where they cannot be written."""
    scores = {outcome.split: outcome.figures for outcome in found if outcome.figures}
    try:
        predictions = folder / "predictions"
        predictions.mkdir(parents=True, exist_ok=True)
        for outcome in found:
            for name, content in outcome.files.items():
                write_atomically(predictions / name, lambda path, text=content: path.write_text(text, encoding="utf-8"))  # type: ignore[misc]
        write_json(folder / "scores.json", scores)
    except OSError as error:
        raise RunFailure(f"{folder} cannot be written: {error.strerror or error}") from None
    return scores


def read_scores(folder: Path) -> dict[str, dict[str, float]]:
    """scores.json of a run; empty where it has none."""
    path = folder / "scores.json"
    content: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content
