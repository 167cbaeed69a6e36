"""The world's tasks without files: the same records as the readers of the originals find in the files that are written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloze.compose import as_settings, compose
from cloze.data.base import NO_TAG, Choices, Labelled, Passage, Record, SourceTarget, Tagged, TaskCorpus
from cloze.data.tasks.choices import Race, Swag
from cloze.data.tasks.conll import Conll
from cloze.data.tasks.glue import Glue
from cloze.data.tasks.lambada import Lambada, LastWord
from cloze.data.tasks.minimal_pairs import Blimp
from cloze.data.tasks.nli import Xnli
from cloze.data.tasks.pairs import Pairs
from cloze.data.tasks.squad import Squad
from cloze.data.tasks.superglue import SuperGlue
from cloze.data.tasks.world import (
    WorldChoices,
    WorldClassification,
    WorldFacts,
    WorldLastWords,
    WorldMinimalPairs,
    WorldQuestions,
    WorldSummary,
    WorldTagging,
    WorldTranslation,
    WorldXnli,
)
from cloze.data.world.tasks import write_tasks
from cloze.errors import Refusal
from cloze.recipes import completed
from cloze.schema import locate

ROOT = Path(__file__).parents[3]
TRAIN, DEV, TEST = 64, 80, 16
GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    write_tasks(folder, train=TRAIN, dev=DEV, test=TEST)
    return folder


def bare(record: Record) -> Record:
    """Without where it stands, which differs, and for words to be tagged, whose files number nothing, without that number."""
    if isinstance(record, Tagged):
        return replace(record, where="", id="")
    return replace(record, where="")  # type: ignore[call-arg]


def unlabelled(record: Any) -> Any:
    """As a test file of the benchmark has it."""
    if isinstance(record, Passage):
        return record
    return replace(record, where="", label=None)


def same(made: TaskCorpus, read: TaskCorpus, splits: tuple[str, ...] = ("train", "validation")) -> None:
    for split in splits:
        assert [bare(record) for record in made.split_records(split)] == [
            bare(record) for record in read.split_records(split)
        ]


@pytest.mark.parametrize("task", GLUE)
def test_glue_shaped_tasks_are_those_of_the_files(folder: Path, task: Any) -> None:
    train = TRAIN // 8 if task in ("rte", "wnli") else TRAIN
    made, read = WorldClassification(task, train, DEV, TEST), Glue(task, str(folder))
    assert made.labels == read.labels
    assert set(made.splits()) == set(read.splits())
    mismatched = tuple(split for split in made.splits() if split.endswith("_mismatched"))
    same(made, read, ("train", "validation", *(split for split in mismatched if not split.startswith("test"))))
    for split in ("test", *(split for split in mismatched if split.startswith("test"))):
        told = list(made.split_records(split))
        assert [unlabelled(record) for record in told] == [replace(r, where="") for r in read.split_records(split)]  # type: ignore[call-arg]
        assert all(isinstance(record, Labelled) and record.label is not None for record in told)


@pytest.mark.parametrize(("task", "file"), [("pos", "POS/world-{}.conllu"), ("ner", "NER/{}.txt"), ("srl", "SRL/{}.txt"),
                                            ("constituents", "Constituents/{}.txt"), ("unseen_words", "UnseenWords/{}.txt")])  # fmt: skip
def test_tagged_words_are_those_of_the_files(folder: Path, task: Any, file: str) -> None:
    documents = task in ("pos", "ner")
    few = TRAIN // 8
    sizes = (few, DEV // 8, TEST // 8) if documents else (few if task == "unseen_words" else TRAIN, DEV, TEST)
    made = WorldTagging(task, *sizes)
    paths = {f"{split}_path": str(folder / file.format(name)) for split, name in (
        ("train", "train"), ("validation", "dev"), ("test", "test"))}  # fmt: skip
    read = Conll(task, **paths)  # type: ignore[arg-type]
    if task == "ner":
        same(made, read, ("train", "validation", "test"))
    else:
        same(
            made, read, ("train",)
        )  # the little training file has not every tag, and the reader asks for those of the others
    (ours,), (theirs,) = made.labels.values(), read.labels.values()
    assert set(theirs.names) <= set(ours.names) and NO_TAG not in ours.names and ours.metrics == theirs.metrics


@pytest.mark.parametrize("language", ["a", "b", "c"])
def test_inference_in_another_language_is_that_of_the_files(folder: Path, language: str) -> None:
    made = WorldXnli(["a", language] if language != "a" else None, language, train=TRAIN, validation=DEV, test=TEST)
    read = Xnli(str(folder / "XNLI"), list(made.languages), train_language=language)
    assert made.labels == read.labels and set(made.splits()) == set(read.splits())
    same(made, read, made.splits())


def test_coreference_is_that_of_the_files(folder: Path) -> None:
    made, read = WorldClassification("coreference", TRAIN, DEV, TEST), SuperGlue("wsc", str(folder))
    assert list(made.labels.values()) == list(read.labels.values()) and made.splits() == read.splits()
    for split in made.splits():
        ours = [replace(bare(record), task="wsc") for record in made.split_records(split)]  # type: ignore[call-arg]
        theirs = [bare(record) for record in read.split_records(split)]
        assert [unlabelled(record) for record in ours] == [unlabelled(record) for record in theirs]
        assert split == "test" or ours == theirs
        assert read.notes() == []  # each span stands where the file says


@pytest.mark.parametrize(("source", "target"), ["ab", "ba", "bc"])
def test_translations_are_those_of_the_files(folder: Path, source: str, target: str) -> None:
    made = WorldTranslation(source, target, train=TRAIN, validation=DEV, test=TEST)
    texts_are_those_of_the_files(made, Pairs(str(folder / "Translation"), source, target))


def test_summaries_are_those_of_the_files(folder: Path) -> None:
    read = Pairs(str(folder / "Summary"), "document", "summary", "id")
    texts_are_those_of_the_files(WorldSummary(TRAIN, DEV, TEST), read)


def texts_are_those_of_the_files(made: TaskCorpus, read: TaskCorpus) -> None:
    assert made.splits() == read.splits() and list(made.labels.values()) == list(read.labels.values())
    for split in made.splits():
        pairs = [
            [(record.source, record.target) for record in corpus.split_records(split)]  # type: ignore[attr-defined]
            for corpus in (made, read)
        ]
        assert pairs[0] == pairs[1] and len(pairs[0]) == {"train": TRAIN, "validation": DEV, "test": TEST}[split]


def test_a_language_that_cannot_be_translated_is_refused() -> None:
    with pytest.raises(Refusal, match=r"data\.source=c: that language says neither number nor tense"):
        WorldTranslation("c", "a")
    with pytest.raises(Refusal, match=r"data\.target=a is the source's language"):
        WorldTranslation("a", "a")
    with pytest.raises(Refusal, match=r"data\.target=d: there is no such language"):
        WorldTranslation("a", "d")


@pytest.mark.parametrize(("task", "version"), [("squad", "1.1"), ("squad2", "2.0")])
def test_questions_are_those_of_the_files(folder: Path, task: Any, version: Any) -> None:
    made = WorldQuestions(task, TRAIN, DEV, TEST)
    paths = {f"{split}_path": str(folder / f"SQuAD/{name}-v{version}.json") for split, name in (
        ("train", "train"), ("validation", "dev"), ("test", "test"))}  # fmt: skip
    read = Squad(task, **paths)  # type: ignore[arg-type]
    same(made, read, ("train", "validation", "test"))
    asked = [question for record in made.split_records("train") for question in record.questions]  # type: ignore[attr-defined]
    assert len(asked) == TRAIN


def test_choices_are_those_of_the_files(folder: Path) -> None:
    swag, race = WorldChoices("swag", TRAIN, DEV, TEST), WorldChoices("race", TRAIN, DEV, TEST)
    same(swag, Swag(path=str(folder / "SWAG")))
    same(race, Race(str(folder / "RACE")), ("train", "validation", "test"))
    assert swag.labels == Swag(path=str(folder / "SWAG")).labels and race.labels == Race(str(folder / "RACE")).labels


def test_what_is_asked_without_training_is_that_of_the_files(folder: Path) -> None:
    pairs, read = WorldMinimalPairs(TEST), Blimp(str(folder / "BLiMP"))
    key = lambda record: (record.id, record.options)  # noqa: E731 (files come in the order of their names)
    assert sorted(map(key, pairs.split_records("test"))) == sorted(map(key, read.split_records("test")))
    assert pairs.labels == read.labels and pairs.splits() == read.splits() == ("test",)
    words, file = WorldLastWords(TEST), Lambada(str(folder / "LAMBADA/test.jsonl"))
    same(words, file, ("test",))
    facts = list(WorldFacts().split_records("test"))
    rows = [json.loads(line) for line in (folder / "LAMA/facts.jsonl").read_text().splitlines()]
    for record, row in zip(facts, rows, strict=True):
        assert isinstance(record, Choices) and record.label is not None and record.id == row["predicate_id"]
        assert record.options[record.label] == row["masked_sentences"][0].replace("[MASK]", row["obj_label"])


def test_sizes_and_seeds() -> None:
    short, long = WorldClassification("qnli", 5, 5, 5), WorldClassification("qnli", 9, 5, 5)
    assert list(short.split_records("train")) == list(long.split_records("train"))[:5]
    assert short.fingerprint() != long.fingerprint()
    other = WorldClassification("qnli", 5, 5, 5, task_seed=2)
    assert other.fingerprint() != short.fingerprint()
    assert list(other.split_records("train")) != list(short.split_records("train"))
    with pytest.raises(Refusal, match=r"data\.train=0"):
        WorldChoices("swag", train=0)
    with pytest.raises(Refusal, match="there is no diagnostic split; it has train, validation, test"):
        list(short.split_records("diagnostic"))


def test_splits_share_no_example() -> None:
    for task in GLUE:
        made = WorldClassification(task, 400, 400, 400)  # type: ignore[arg-type]
        texts = [{record.sentences for record in made.split_records(split)} for split in ("train", "test")]  # type: ignore[attr-defined]
        share = len(texts[0] & texts[1]) / len(texts[1])
        assert share < (0.25 if task == "sst2" else 0.05), (task, share)  # sentences of three words meet again


def test_languages_are_checked_and_decide_the_examples() -> None:
    with pytest.raises(Refusal, match=r"data\.languages: there is no language d"):
        WorldXnli(["a", "d"])
    with pytest.raises(Refusal, match=r"data\.languages=\[b,b\] must name"):
        WorldXnli(["b", "b"])
    with pytest.raises(Refusal, match=r"data\.anchors=2 must lie"):
        WorldXnli(anchors=2)
    prints = {WorldXnli(["b"], anchors=share).fingerprint() for share in (0.0, 1.0)}
    assert len(prints | {WorldXnli(["a"]).fingerprint(), WorldXnli(train_language="b").fingerprint()}) == 4


def test_options_hold_the_answer_once() -> None:
    for task in ("swag", "race"):
        for record in WorldChoices(task, 300, 10, 10).split_records("train"):  # type: ignore[arg-type]
            assert isinstance(record, Choices) and record.label is not None
            assert len(record.options) == len(set(record.options)) == 4


@pytest.mark.parametrize("task", sorted(path.stem for path in (ROOT / "conf/data/world").glob("*.yaml")))
def test_each_task_is_a_choice_that_builds(task: str) -> None:
    composed = compose([f"data=world/{task}"])
    node = as_settings(composed.config)["data"]
    built = locate(node.pop("_target_"), "data")
    made = built(**node)
    assert made.name == task and len(list(made.split_records(made.splits()[-1]))) > 0
    objectives = {Labelled: "classify", Tagged: "tag", Passage: "extractive_qa", Choices: "choose", LastWord: "score",
                  SourceTarget: "sequence_to_sequence"}  # fmt: skip
    expected = "score" if made.splits() == ("test",) else objectives[made.reads]
    assert composed.choices["objective"] == expected


def test_a_calibrated_task_brings_its_steps() -> None:
    words, note = completed(["data=world/unseen_words", "size=tiny"])
    config = compose(words).config
    assert "docs/world-tasks.md" in note
    assert (config.budget.steps, config.budget.epochs, config.batch_size) == (200, None, 16)
    assert config.optimizer.learning_rate == pytest.approx(1e-3, rel=0.05)
    words, _ = completed(["data=world/mnli", "budget.steps=7"])
    assert compose(words).config.budget.steps == 7
