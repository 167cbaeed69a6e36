"""GLUE's files, in small ones of our own with the official columns and every trap of the real ones."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from cloze.data.base import Labelled
from cloze.data.tasks.glue import FORMS, Glue, GlueTask
from cloze.errors import Refusal

MRPC = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
STSB = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
QQP = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate"
PARSES = "sentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse"
MNLI = f"index\tpromptID\tpairID\tgenre\t{PARSES}\tsentence1\tsentence2"
SCORED = f"{STSB}\tscore"
PAIR = "0\tn\tf\t2\t1\tn\tn\tA.\tB."


def mnli(*labels: str, header: str = MNLI + "\tlabel1\tgold_label") -> list[str]:
    rows = [
        f"{n}\tp{n}\tx{n}\tfiction\t( a )\t( b )\t(S a)\t(S b)\tPremise {n}.\tGuess {n}." for n in range(len(labels))
    ]
    return [header, *(f"{row}\t{label}\t{label}" for row, label in zip(rows, labels, strict=True))]


# a task's folder and its files, as lines
SAMPLES: dict[str, tuple[str, dict[str, list[str]]]] = {
    "cola": (
        "CoLA",
        {
            "train.tsv": ["gj04\t1\t\tThe kettle sang.", "gj04\t0\t*\tKettle the sang."],
            "dev.tsv": ["bc01\t0\t*\tWas sung it."],
            "test.tsv": ["index\tsentence", "0\tThey sang.", "1\tSang they it."],
        },
    ),
    "sst2": (
        "SST-2",
        {
            "train.tsv": ["sentence\tlabel", "warm and clever \t1", "dull \t0"],
            "dev.tsv": ["sentence\tlabel", "fine \t1"],
            "test.tsv": ["index\tsentence", "0\ta chore ."],
        },
    ),
    "mrpc": (
        "MRPC",
        {
            "train.tsv": [MRPC, '1\t10\t11\t" It rains , " he said .\tHe said : " It rains .', "0\t12\t13\tNA\tnull"],
            "dev.tsv": [MRPC, "0\t14\t15\tNone\tA \u2028line\x85 of \x0cits own"],
            "test.tsv": [MRPC.replace("Quality", "index"), "0\t16\t17\tOne .\tTwo ."],
        },
    ),
    "stsb": (
        "STS-B",
        {
            "train.tsv": [STSB + "\tscore", "0\tnews\tf\t2012\t1\tnone\tnone\tA man runs.\tA man walks.\t3.250"],
            "dev.tsv": [STSB + "\tscore", "0\tnews\tf\t2012\t2\tnone\tnone\tA.\tB.\t0.000"],
            "test.tsv": [STSB, "0\tnews\tf\t2012\t3\tnone\tnone\tC.\tD."],
        },
    ),
    "qqp": (
        "QQP",
        {
            "train.tsv": [QQP, "5\t1\t2\tWhy?\tHow come?\t1", "6\t3\t4\tcut short", "7\t5\t6\tWhen?\tWhere?\t0"],
            "dev.tsv": [QQP, "8\t1\t2\tWho?\tWhom?\t0"],
            "test.tsv": ["id\tquestion1\tquestion2", "0\tWhat?\tWhich?"],
        },
    ),
    "mnli": (
        "MNLI",
        {
            "train.tsv": mnli("neutral", "contradiction", "-", "entailment"),
            "dev_matched.tsv": mnli("neutral"),
            "dev_mismatched.tsv": mnli("entailment", "contradiction"),
            "test_matched.tsv": [MNLI, "0\tp\tx\tf\t(\t(\t(\t(\tP.\tH."],
            "test_mismatched.tsv": [MNLI, "0\tp\tx\tf\t(\t(\t(\t(\tP.\tH."],
        },
    ),
    "qnli": (
        "QNLI",
        {
            "train.tsv": ["index\tquestion\tsentence\tlabel", "0\tWho sang?\tAnn sang.\tentailment", "1\tWho?\tNo.\tnot_entailment"],
            "dev.tsv": ["index\tquestion\tsentence\tlabel", "0\tWho ran?\tIt rained.\tnot_entailment"],
            "test.tsv": ["index\tquestion\tsentence", "0\tWho?\tI."],
        },
    ),
    "rte": (
        "RTE",
        {
            "train.tsv": ["index\tsentence1\tsentence2\tlabel", "0\tAnn sang.\tSomebody sang.\tentailment"],
            "dev.tsv": ["index\tsentence1\tsentence2\tlabel", "0\tAnn sang.\tAnn ran.\tnot_entailment"],
            "test.tsv": ["index\tsentence1\tsentence2", "0\tA.\tB."],
        },
    ),
    "wnli": (
        "WNLI",
        {
            "train.tsv": ["index\tsentence1\tsentence2\tlabel", "0\tThe cup fell as it was wet.\tThe cup was wet.\t1"],
            "dev.tsv": ["index\tsentence1\tsentence2\tlabel", "0\tThe cup fell on the mat; it broke.\tThe mat broke.\t0"],
            "test.tsv": ["index\tsentence1\tsentence2", "0\tA.\tB."],
        },
    ),
    "ax": ("AX", {"diagnostic.tsv": ["index\tsentence1\tsentence2", "0\tAnn ran.\tAnn did not run."]}),
}  # fmt: skip


def write(folder: Path, files: dict[str, list[str]], end: str = "\n", mark: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        (folder / name).write_bytes((mark + end.join(lines) + end).encode())


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tasks, one folder each."""
    root = tmp_path_factory.mktemp("glue")
    for folder, files in SAMPLES.values():
        write(root / folder, files)
    return root


def examples(corpus: Glue, split: str = "train") -> list[Labelled]:
    return [record for record in corpus.split_records(split) if isinstance(record, Labelled)]


@pytest.mark.parametrize(
    ("task", "first", "label", "metric"),
    [
        ("cola", ("The kettle sang.",), "1", "matthews"),
        ("sst2", ("warm and clever",), "1", "accuracy"),
        ("mrpc", ('" It rains , " he said .', 'He said : " It rains .'), "1", "f1"),
        ("stsb", ("A man runs.", "A man walks."), 3.25, "spearman"),
        ("qqp", ("Why?", "How come?"), "1", "f1"),
        ("mnli", ("Premise 0.", "Guess 0."), "neutral", "accuracy"),
        ("qnli", ("Who sang?", "Ann sang."), "entailment", "accuracy"),
        ("rte", ("Ann sang.", "Somebody sang."), "entailment", "accuracy"),
        ("wnli", ("The cup fell as it was wet.", "The cup was wet."), "1", "accuracy"),
    ],
)
def test_each_task_as_it_is_distributed(
    glue: Path, task: GlueTask, first: tuple[str, ...], label: str | float, metric: str
) -> None:
    for path in (glue, glue / SAMPLES[task][0]):
        corpus = Glue(task, str(path))
        example = examples(corpus)[0]
        assert example.sentences == first and example.label == label and example.task == task
        assert corpus.labels[task].metrics[0] == metric
        assert {example.label for example in examples(corpus, "test")} == {None}
        assert corpus.splits()[:2] == ("train", "validation")
        assert "train.tsv, line" in example.where
        assert examples(pickle.loads(pickle.dumps(corpus))) == examples(corpus)


def test_class_order_is_that_of_hugging_face() -> None:
    assert FORMS["mnli"].labels.names == ("entailment", "neutral", "contradiction")
    assert FORMS["rte"].labels.names == FORMS["qnli"].labels.names == ("entailment", "not_entailment")


def test_mnli_has_two_of_each_and_the_diagnostic_set_beside_it(glue: Path) -> None:
    corpus = Glue("mnli", str(glue))
    assert set(corpus.splits()) == {
        "train", "validation", "validation_mismatched", "test", "test_mismatched", "diagnostic"
    }  # fmt: skip
    assert [example.label for example in examples(corpus, "validation_mismatched")] == ["entailment", "contradiction"]
    assert examples(corpus, "diagnostic")[0].sentences == ("Ann ran.", "Ann did not run.")
    assert "diagnostic" not in Glue("mnli", str(glue / "MNLI")).splits()
    assert Glue("ax", str(glue)).splits() == ("test",)


def test_what_annotators_did_not_agree_on_is_left_out_and_counted(glue: Path) -> None:
    corpus = Glue("mnli", str(glue))
    assert [example.label for example in examples(corpus)] == ["neutral", "contradiction", "entailment"]
    notes = corpus.notes()
    assert len(notes) == 1 and "1 row whose annotators do not agree (label -) left out (the first: line 4)" in notes[0]
    assert corpus.notes() == []


def test_the_labelled_diagnostic_set(tmp_path: Path) -> None:
    header = "Lexical Semantics\tDomain\tPremise\tHypothesis\tLabel"
    write(tmp_path / "AX", {"diagnostic-full.tsv": [header, "\tnews\tAnn ran.\tAnn moved.\tentailment"]})
    write(tmp_path / "AX", {"diagnostic.tsv": ["index\tsentence1\tsentence2", "0\tA.\tB."]})
    assert [(e.sentences, e.label) for e in examples(Glue("ax", str(tmp_path)), "test")] == [
        (("Ann ran.", "Ann moved."), "entailment")
    ]


def test_short_rows_of_qqp_are_left_out_and_counted_and_of_no_other_task(glue: Path, tmp_path: Path) -> None:
    corpus = Glue("qqp", str(glue))
    assert [example.id for example in examples(corpus)] == ["5", "7"]
    assert "1 row with too few columns left out (the first: line 3)" in corpus.notes()[0]
    write(tmp_path / "QQP", {"train.tsv": [QQP, "5\t1\t2\tWhy?\tHow?\t1\tmore"]})
    with pytest.raises(Refusal, match=r"train\.tsv, line 2: 7 columns where there must be 6"):
        examples(Glue("qqp", str(tmp_path)))


# what a file may be like


@pytest.mark.parametrize(("end", "mark"), [("\n", "\ufeff"), ("\r\n", ""), ("\r\n", "\ufeff")])
@pytest.mark.parametrize("task", ["cola", "sst2", "mrpc", "stsb"])
def test_byte_order_mark_and_windows_line_ends_change_nothing(
    glue: Path, tmp_path: Path, task: GlueTask, end: str, mark: str
) -> None:
    write(tmp_path / SAMPLES[task][0], SAMPLES[task][1], end, mark)
    marked, plain = Glue(task, str(tmp_path)), Glue(task, str(glue))
    for split in plain.splits():
        assert [(e.sentences, e.label, e.id) for e in examples(marked, split)] == [
            (e.sentences, e.label, e.id) for e in examples(plain, split)
        ]


def test_no_final_line_end_and_blank_lines_at_the_end(tmp_path: Path) -> None:
    lines = "\n".join(SAMPLES["mrpc"][1]["train.tsv"])
    (tmp_path / "MRPC").mkdir()
    for ending in ("", "\n\n\n", "\n  \n"):
        (tmp_path / "MRPC/train.tsv").write_text(lines + ending, encoding="utf-8")
        assert len(examples(Glue("mrpc", str(tmp_path)))) == 2
    (tmp_path / "MRPC/train.tsv").write_text(lines.replace("\n", "\n\n"), encoding="utf-8")
    with pytest.raises(Refusal, match="line 2: 1 column where there must be 5"):
        examples(Glue("mrpc", str(tmp_path)))


def test_quotes_words_for_nothing_and_other_line_ends_are_text(glue: Path) -> None:
    corpus = Glue("mrpc", str(glue))
    assert examples(corpus)[1].sentences == ("NA", "null")
    assert examples(corpus, "validation")[0].sentences == ("None", "A \u2028line\x85 of \x0cits own")


def test_packed_files(glue: Path, tmp_path: Path) -> None:
    (tmp_path / "RTE").mkdir()
    (tmp_path / "RTE/train.tsv.gz").write_bytes(gzip.compress((glue / "RTE/train.tsv").read_bytes()))
    assert examples(Glue("rte", str(tmp_path)))[0].label == "entailment"


# which task a file is of


def test_a_task_is_told_by_its_columns_not_by_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "QQP", SAMPLES["stsb"][1])
    write(tmp_path / "STS-B", SAMPLES["qqp"][1])
    for task, folder in (("qqp", "STS-B"), ("stsb", "QQP")):
        corpus = Glue(task, str(tmp_path))  # type: ignore[arg-type]
        assert f"/{folder}/train.tsv" in examples(corpus)[0].where
        assert f"by its columns the folder {folder} holds" in corpus.announcement
    with pytest.raises(Refusal, match=r"no column question1.* By its columns it is STS-B: data=glue/stsb"):
        examples(Glue("qqp", str(tmp_path / "QQP")))


@pytest.mark.parametrize(
    ("task", "other", "means"),
    [("rte", "wnli", "WNLI"), ("wnli", "rte", "RTE"), ("sst2", "qnli", "QNLI"), ("rte", "stsb", "STS-B"), ("mnli", "rte", "RTE")],
)  # fmt: skip
def test_another_tasks_files_are_refused_by_what_they_are(glue: Path, task: GlueTask, other: str, means: str) -> None:
    with pytest.raises(Refusal, match=f"By its columns it is .*{means}"):
        Glue(task, str(glue / SAMPLES[other][0])).splits()


def test_what_is_not_there(glue: Path, tmp_path: Path) -> None:
    write(tmp_path / "MRPC", SAMPLES["mrpc"][1])
    with pytest.raises(Refusal, match=r"no folder RTE with train.tsv, dev.tsv, test.tsv in it; it has MRPC"):
        Glue("rte", str(tmp_path)).splits()
    with pytest.raises(Refusal, match="not found"):
        Glue("rte", "/nowhere/at/all").splits()
    with pytest.raises(Refusal, match="is a file; it must be a folder"):
        Glue("rte", str(glue / "RTE/train.tsv")).splits()
    with pytest.raises(Refusal, match=r"has no validation split there; it has train"):
        (tmp_path / "MRPC/dev.tsv").unlink()
        Glue("mrpc", str(tmp_path)).parts("validation")


# what is malformed


@pytest.mark.parametrize(
    ("task", "lines", "said"),
    [
        ("mrpc", [MRPC.replace("#2 String", "#2 Sting"), "1\t1\t2\ta\tb"], r"line 1: no column #2 String .*; did you mean #2 Sting\?"),
        ("mrpc", [MRPC, "1\t1\t2\ta\tb", "2\t1\t2\ta\tb"], r"train.tsv, line 3: column Quality: '2' is not a label. Accepted: 0, 1"),
        ("mrpc", [MRPC, "2\t1\t2\ta\tb"], r"train.tsv, line 2: column Quality: '2' is not a label"),
        ("mrpc", [MRPC, "\t1\t2\ta\tb"], r"line 2: column Quality: the label is missing. Accepted: 0, 1"),
        ("mrpc", [MRPC, "1\t1\t2\ta"], r"line 2: 4 columns where there must be 5"),
        ("mrpc", [MRPC, "1\t1\t2\ta\tb\tc"], r"line 2: 6 columns where there must be 5"),
        ("mrpc", [MRPC], r"train.tsv has a header and no rows"),
        ("mrpc", ["1\t10\t11\tIt rains .\tRain falls ."], r"line 1: no column #1 String"),
        ("stsb", [SCORED, f"{PAIR}\thigh"], r"line 2: column score: 'high' is not a number. Accepted: a number from 0 to 5"),
        ("stsb", [SCORED, f"{PAIR}\t5.1"], r"line 2: column score: 5.1 is out of range. Accepted: a number from 0 to 5"),
        ("stsb", [SCORED, f"{PAIR}\tnan"], r"line 2: column score: nan is out of range"),
        ("stsb", [SCORED, f"{PAIR}\t1_0"], r"line 2: column score: '1_0' is not a number"),
        ("rte", ["index\tsentence1\tsentence2\tlabel", "0\tA.\tB.\tentailmnet"], r"'entailmnet' is not a label; did you mean entailment\?"),
    ],
)  # fmt: skip
def test_malformed_files_are_told_by_file_line_and_value(
    tmp_path: Path, task: GlueTask, lines: list[str], said: str
) -> None:
    write(tmp_path / SAMPLES[task][0], {"train.tsv": lines})
    with pytest.raises(Refusal, match=said):
        examples(Glue(task, str(tmp_path)))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "SST-2").mkdir()
    (tmp_path / "SST-2/train.tsv").write_bytes(b"sentence\tlabel\ngood\t1\ncaf\xe9\t1\n")
    with pytest.raises(Refusal, match=r"train.tsv, line 3: byte 0xe9 is not utf-8"):
        examples(Glue("sst2", str(tmp_path)))
    (tmp_path / "SST-2/train.tsv").write_bytes(b"sentence\tlabel\nn\0l\t1\n")
    with pytest.raises(Refusal, match="line 2: a NUL byte"):
        examples(Glue("sst2", str(tmp_path)))


# what a run is told


def test_announcement_and_fingerprint(glue: Path, tmp_path: Path) -> None:
    corpus = Glue("mrpc", str(glue))
    assert corpus.announcement == f"GLUE MRPC: {glue} (2 train, 1 validation, 1 test)"
    write(tmp_path / "MRPC", SAMPLES["mrpc"][1])
    copied = Glue("mrpc", str(tmp_path))
    assert copied.fingerprint() == corpus.fingerprint()
    write(tmp_path / "MRPC", {"dev.tsv": [MRPC, "1\t14\t15\tNone\tother"]})
    assert Glue("mrpc", str(tmp_path)).fingerprint() != corpus.fingerprint()
    assert Glue("rte", str(glue)).fingerprint() != Glue("wnli", str(glue)).fingerprint()


@pytest.mark.parametrize(
    ("task", "split", "predictions", "name", "rows"),
    [
        ("mnli", "test_mismatched", ["neutral"], "MNLI-mm.tsv", ["0\tneutral"]),
        ("mnli", "test", ["contradiction"], "MNLI-m.tsv", ["0\tcontradiction"]),
        ("mnli", "diagnostic", ["neutral"], "AX.tsv", ["0\tneutral"]),
        ("ax", "test", ["neutral"], "AX.tsv", ["0\tneutral"]),
        ("cola", "test", ["1", "0"], "CoLA.tsv", ["0\t1", "1\t0"]),
        ("stsb", "test", [5.71], "STS-B.tsv", ["0\t5.000"]),
        ("stsb", "test", [2.34567], "STS-B.tsv", ["0\t2.346"]),
        ("mrpc", "validation", ["0"], "MRPC-validation.tsv", ["0\t0"]),
        ("mnli", "validation", ["neutral"], "MNLI-m-validation.tsv", ["0\tneutral"]),
    ],
)
def test_predictions_as_the_leaderboard_takes_them(
    glue: Path, task: GlueTask, split: str, predictions: Sequence[Any], name: str, rows: list[str]
) -> None:
    corpus = Glue(task, str(glue))
    files = corpus.submission(split, examples(corpus, split), predictions)
    assert files == {name: "\n".join(["index\tprediction", *rows]) + "\n"}


# from `datasets`


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = import_module("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("hub_cache")
def test_what_datasets_saved(glue: Path, tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    names = ["entailment", "neutral", "contradiction"]
    features = Features(
        {
            "premise": Value("string"),
            "hypothesis": Value("string"),
            "label": ClassLabel(names=names),
            "idx": Value("int32"),
        }
    )
    columns = {"premise": ["P.", "Q."], "hypothesis": ["H.", "I."], "label": [2, 0], "idx": [0, 1]}
    hidden = columns | {"label": [-1, -1]}
    DatasetDict(
        {
            "train": Dataset.from_dict(columns, features),
            "validation_matched": Dataset.from_dict(columns, features),
            "validation_mismatched": Dataset.from_dict(columns, features),
            "test_matched": Dataset.from_dict(hidden, features),
        }
    ).save_to_disk(str(tmp_path / "mnli"))
    corpus = Glue("mnli", str(tmp_path / "mnli"))
    assert corpus.splits() == ("train", "validation", "validation_mismatched", "test")
    assert [(e.sentences, e.label, e.id) for e in examples(corpus)] == [
        (("P.", "H."), "contradiction", "0"),
        (("Q.", "I."), "entailment", "1"),
    ]
    assert [e.label for e in examples(corpus, "test")] == [None, None]
    with pytest.raises(Refusal, match=r"data.path=.*By its columns it is MNLI: data=glue/mnli"):
        Glue("qnli", str(tmp_path / "mnli")).splits()


@pytest.mark.usefixtures("hub_cache")
def test_numbers_of_classes_that_datasets_names_otherwise(tmp_path: Path) -> None:
    """Its MRPC has not_equivalent and equivalent where the files have 0 and 1; its STS-B hides scores as -1."""
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    label = ClassLabel(names=["not_equivalent", "equivalent"])
    features = Features({"sentence1": Value("string"), "sentence2": Value("string"), "label": label})
    data = Dataset.from_dict({"sentence1": ["A."], "sentence2": ["B."], "label": [1]}, features)
    folder = tmp_path / "copy/mrpc"
    folder.mkdir(parents=True)
    data.to_parquet(str(folder / "train-00000-of-00001.parquet"))
    (tmp_path / "copy/README.md").write_text(
        "---\nconfigs:\n- config_name: mrpc\n  data_files:\n  - split: train\n    path: mrpc/train-*\n---\n",
        encoding="utf-8",
    )
    assert [e.label for e in examples(Glue("mrpc", str(tmp_path / "copy")))] == ["1"]
    scored = {"sentence1": ["A."], "sentence2": ["B."], "label": [2.5]}
    DatasetDict(
        {"train": Dataset.from_dict(scored), "test": Dataset.from_dict(scored | {"label": [-1.0]})}
    ).save_to_disk(str(tmp_path / "stsb"))
    corpus = Glue("stsb", str(tmp_path / "stsb"))
    assert [e.label for e in examples(corpus)] == [2.5] and [e.label for e in examples(corpus, "test")] == [None]
