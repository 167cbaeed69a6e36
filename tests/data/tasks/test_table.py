"""The user's own tables: TSV, CSV, JSON lines, with and without header, one text and two, classes and numbers."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloze.data.base import Labelled
from cloze.data.tasks.table import Table
from cloze.errors import Refusal

ROWS = [(f"n{n}", f"Text number {n}", f"other {n}", "ham" if n % 3 else "spam") for n in range(30)]
COLUMNS = ("name", "body", "reply", "kind")


def tsv(path: Path, rows: Any = ROWS, header: bool = True, end: str = "\n") -> str:
    lines = ["\t".join(map(str, row)) for row in ([COLUMNS, *rows] if header else rows)]
    path.write_text(end.join(lines) + end, encoding="utf-8", newline="")
    return str(path)


def examples(corpus: Table, *splits: str) -> list[Labelled]:
    return [e for split in splits or corpus.splits() for e in corpus.split_records(split) if isinstance(e, Labelled)]


def written(folder: Path, form: str) -> str:
    path = folder / f"mail.{form}"
    if form == "tsv":
        return tsv(path)
    if form == "csv":
        path.write_text("\n".join(",".join(row) for row in [COLUMNS, *ROWS]) + "\n", encoding="utf-8")
    if form == "jsonl":
        path.write_text(
            "".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in ROWS), encoding="utf-8"
        )
    if form == "tsv.gz":
        path.write_bytes(gzip.compress(Path(tsv(folder / "plain.tsv")).read_bytes()))
    return str(path)


@pytest.mark.parametrize("form", ["tsv", "csv", "jsonl", "tsv.gz"])
def test_every_form_is_read_alike(tmp_path: Path, form: str) -> None:
    corpus = Table(written(tmp_path, form), "body", "kind", "reply", "name", test_share=0.1)
    assert corpus.labels["table"].names == ("ham", "spam") and corpus.labels["table"].metrics[0] == "accuracy"
    assert corpus.splits() == ("train", "validation", "test")
    found = {split: examples(corpus, split) for split in corpus.splits()}
    assert [len(each) for each in found.values()] == [25, 2, 3]
    every = sorted((e.id, *e.sentences, str(e.label)) for each in found.values() for e in each)
    assert every == sorted(ROWS)
    assert examples(pickle.loads(pickle.dumps(corpus)), "train") == found["train"]
    assert f"mail.{form}, line " in found["test"][0].where
    assert corpus.announcement.startswith(
        f"table: {corpus.path} (30 train, validation 0.05 of train, test 0.1 of train"
    )


def test_what_is_held_out_is_decided_by_the_texts(tmp_path: Path) -> None:
    once = Table(tsv(tmp_path / "a.tsv"), "body", "kind", validation_share=0.3)
    twice = Table(tsv(tmp_path / "b.tsv", ROWS + ROWS), "body", "kind", validation_share=0.3)
    held = {e.sentences for e in examples(once, "validation")}
    assert len(held) == 9 and held == {e.sentences for e in examples(twice, "validation")}
    assert not held & {e.sentences for e in examples(twice, "train")}
    other = Table(tsv(tmp_path / "a.tsv"), "body", "kind", validation_share=0.3, split_seed=1)
    assert held != {e.sentences for e in examples(other, "validation")}
    assert once.fingerprint() != other.fingerprint()


def test_files_of_the_splits(tmp_path: Path) -> None:
    for name, part in (("train", ROWS[:20]), ("dev", ROWS[20:25]), ("test", [(*row[:3], "") for row in ROWS[25:]])):
        tsv(tmp_path / f"{name}.tsv", part)
    (tmp_path / "readme.txt").write_text("About this.\n", encoding="utf-8")
    corpus = Table(str(tmp_path), "body", "kind")
    assert [len(examples(corpus, split)) for split in ("train", "validation", "test")] == [20, 5, 5]
    assert {e.label for e in examples(corpus, "test")} == {None}
    with pytest.raises(Refusal, match=r"data.validation_share=0.2 has no effect: .*dev.tsv is taken whole"):
        Table(str(tmp_path), "body", "kind", validation_share=0.2).splits()
    named = Table(
        str(tmp_path / "train.tsv"), "body", "kind",
        validation_path=str(tmp_path / "dev.tsv"), test_path=str(tmp_path / "test.tsv"),
    )  # fmt: skip
    assert [len(examples(named, split)) for split in named.splits()] == [20, 5, 5]
    (tmp_path / "valid.tsv").write_text("x\n", encoding="utf-8")
    with pytest.raises(Refusal, match=r"dev.tsv and valid.tsv, both to be the validation split"):
        Table(str(tmp_path), "body", "kind").splits()


def test_a_folder_of_tables_without_names_is_the_training_data(tmp_path: Path) -> None:
    tsv(tmp_path / "monday.tsv", ROWS[:10])
    tsv(tmp_path / "tuesday.tsv", ROWS[10:])
    corpus = Table(str(tmp_path), "body", "kind", validation_share=0.0)
    assert len(examples(corpus, "train")) == 30
    (tmp_path / "tuesday.tsv").write_text("other\tkind\na\tham\n", encoding="utf-8")
    with pytest.raises(Refusal, match="they must be the same"):
        Table(str(tmp_path), "body", "kind").splits()


def test_columns_by_number(tmp_path: Path) -> None:
    path = tsv(tmp_path / "bare.tsv", header=False)
    corpus = Table(path, 2, 4, second=3, id=1, header=False, validation_share=0.0)
    assert [(e.id, *e.sentences, e.label) for e in examples(corpus)] == ROWS
    quoted = tmp_path / "bare.csv"
    quoted.write_text('"a, b",x\n"c, d",y\n', encoding="utf-8")
    corpus = Table(str(quoted), 1, 2, header=False, validation_share=0.0)
    assert [(e.sentences, e.label) for e in examples(corpus)] == [(("a, b",), "x"), (("c, d",), "y")]
    with pytest.raises(
        Refusal, match=r"data.text=9: .*bare.tsv has no such column; without a header they are numbered from 1 to 4"
    ):
        Table(path, 9, 4, header=False).splits()
    with pytest.raises(Refusal, match=r"data.text=2: .*If its first line is no header, say data.header=false"):
        Table(path, 2, 4).splits()


def test_numbers(tmp_path: Path) -> None:
    rows = [(f"n{n}", f"Text {n}", "", str(n / 4)) for n in range(20)]
    corpus = Table(tsv(tmp_path / "a.tsv", rows), "body", "kind", numeric=True, validation_share=0.1)
    labels = corpus.labels["table"]
    assert (labels.names, labels.low, labels.high, labels.metrics[0]) == ((), 0.0, 4.75, "pearson")
    assert {e.label for e in examples(corpus)} == {n / 4 for n in range(20)}
    tsv(tmp_path / "b.tsv", [*rows[:3], ("n", "Text", "", "much"), ("n", "Text", "", "inf")])
    with pytest.raises(Refusal, match=r"b.tsv, line 5: column kind: 'much' is not a number. Accepted: any number"):
        examples(Table(str(tmp_path / "b.tsv"), "body", "kind", numeric=True))


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["10", "9", "2"], ("2", "9", "10")),
        (["-1", "1"], ("-1", "1")),
        (["b", "a", "NA"], ("NA", "a", "b")),
        (["1", "x"], ("1", "x")),
    ],
)
def test_classes_are_those_of_the_training_file_in_order(
    tmp_path: Path, words: list[str], names: tuple[str, ...]
) -> None:
    rows = [("n", f"Text {n}", "", word) for n, word in enumerate(words)]
    assert Table(tsv(tmp_path / "a.tsv", rows), "body", "kind").labels["table"].names == names


def test_labels_of_json(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"t": "A", "l": true}\n{"t": "B", "l": false}\n', encoding="utf-8")
    assert Table(str(path), "t", "l").labels["table"].names == ("false", "true")
    path.write_text('{"t": "A", "l": 1}\n{"t": "B", "l": 0}\n', encoding="utf-8")
    corpus = Table(str(path), "t", "l", labels=[1, 0], validation_share=0.0)
    assert corpus.labels["table"].names == ("1", "0")
    assert [e.label for e in examples(corpus)] == ["1", "0"]


# what a file may be like


def test_quotes_byte_order_mark_windows_lines_and_words_for_nothing(tmp_path: Path) -> None:
    rows = [
        ("NA", '"A stray quote', "null", "None"),
        ("1", 'and " another', "", "ham"),
        ("2", "A\u2028B\x85C\x0cD", "", "ham"),
    ]
    path = Path(tsv(tmp_path / "a.tsv", rows, end="\r\n"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    corpus = Table(str(path), "body", "kind", id="name", validation_share=0.0)
    assert [(e.id, *e.sentences, e.label) for e in examples(corpus)] == [(i, t, label) for i, t, _, label in rows]


def test_csv_with_quotes_over_lines_and_semicolons(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text;label\n"One\nline; ""two""";x\nplain;y\n', encoding="utf-8")
    corpus = Table(str(path), "text", "label", validation_share=0.0)
    assert [(e.sentences[0], e.label) for e in examples(corpus)] == [('One\nline; "two"', "x"), ("plain", "y")]
    assert [e.where[-6:] for e in examples(corpus)] == ["line 2", "line 4"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12).map(str.strip).filter(bool),
        min_size=2,
        max_size=8,
    )
)
def test_any_text_comes_back_from_every_form(tmp_path: Path, words: list[str]) -> None:
    rows = [(word, str(n % 2)) for n, word in enumerate(words)]
    (tmp_path / "a.tsv").write_text("t\tl\n" + "".join(f"{t}\t{n}\n" for t, n in rows), encoding="utf-8", newline="")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"t": t, "l": n}) + "\n" for t, n in rows), encoding="utf-8")
    for name in ("a.tsv", "a.jsonl"):
        corpus = Table(str(tmp_path / name), "t", "l", validation_share=0.0)
        assert [(e.sentences[0], e.label) for e in examples(corpus)] == rows


# what is refused


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("body\tkind\na\tham\nb\n", r"a.tsv, line 3: 1 column where there must be 2. Or leave such rows out: data.on_bad=drop"),
        ("body\tkind\na\tham\nb\tspam\tx\n", r"a.tsv, line 3: 3 columns where there must be 2"),
        ("body\tkind\na\tham\nb\t\nc\tspam\n", r"a.tsv, line 3: column kind: the label is missing. Accepted: ham, spam"),
        ("body\tkind\n", r"a.tsv has a header and no rows"),
        ("bodies\tkind\na\tham\n", r"data.text=body: .*a.tsv has no such column; did you mean bodies\?"),
        ("body\tbody\tkind\na\tb\tham\n", r"a.tsv, line 1: two columns are called 'body'"),
        ("body\tkind\na\tham\nb\tham\n", r"every row of .*a.tsv has the label 'ham', so there is nothing to tell apart"),
    ],
)  # fmt: skip
def test_malformed_files(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "a.tsv").write_text(content, encoding="utf-8")
    with pytest.raises(Refusal, match=said):
        examples(Table(str(tmp_path / "a.tsv"), "body", "kind", validation_share=0.0))


def test_an_unknown_label_in_another_split(tmp_path: Path) -> None:
    tsv(tmp_path / "train.tsv")
    tsv(tmp_path / "dev.tsv", [("n", "Text", "", "spamm")])
    with pytest.raises(
        Refusal, match=r"dev.tsv, line 2: column kind: 'spamm' is not a label; did you mean spam\? Accepted: ham, spam"
    ):
        examples(Table(str(tmp_path), "body", "kind"), "validation")
    with pytest.raises(Refusal, match=r"train.tsv, line 3: column kind: 'ham' is not a label"):
        examples(Table(str(tmp_path), "body", "kind", labels=["spam", "eggs"]), "train")


def test_a_column_that_is_no_class(tmp_path: Path) -> None:
    rows = [(n, f"Text {n}", "", n / 7) for n in range(1500)]
    with pytest.raises(
        Refusal, match=r"more than 1,000 different values .* Is it a number to predict, data.numeric=true\?"
    ):
        _ = Table(tsv(tmp_path / "a.tsv", rows), "body", "kind").labels


def test_malformed_rows_may_be_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"body\tkind\na\tham\nb\nc\t\nd\xff\tham\ne\tspam\nf\tham\textra\n")
    corpus = Table(str(tmp_path / "a.tsv"), "body", "kind", on_bad="drop", validation_share=0.0)
    assert [e.sentences[0] for e in examples(corpus)] == ["a", "e"]
    assert corpus.notes() == [f"{tmp_path / 'a.tsv'}: 4 malformed rows left out (the first: line 3)"]
    (tmp_path / "a.csv").write_text('body,kind\na,ham\n"open,spam\n', encoding="utf-8")
    with pytest.raises(Refusal, match=r"a.csv, line 3: not CSV"):
        examples(Table(str(tmp_path / "a.csv"), "body", "kind", labels=["ham", "spam"], validation_share=0.0))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoding": "utf8x"}, r"data.encoding=utf8x is not known"),
        ({"labels": ["a"]}, r"data.labels=\['a'\] must be two classes or more"),
        ({"labels": ["a", "b"], "numeric": True}, r"data.labels has no effect beside data.numeric=true"),
        ({"metrics": ["acuracy"]}, r"data.metrics: acuracy is not known; did you mean accuracy\?"),
        ({"validation_share": 0.1, "validation_path": "x"}, r"data.validation_share has no effect beside data.validation_path"),
        ({"test_share": 0.1, "test_path": "x"}, r"data.test_share has no effect beside data.test_path"),
        ({"validation_share": 0.6, "test_share": 0.5}, r"leave nothing to train on"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal, match=said):
        Table(tsv(tmp_path / "a.tsv"), "body", "kind", **change)


def test_settings_that_files_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"data.header=false has no effect on .*mail.jsonl"):
        Table(written(tmp_path, "jsonl"), "body", "kind", header=False).splits()
    with pytest.raises(Refusal, match=r"not found; did you mean .*mail.jsonl"):
        Table(str(tmp_path / "mail.jsnl"), "body", "kind").splits()
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refusal, match=r"no .tsv, .csv, .* file in this folder to train on"):
        Table(str(tmp_path / "empty"), "body", "kind").splits()
