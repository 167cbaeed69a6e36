"""A fine-tuned run says of texts what its own predictions file says, and transformers' class with its exported head says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import cloze
from cloze import cli
from cloze.data.base import Choices, Labelled, Passage, Tagged
from cloze.data.tasks.world import WorldChoices, WorldClassification, WorldQuestions, WorldTagging
from cloze.errors import Refusal
from cloze.loading import export

SIZES = {"train": 60, "validation": 12, "test": 12}
WORDS = [f"data.{split}={size}" for split, size in SIZES.items()]
SHORT = ["budget.steps=3", "size=tiny", "model.width=32", "model.inner=64", "model.layers=1", "batch_size=8", "tracking=none",
         "hardware.threads=1", "hardware=cpu", "hardware.precision=32", "tokenizer.vocabulary=600"]  # fmt: skip
THEIRS = {
    "mrpc": "AutoModelForSequenceClassification",
    "stsb": "AutoModelForSequenceClassification",
    "ner": "AutoModelForTokenClassification",
    "squad": "AutoModelForQuestionAnswering",
    "swag": "AutoModelForMultipleChoice",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run of each kind."""
    folder = tmp_path_factory.mktemp("judges")
    for task in THEIRS:
        words = [*SHORT, *WORDS, f"data=world/{task}", f"output_dir={folder / task}", f"cache_dir={folder / 'cache'}"]
        assert cli._guarded(cli._train, words) == 0
    return folder


def test_classes_are_those_of_the_predictions_file(runs: Path) -> None:
    loaded = cloze.load(runs / "mrpc")
    assert loaded.tasks[0] == loaded.task == "judge"
    records = [r for r in WorldClassification("mrpc", **SIZES).split_records("test") if isinstance(r, Labelled)]
    said = loaded.predict(["\t".join(record.sentences) for record in records])
    (file,) = _files(runs / "mrpc", "test")
    assert said == [line.split("\t")[1] for line in file.read_text(encoding="utf-8").splitlines()[1:]]


def _files(run: Path, split: str) -> list[Path]:
    """The predictions of a split; the leaderboard's name has no split for the test split."""
    found = sorted((run / "predictions").iterdir())
    others = [path for path in found if "validation" in path.name]
    return others if split == "validation" else [path for path in found if path not in others]


def test_tags_answers_and_choices_are_texts(runs: Path) -> None:
    (tagged, *_) = (r for r in WorldTagging("ner", **SIZES).split_records("test") if isinstance(r, Tagged))
    words = tagged.words[0]
    (said,) = cloze.load(runs / "ner").predict(" ".join(words))
    assert [pair.rpartition("/")[0] for pair in said.split()] == list(words)
    (passage, *_) = (r for r in WorldQuestions("squad", **SIZES).split_records("test") if isinstance(r, Passage))
    (said,) = cloze.load(runs / "squad").predict(f"{passage.questions[0].text}\t{passage.context}")
    assert said in passage.context
    (choice, *_) = (r for r in WorldChoices("swag", **SIZES).split_records("test") if isinstance(r, Choices))
    (said,) = cloze.load(runs / "swag").predict("\t".join([choice.context, choice.question, *choice.options]))
    assert said in choice.options


@pytest.mark.parametrize(("task", "text"), [("mrpc", "a\tb\tc"), ("squad", "no passage"), ("swag", "a\tb\tone option")])
def test_texts_that_do_not_fit_are_refused(task: str, text: str, runs: Path) -> None:
    with pytest.raises(Refusal, match=r"tab|option"):
        cloze.load(runs / task).predict(text)


@pytest.mark.parametrize("task", THEIRS)
def test_transformers_says_the_same_with_the_exported_head(task: str, runs: Path, tmp_path: Path) -> None:
    import transformers

    assert export(runs / task, tmp_path / "exported") == []
    theirs: Any = getattr(transformers, THEIRS[task]).from_pretrained(tmp_path / "exported").eval()
    loaded = cloze.load(runs / task)
    batch = loaded.encode(["clara lost the lamp.", "gustav found it"], ["it was green.", "in the garden"])
    assert loaded.judge is not None
    objective: Any = loaded.judge.objective
    with torch.no_grad():
        if task in ("ner", "squad"):
            states = loaded.hidden_states(**batch)
            real = batch["attention_mask"].bool()
            if task == "ner":
                torch.testing.assert_close(
                    theirs(**batch).logits[real], objective.tag_head(states)[real], atol=1e-5, rtol=0
                )
                return
            output = theirs(**batch)
            ours = objective.span_head(states)
            torch.testing.assert_close(output.start_logits[real], ours[..., 0][real], atol=1e-5, rtol=0)
            torch.testing.assert_close(output.end_logits[real], ours[..., 1][real], atol=1e-5, rtol=0)
            return
        first = loaded.hidden_states(**batch)[:, 0]
        pooled = torch.tanh(loaded.model.pooler(first))  # type: ignore[operator]
        if task == "swag":
            logits = theirs(**{name: tensor[None] for name, tensor in batch.items()}).logits[0]
            ours = objective.choice_head(pooled)[:, 0]
        else:
            logits, ours = theirs(**batch).logits, objective.heads[task](pooled)
    torch.testing.assert_close(logits, ours, atol=1e-5, rtol=0)
    names = theirs.config.id2label
    if task == "stsb":
        assert theirs.config.problem_type == "regression" and theirs.config.num_labels == 1
    elif task == "mrpc":
        assert [names[n] for n in sorted(names)] == list(objective.labels["mrpc"].names)


def test_what_their_head_has_no_place_for_is_said(runs: Path, tmp_path: Path) -> None:
    words = [*SHORT, *WORDS, "data=world/mrpc", "objective.pooling=mean", f"output_dir={tmp_path / 'run'}",
             f"cache_dir={runs / 'cache'}"]  # fmt: skip
    assert cli._guarded(cli._train, words) == 0
    (said,) = export(tmp_path / "run", tmp_path / "exported")
    assert said == "the head is left out: transformers' head has no place for objective.pooling=mean"
