"""XNLI in its two layouts and SICK, in small files of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloze.data.base import Labelled, TaskCorpus
from cloze.data.tasks.nli import Sick, Xnli
from cloze.errors import Refusal

OFFICIAL = "language\tgold_label\tsentence1_binary_parse\tsentence1\tsentence2\tpromptID\tpairID\tgenre"


def examples(corpus: TaskCorpus, split: str) -> list[Labelled]:
    return [record for record in corpus.split_records(split) if isinstance(record, Labelled)]


@pytest.fixture
def official(tmp_path: Path) -> Path:
    rows = [f"{language}\t{label}\t\t{language} one\t{language} two\t1\t{n}\tnews" for language in ("de", "en", "sw")
            for n, label in enumerate(("neutral", "entailment"))]  # fmt: skip
    for kind in ("dev", "test"):
        (tmp_path / f"xnli.{kind}.tsv").write_text("\n".join([OFFICIAL, *rows]) + "\n", encoding="utf-8")
    (tmp_path / "multinli").mkdir()
    (tmp_path / "multinli/multinli.train.en.tsv").write_text(
        "premise\thypo\tlabel\nIt rains.\tIt is dry.\tcontradictory\nA.\tB.\tneutral\n", encoding="utf-8"
    )
    return tmp_path


def test_one_file_of_all_languages(official: Path) -> None:
    corpus = Xnli(str(official))
    assert [(e.sentences, e.label, e.language) for e in examples(corpus, "train")] == [
        (("It rains.", "It is dry."), "contradiction", "en"),
        (("A.", "B."), "neutral", "en"),
    ]
    assert {"validation_de", "validation_en", "validation_sw", "test_de"} <= set(corpus.splits())
    assert len(examples(corpus, "validation")) == 6
    german = examples(corpus, "validation_de")
    assert [(e.sentences, e.label, e.language, e.id) for e in german] == [
        (("de one", "de two"), "neutral", "de", "0"),
        (("de one", "de two"), "entailment", "de", "1"),
    ]
    assert "xnli.dev.tsv, line 2" in german[0].where


def test_only_some_languages(official: Path) -> None:
    corpus = Xnli(str(official), ["sw"])
    assert corpus.splits() == ("train", "validation", "test")
    assert {e.language for e in examples(corpus, "validation")} == {"sw"}
    assert corpus.fingerprint() != Xnli(str(official), ["de"]).fingerprint()
    with pytest.raises(Refusal, match=r"data.languages: no enn in the dev files .*did you mean"):
        Xnli(str(official), ["enn"]).splits()


def test_a_file_of_each_language(tmp_path: Path) -> None:
    (tmp_path / "my.genre.dev.tsv").write_text(
        "genre\tlabel\tsentence1_en\tsentence2_en\tsentence1_my\tsentence2_my\nnews\tneutral\tA\tB\tမ\tန\n",
        encoding="utf-8",
    )
    (tmp_path / "ur.genre.dev.tsv").write_text(
        "genre\tlabel\tsentence1_ur\tsentence2_ur\nnews\tentailment\tا\tب\n", encoding="utf-8"
    )
    corpus = Xnli(str(tmp_path))
    assert [(e.language, e.sentences[0], e.label) for e in examples(corpus, "validation")] == [
        ("en", "A", "neutral"), ("my", "မ", "neutral"), ("ur", "ا", "entailment")
    ]  # fmt: skip
    assert "nothing to train on: give data.train_path" in corpus.announcement
    with pytest.raises(
        Refusal, match=r"has no train split there; it has .*; nothing to train on: give data.train_path"
    ):
        corpus.parts("train")
    taught = Xnli(str(tmp_path), train_path=str(tmp_path / "ur.genre.dev.tsv"), train_language="ur")
    assert [e.language for e in examples(taught, "train")] == ["ur"]


def test_malformed_and_missing(official: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"neither xnli.dev.tsv nor files such as"):
        Xnli(str(tmp_path / "multinli"), train_language="sw").splits()
    text = (official / "xnli.dev.tsv").read_text(encoding="utf-8").replace("neutral", "neutrl")
    (official / "xnli.dev.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(
        Refusal, match=r"xnli.dev.tsv, line 2: column label: 'neutrl' is not a label; did you mean neutral\?"
    ):
        examples(Xnli(str(official)), "validation")


SICK = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment"


@pytest.fixture
def sick(tmp_path: Path) -> Path:
    for name in ("SICK_train.txt", "SICK_trial.txt", "SICK_test_annotated.txt"):
        (tmp_path / name).write_text(
            f"{SICK}\r\n4\tA man runs\tA man moves\t4.5\tENTAILMENT\r\n", encoding="utf-8", newline=""
        )
    return tmp_path


def test_sick_in_both_readings(sick: Path) -> None:
    entailment, relatedness = Sick(str(sick)), Sick(str(sick), "relatedness")
    assert [e.label for e in examples(entailment, "test")] == ["ENTAILMENT"]
    (example,) = examples(relatedness, "validation")
    assert (example.sentences, example.label, example.id) == (("A man runs", "A man moves"), 4.5, "4")
    assert relatedness.labels["sick"].numeric and relatedness.labels["sick"].low == 1.0
    assert entailment.fingerprint() != relatedness.fingerprint()
    (sick / "SICK_train.txt").write_text(f"{SICK}\n4\tA\tB\t0.5\tENTAILMENT\n", encoding="utf-8")
    with pytest.raises(Refusal, match=r"SICK_train.txt, line 2: column relatedness_score: 0.5 is out of range"):
        examples(Sick(str(sick), "relatedness"), "train")
