"""CLUE's and FewCLUE's files, in small ones of our own with the official fields."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cloze.data.base import Choices, Labelled
from cloze.data.tasks.clue import FORMS, Chid, Clue, ClueTask
from cloze.errors import Refusal

PAIR = {"sentence1": "花呗怎么还款", "sentence2": "如何还花呗", "id": 3}
ROWS: dict[str, dict[str, Any]] = {
    "afqmc": PAIR | {"label": "1"},
    "bustm": PAIR | {"label": "0"},
    "cmnli": PAIR | {"label": "neutral"},
    "ocnli": PAIR | {"label": "contradiction", "label0": None, "genre": "lit"},
    "csl": {"abst": "本文研究土壤。", "keyword": ["土壤", "湿度"], "label": "1", "id": 3},
    "csldcp": {"content": "一种方法", "label": "计算机科学与技术", "id": 3},
    "eprstmt": {"sentence": "很好用", "label": "Positive", "id": 3},
    "iflytek": {"sentence": "一个地图应用", "label": "17", "label_des": "地图", "id": 3},
    "tnews": {"sentence": "球队赢了", "label": 103, "label_desc": "news_sports", "keywords": "", "id": 3},
    "wsc": {
        "text": "小王说他累了",
        "target": {"span1_text": "小王", "span1_index": 0, "span2_text": "他", "span2_index": 3},
        "label": "true",
        "id": 3,
    },
}
CHID = {"id": 3, "candidates": ["一帆风顺", "画蛇添足"], "content": "他总是#idiom#。", "answer": 1}


def write(path: Path, *rows: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def examples(corpus: Clue, split: str = "train") -> list[Labelled]:
    return [record for record in corpus.split_records(split) if isinstance(record, Labelled)]


@pytest.mark.parametrize(
    ("task", "texts", "label"),
    [
        ("afqmc", ("花呗怎么还款", "如何还花呗"), "1"),
        ("bustm", ("花呗怎么还款", "如何还花呗"), "0"),
        ("cmnli", ("花呗怎么还款", "如何还花呗"), "neutral"),
        ("ocnli", ("花呗怎么还款", "如何还花呗"), "contradiction"),
        ("csl", ("土壤 湿度", "本文研究土壤。"), "1"),
        ("csldcp", ("一种方法",), "计算机科学与技术"),
        ("eprstmt", ("很好用",), "Positive"),
        ("iflytek", ("一个地图应用",), "17"),
        ("tnews", ("球队赢了",), "103"),
        ("wsc", ("*小王*说#他#累了",), "true"),
    ],
)
def test_each_task(tmp_path: Path, task: ClueTask, texts: tuple[str, ...], label: str) -> None:
    folder = {"wsc": "cluewsc2020_public", "afqmc": "afqmc_public"}.get(task, task)
    hidden = {key: value for key, value in ROWS[task].items() if key != "label"}
    write(tmp_path / folder / "train.json", ROWS[task])
    write(tmp_path / folder / "dev.json", ROWS[task])
    write(tmp_path / folder / "test.json", hidden)
    for path in (tmp_path, tmp_path / folder):
        corpus = Clue(task, str(path))
        (example,) = examples(corpus)
        assert (example.sentences, example.label, example.id) == (texts, label, "3")
        assert label in corpus.labels[task].names
        assert examples(corpus, "test")[0].label is None
    sent = corpus.submission("test", examples(corpus, "test"), [label])
    name = {"ocnli": "ocnli_50k", "tnews": "tnews10", "wsc": "cluewsc10"}.get(task, task)
    assert sent == {f"{name}_predict.json": json.dumps({"id": 3, "label": label}, ensure_ascii=False) + "\n"}


def test_numbers_of_classes() -> None:
    assert [len(FORMS[task].names) for task in ("tnews", "iflytek", "cmnli")] == [15, 119, 3]


def test_folds_of_fewclue_and_its_two_test_sets(tmp_path: Path) -> None:
    row = ROWS["tnews"]
    for name, count in (
        ("train_0", 1),
        ("train_1", 2),
        ("dev_1", 3),
        ("train_few_all", 4),
        ("dev_few_all", 5),
        ("test_public", 6),
    ):
        write(tmp_path / f"tnews/{name}.json", *[row] * count)
    write(tmp_path / "tnews/test.json", *[{"id": str(n), "sentence": "新闻"} for n in range(7)])

    def counts(fold: str | int | None) -> dict[str, int]:
        corpus = Clue("tnews", str(tmp_path), fold)
        return {split: len(examples(corpus, split)) for split in corpus.splits()}

    assert counts(None) == {"train": 4, "validation": 5, "test": 6, "test_unlabelled": 7}
    assert counts(1) == {"train": 2, "validation": 3, "test": 6, "test_unlabelled": 7}
    assert Clue("tnews", str(tmp_path), 1).fingerprint() != Clue("tnews", str(tmp_path)).fingerprint()
    corpus = Clue("tnews", str(tmp_path))
    hidden = examples(corpus, "test_unlabelled")[:1]
    assert corpus.submission("test_unlabelled", hidden, ["103"]) == {
        "tnewsf_predict.json": '{"id": "0", "label": "103"}\n'
    }
    assert list(corpus.submission("test", [], [])) == ["tnewsf_predict-test.json"]
    with pytest.raises(Refusal, match=r"data.fold=7: there is no train_7.json of CLUE TNEWS"):
        Clue("tnews", str(tmp_path), 7).splits()


def test_what_annotators_did_not_agree_on(tmp_path: Path) -> None:
    write(tmp_path / "ocnli/train.10k.json", ROWS["ocnli"], ROWS["ocnli"] | {"label": "-"})
    corpus = Clue("ocnli", str(tmp_path), "10k")
    assert len(examples(corpus)) == 1
    assert "1 row whose annotators do not agree (label -) left out (the first: line 2)" in corpus.notes()[0]


def test_chnsenticorp_in_its_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "chn.zip", "w") as archive:
        archive.writestr("train.tsv", 'label\ttext_a\n1\t很"好\n0\t差\n')
        archive.writestr("dev.tsv", "label\ttext_a\n0\t差\n")
    corpus = Clue("chnsenticorp", str(tmp_path / "chn.zip"))
    assert [(e.sentences, e.label) for e in examples(corpus)] == [(('很"好',), "1"), (("差",), "0")]
    assert "chn.zip/train.tsv, line 2" in examples(corpus)[0].where
    before = corpus.fingerprint()
    with zipfile.ZipFile(tmp_path / "chn.zip", "a") as archive:
        archive.writestr("test.tsv", "label\ttext_a\n0\t差\n")
    assert Clue("chnsenticorp", str(tmp_path / "chn.zip")).fingerprint() != before


def test_idioms_are_a_choice(tmp_path: Path) -> None:
    write(tmp_path / "chid/train.json", CHID)
    write(tmp_path / "chid/test.json", {key: value for key, value in CHID.items() if key != "answer"})
    corpus = Chid(str(tmp_path))
    (choice,) = list(corpus.split_records("train"))
    assert isinstance(choice, Choices)
    assert (choice.context, choice.options, choice.label) == ("他总是#idiom#。", ("一帆风顺", "画蛇添足"), 1)
    (hidden,) = list(corpus.split_records("test"))
    assert isinstance(hidden, Choices) and hidden.label is None
    assert corpus.submission("test", [hidden], [1]) == {"chid_predict.json": '{"id": 3, "answer": 1}\n'}
    for change, said in (
        ({"answer": 2}, "answer 2 is none of the 2"),
        ({"content": "无"}, "must stand once in the content, not 0"),
    ):
        write(tmp_path / "chid/train.json", {**CHID, **change})
        with pytest.raises(Refusal, match=f"train.json, line 1: .*{said}"):
            list(Chid(str(tmp_path)).split_records("train"))


@pytest.mark.parametrize(
    ("task", "change", "said"),
    [
        ("tnews", {"label": 105}, r"line 2: column label: '105' is not a label"),
        ("ocnli", {"label": "contradictory"}, r"did you mean contradiction\?"),
        ("csl", {"keyword": "土壤"}, r"line 2: `keyword` must be a list"),
        ("wsc", {"target": {**ROWS["wsc"]["target"], "span2_index": 4}}, r"line 2: span2 '他' does not stand at character 4"),
        ("eprstmt", {"sentence": None}, r"line 2: no text: column sentence is null"),
    ],
)  # fmt: skip
def test_malformed_rows(tmp_path: Path, task: ClueTask, change: dict[str, Any], said: str) -> None:
    write(tmp_path / task / "train.json", ROWS[task], {**ROWS[task], **change})
    with pytest.raises(Refusal, match=said):
        examples(Clue(task, str(tmp_path)))


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"no train.json, dev.json, .* of OCNLI in it, nor a folder ocnli"):
        Clue("ocnli", str(tmp_path)).splits()
    with pytest.raises(Refusal, match="is not a folder"):
        Clue("ocnli", str(tmp_path / "nothing")).splits()
    write(tmp_path / "csl/train.json", ROWS["eprstmt"])
    with pytest.raises(Refusal, match="no column keyword"):
        Clue("csl", str(tmp_path)).splits()
