"""The readers on the real files: every count and distribution against a plain reading of the bytes, and against published numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from cloze.data.base import Choices, Labelled, Passage, TaskCorpus
from cloze.data.tasks.clue import Chid, Clue
from cloze.data.tasks.glue import Glue
from cloze.data.tasks.nli import Sick, Xnli
from cloze.data.tasks.reviews import Imdb, Trec
from cloze.data.tasks.superglue import ReCoRD, SuperGlue

pytestmark = pytest.mark.data
NLI = ("entailment", "neutral", "contradiction")

Make = Callable[[Path], TaskCorpus]


def found(corpus: TaskCorpus, split: str) -> Counter[object]:
    return Counter(record.label for record in corpus.split_records(split) if isinstance(record, Labelled | Choices))


def plain_rows(path: Path, header: bool = True) -> list[list[str]]:
    lines = path.read_bytes().decode("utf-8-sig").split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.rstrip("\r").split("\t") for line in lines][1 if header else 0 :]


@pytest.mark.parametrize(
    ("task", "folder", "column", "train", "dev", "test"),
    [
        ("cola", "CoLA", 1, 8551, 1043, 1063),
        ("sst2", "SST-2", 1, 67349, 872, 1821),
        ("mrpc", "MRPC", 0, 3668, 408, 1725),
        ("stsb", "STS-B", 9, 5749, 1500, 1379),
        ("wnli", "WNLI", 3, 635, 71, 146),
    ],
)
def test_glue(shared_data: Path, task: str, folder: str, column: int, train: int, dev: int, test: int) -> None:
    corpus = Glue(task, str(shared_data / "glue"))  # type: ignore[arg-type]
    for split, name, count in (("train", "train", train), ("validation", "dev", dev)):
        rows = plain_rows(shared_data / f"glue/{folder}/{name}.tsv", header=task != "cola")
        labels = Counter(float(row[column]) if task == "stsb" else row[column] for row in rows)
        assert found(corpus, split) == labels and labels.total() == count
    assert found(corpus, "test") == {None: test}
    assert corpus.notes() == []


def test_published_distributions_of_glue(shared_data: Path) -> None:
    assert found(Glue("mrpc", str(shared_data / "glue")), "train") == {"1": 2474, "0": 1194}
    assert found(Glue("sst2", str(shared_data / "glue")), "validation") == {"1": 444, "0": 428}
    assert found(Glue("cola", str(shared_data / "glue")), "validation") == {"1": 721, "0": 322}
    assert found(Glue("ax", str(shared_data / "glue")), "test") == {None: 1104}
    assert [
        found(Glue("qqp", str(shared_data / "glue_format_samples")), s).total() for s in ("train", "validation", "test")
    ] == [9] * 3


def test_texts_that_begin_with_a_quote_keep_it(shared_data: Path) -> None:
    """455 rows of MRPC's training file have a field that does; so do 124 of STS-B."""
    for task, folder, columns, count in (("mrpc", "MRPC", (3, 4), 455), ("stsb", "STS-B", (7, 8), 124)):
        corpus = Glue(task, str(shared_data / "glue"))  # type: ignore[arg-type]
        rows = plain_rows(shared_data / f"glue/{folder}/train.tsv")
        texts = [tuple(row[column].strip() for column in columns) for row in rows]
        read = [record.sentences for record in corpus.split_records("train") if isinstance(record, Labelled)]
        assert read == texts
        assert sum(any(text.startswith('"') for text in pair) for pair in read) == count


@pytest.mark.parametrize(
    ("task", "split", "labels"),
    [
        ("boolq", "validation", {"true": 2033, "false": 1237}),
        ("boolq", "train", {"true": 18, "false": 14}),
        ("cb", "validation", {"contradiction": 28, "entailment": 23, "neutral": 5}),
        ("cb", "dev32", {"contradiction": 13, "entailment": 17, "neutral": 2}),
        ("wsc", "validation", {"false": 66, "true": 38}),
        ("wsc", "train", {"true": 32}),
    ],
)
def test_superglue(shared_data: Path, task: str, split: str, labels: dict[str, int]) -> None:
    assert found(SuperGlue(task, str(shared_data / "superglue")), split) == labels  # type: ignore[arg-type]


def test_marks_of_the_real_schemas(shared_data: Path) -> None:
    corpus = SuperGlue("wsc", str(shared_data / "superglue"))
    rows = [
        json.loads(line) for line in (shared_data / "superglue/WSC/val.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    for record, row in zip(corpus.split_records("validation"), rows, strict=True):
        assert isinstance(record, Labelled)
        (text,) = record.sentences
        assert text.replace("* ", "").replace(" *", "").replace("# ", "").replace(" #", "") == row["text"].strip()
        inside = text.replace("# ", "").replace(" #", "").split("* ")[1].split(" *")[0].strip()
        assert inside.casefold() == row["target"]["span1_text"].casefold()
    assert "1 span does not stand where the file says" in corpus.notes()[0]


def test_record(shared_data: Path) -> None:
    corpus = ReCoRD(str(shared_data / "superglue"))
    for split in ("train", "validation"):
        passages = [record for record in corpus.split_records(split) if isinstance(record, Passage)]
        assert len(passages) == 32 == sum(len(passage.questions) for passage in passages)


FEW = [*range(5), None]


@pytest.mark.parametrize("fold", FEW)
@pytest.mark.parametrize("task", ["tnews", "csl", "ocnli", "chid"])
def test_fewclue(shared_data: Path, task: str, fold: int | None) -> None:
    folder = shared_data / "clue/fewclue"
    corpus = Chid(str(folder), fold) if task == "chid" else Clue(task, str(folder), fold)  # type: ignore[arg-type]
    name = "few_all" if fold is None else str(fold)
    files = {"train": f"train_{name}", "validation": f"dev_{name}", "test": "test_public"}
    for split, file in files.items():
        rows = [
            json.loads(line)
            for line in (folder / task / f"{file}.json").read_text(encoding="utf-8").split("\n")
            if line
        ]
        labels = Counter(row["answer"] if task == "chid" else str(row["label"]) for row in rows)
        assert found(corpus, split) == labels
    hidden = {"tnews": 1500, "ocnli": 3000}
    if task in hidden:
        assert found(corpus, "test_unlabelled") == {None: hidden[task]}


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda d: Clue("ocnli", str(d / "clue")), {
            "train": {"contradiction": 3242, "neutral": 3434, "entailment": 3309},
            "validation": {"entailment": 947, "neutral": 1103, "contradiction": 900}}),
        (lambda d: Clue("chnsenticorp", str(d / "clue/chnsenticorp/chnsenticorp.zip")), {
            "train": {"0": 4801, "1": 4799}, "validation": {"0": 607, "1": 593}, "test": {"0": 592, "1": 608}}),
        (lambda d: Sick(str(d / "nli/sick")), {
            "train": {"NEUTRAL": 2536, "ENTAILMENT": 1299, "CONTRADICTION": 665},
            "validation": {"NEUTRAL": 282, "ENTAILMENT": 144, "CONTRADICTION": 74},
            "test": {"NEUTRAL": 2793, "ENTAILMENT": 1414, "CONTRADICTION": 720}}),
        (lambda d: Trec(str(d / "classification/trec"), validation_share=0.0), {
            "train": {"ENTY": 1250, "HUM": 1223, "DESC": 1162, "NUM": 896, "LOC": 835, "ABBR": 86},
            "test": {"DESC": 138, "NUM": 113, "ENTY": 94, "LOC": 81, "HUM": 65, "ABBR": 9}}),
        (lambda d: Xnli(str(d / "xnli_lite")), {
            f"validation_{language}": dict.fromkeys(NLI, 830) for language in ("en", "my", "sw", "ur")}),
    ],
    ids=["ocnli", "chnsenticorp", "sick", "trec", "xnli"],
)  # fmt: skip
def test_distributions(shared_data: Path, make: Make, expected: dict[str, dict[str, int]]) -> None:
    corpus = make(shared_data)
    for split, labels in expected.items():
        assert found(corpus, split) == labels


def test_relatedness_of_sick(shared_data: Path) -> None:
    corpus = Sick(str(shared_data / "nli/sick"), "relatedness")
    assert found(corpus, "train") == Counter(
        float(row[3]) for row in plain_rows(shared_data / "nli/sick/SICK_train.txt")
    )


@pytest.mark.slow
def test_imdb(shared_data: Path) -> None:
    corpus = Imdb(str(shared_data / "classification/imdb/aclImdb_labelled.tar.xz"), validation_share=0.0)
    assert found(corpus, "train") == found(corpus, "test") == {"neg": 12500, "pos": 12500}
