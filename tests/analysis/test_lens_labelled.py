"""The lens on labelled data: each sequence as the model reads it, and what is to be said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloze import cli
from cloze.data.base import Choices, Labelled, Passage, Tagged
from cloze.data.tasks.world import WorldChoices, WorldClassification, WorldQuestions, WorldTagging

SIZES = {"train": 8, "validation": 8, "test": 8}
SMALL = [f"data.{name}={size}" for name, size in SIZES.items()]


def lines(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """What `show=8` prints of a small task's training examples."""
    capsys.readouterr()
    said = ["show=8", *SMALL, f"cache_dir={folder}", "tokenizer.vocabulary=900", "length=96", *words]
    assert cli._guarded(cli._train, said) == 0
    return capsys.readouterr().out.splitlines()


def asked(shown: list[str]) -> dict[int, list[str]]:
    """What is to be said of each example, by its number."""
    found: dict[int, list[str]] = {}
    number = -1
    for line in shown:
        if line.startswith("example "):
            number = int(line.split()[1].rstrip(":"))
        elif line.startswith("to be said: "):
            found.setdefault(number, []).append(line.removeprefix("to be said: "))
    return found


def test_classes_stand_with_their_examples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [r for r in WorldClassification("rte", **SIZES).split_records("train") if isinstance(r, Labelled)]
    shown = asked(lines(tmp_path, capsys, "data=world/rte"))
    assert shown == {number: [record.label] for number, record in enumerate(records)}


def test_both_orders_are_one_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = asked(lines(tmp_path, capsys, "data=world/mrpc", "objective.both_orders=true"))
    assert sorted(shown) == list(range(8)) and all(len(said) == 2 and len(set(said)) == 1 for said in shown.values())


def test_tags_stand_word_by_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [r for r in WorldTagging("unseen_words", **SIZES).split_records("train") if isinstance(r, Tagged)]
    shown = asked(lines(tmp_path, capsys, "data=world/unseen_words"))
    for number, record in enumerate(records):
        assert record.tags is not None
        assert shown[number] == [" ".join("–" if tag == "_" else tag for tag in record.tags[0])]


def test_options_and_the_right_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [r for r in WorldChoices("swag", **SIZES).split_records("train") if isinstance(r, Choices)]
    shown = asked(lines(tmp_path, capsys, "data=world/swag"))
    for number, record in enumerate(records):
        right = [place for place, said in enumerate(shown[number]) if said.endswith(", the right one")]
        assert len(shown[number]) == 4 and right == [record.label]


def test_answers_are_their_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = lines(tmp_path, capsys, "data=world/squad", "objective.question_length=16", "objective.stride=40")
    answers = {
        answer.text.lower()
        for record in WorldQuestions("squad", **SIZES).split_records("train")
        if isinstance(record, Passage)
        for question in record.questions
        for answer in question.answers
    }
    found, text = 0, []
    for line in printed:
        if line.startswith("example "):
            text = []
        elif line.startswith("to be said: tokens "):
            words = line.split()
            stretch = text[int(words[4]) : int(words[6]) + 1]
            assert " ".join(stretch).replace(" ##", "") in answers
            found += 1
        else:
            text += line.split()  # of a terminal's width
    assert found


def test_words_in_blanks_and_a_decoders_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data=world/sst2", "objective=verbalise", "objective.words={0: was, 1: the}"]
    assert asked(lines(tmp_path, capsys, *words))[0][0].startswith("the word of class ")
    printed = lines(tmp_path, capsys, "data=world/sst2", "model=bart", "objective=classify")
    assert any(line.startswith("decoder reads: ") for line in printed)
