"""The user's own pairs of texts: TSV, CSV, JSON lines; what is refused; what is handed in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloze.data.base import SourceTarget
from cloze.data.tasks.pairs import Pairs
from cloze.errors import Refusal

ROWS = [(f"source {n}", f"target {n}") for n in range(40)]


def told(corpus: Pairs, split: str) -> list[tuple[str, str | None]]:
    return [(r.source, r.target) for r in corpus.split_records(split) if isinstance(r, SourceTarget)]


def written(folder: Path, form: str, header: str = "from\tto\n") -> str:
    path = folder / f"pairs.{form}"
    if form == "jsonl":
        path.write_text("".join(json.dumps({"from": a, "to": b}) + "\n" for a, b in ROWS), encoding="utf-8")
    else:
        lines = "".join(f"{a}\t{b}\n" for a, b in ROWS)
        path.write_text((header + lines).replace("\t", "," if form == "csv" else "\t"), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("form", ["tsv", "csv", "jsonl"])
def test_every_form_is_read_alike(tmp_path: Path, form: str) -> None:
    corpus = Pairs(written(tmp_path, form), "from", "to", test_share=0.1)
    found = {split: told(corpus, split) for split in corpus.splits()}
    assert [len(each) for each in found.values()] == [34, 2, 4]
    assert sorted(pair for each in found.values() for pair in each) == sorted(ROWS)
    assert corpus.labels["pairs"].metrics == ("token_accuracy", "exact_match")
    record = next(iter(corpus.split_records("train")))
    assert isinstance(record, SourceTarget) and record.fields == (record.source, record.target)
    assert record.documents[0].sentences == record.fields  # as plain text it is both


def test_columns_without_a_header_and_files_of_each_split(tmp_path: Path) -> None:
    whole = Pairs(written(tmp_path, "tsv", header=""), 1, 2, header=False)
    assert set(told(whole, "train")) < set(ROWS)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/train.tsv").write_text("from\tto\na\tb\n", encoding="utf-8")
    (tmp_path / "own/dev.tsv").write_text("from\tto\nc\td\n", encoding="utf-8")
    (tmp_path / "own/test.tsv").write_text("from\ne\n", encoding="utf-8")  # nobody says the targets
    corpus = Pairs(str(tmp_path / "own"), "from", "to")
    assert [told(corpus, split) for split in corpus.splits()] == [[("a", "b")], [("c", "d")], [("e", None)]]
    (tmp_path / "own/test.tsv").unlink()
    corpus, reverse = Pairs(str(tmp_path / "own"), "from", "to"), Pairs(str(tmp_path / "own"), "to", "from")
    assert told(reverse, "train") == [("b", "a")] and reverse.fingerprint() != corpus.fingerprint()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("a\t", "line 42: column to: the target is empty"),
        ("\tb", "line 42: column from: the source is empty"),
        ("a", "line 42"),
    ],
)
def test_what_is_malformed_is_refused_or_left_out(tmp_path: Path, line: str, fault: str) -> None:
    path = Path(written(tmp_path, "tsv"))
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(Refusal, match=fault) as refusal:
        told(Pairs(str(path), "from", "to"), "train")
    assert "data.on_bad=drop" in str(refusal.value)
    corpus = Pairs(str(path), "from", "to", on_bad="drop")
    assert len(told(corpus, "train")) + len(told(corpus, "validation")) == 40


def test_a_missing_column_is_named_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"data\.source=form: .* has no such column; did you mean from"):
        Pairs(written(tmp_path, "tsv"), "form", "to").splits()
    with pytest.raises(Refusal, match=r"data\.target=tos: .* has no such column; did you mean to"):
        Pairs(written(tmp_path, "tsv"), "from", "tos").splits()


def test_a_line_is_handed_in_for_each_text(tmp_path: Path) -> None:
    corpus = Pairs(written(tmp_path, "tsv"), "from", "to")
    assert corpus.submission("test", [], ["one  two", "three\nfour"]) == {"pairs-test.txt": "one two\nthree four\n"}
