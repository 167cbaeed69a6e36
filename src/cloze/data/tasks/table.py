"""The user's own labelled data: any table of texts with a label."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from cloze.data import splits
from cloze.data.base import Labelled, Labels, Record
from cloze.data.files import PACKED, File, find
from cloze.data.tasks.benchmark import Benchmark, Maker, id_of, label_of, text_of, word_of
from cloze.data.tasks.rows import Chained, CsvRows, JsonRows, Row, Rows, TsvRows
from cloze.errors import Refusal, did_you_mean

KINDS = (".tsv", ".csv", ".jsonl", ".json", ".txt")
NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing"),
}  # of files in a folder, without their endings
_CLASSES = 1000  # as many are asked about no more: the column is a text, a number or an id
_ANY_NUMBER = Labels((), low=float("-inf"), high=float("inf"))


class Table(Benchmark):
    """A file of one text or two with a label, a class or a number.

    path              a .tsv, .csv or .jsonl file, or a folder; in a folder, files called train, validation (or dev) and test are the
                      splits, and without a train file all tables together are the training data. Quotes hold fields together in .csv
                      only; a .json file must be JSON lines, a .txt file is a .tsv
    text, second      the columns of the text and, for pairs, of the second one: names; numbers from 1 where header=false
    label             the column of the label; a test file need not have it
    id                the column that a prediction names the example by; None: its number
    labels            the classes, in order; None: what the training file has, sorted
    numeric           whether a number is to be predicted
    metrics           what it is scored by, names of cloze.scoring, the first being the main one; None: accuracy and f1_macro, or pearson
                      and spearman of numbers
    header            whether the first line of .tsv and .csv names the columns
    encoding          of the files, in Python's names
    on_bad            refuse | drop rows that are malformed or have no label or an unknown one
    validation_path   a file to validate on; without it, validation_share of the rows (None: 0.05)
    test_path         a file to test on; without it, test_share of the rows
    split_seed        which rows are held out (decided by their texts)
    """

    answer: ClassVar[str] = "label"  # the setting of the column that a test file need not have

    def __init__(
        self,
        path: str,
        text: str | int,
        label: str | int,
        second: str | int | None = None,
        id: str | int | None = None,
        labels: list[Any] | None = None,
        numeric: bool = False,
        metrics: list[str] | None = None,
        header: bool = True,
        encoding: str = "utf-8",
        on_bad: Literal["refuse", "drop"] = "refuse",
        validation_path: str | None = None,
        test_path: str | None = None,
        validation_share: float | None = None,
        test_share: float = 0.0,
        split_seed: int = 0,
    ) -> None:
        splits.checked_shares(validation_share or 0.0, test_share)
        if validation_path is not None and validation_share is not None:
            raise Refusal("data.validation_share has no effect beside data.validation_path: give one of them")
        if test_path is not None and test_share:
            raise Refusal("data.test_share has no effect beside data.test_path: give one of them")
        if numeric and labels is not None:
            raise Refusal(
                "data.labels has no effect beside data.numeric=true, which predicts a number: give one of them"
            )
        try:
            codecs.lookup(encoding)
            "".encode(encoding)
        except LookupError:
            known = ("utf-8", "utf-16", "latin-1", "cp1252", "gb18030", "big5", "shift_jis", "euc_kr", "koi8-r")
            raise Refusal(f"data.encoding={encoding} is not known{did_you_mean(encoding, known)}") from None
        words = None if labels is None else tuple(word_of(each) for each in labels)
        if words is not None and (len(set(words)) < len(words) or len(words) < 2):
            raise Refusal(f"data.labels={list(words)} must be two classes or more, each named once")
        if metrics is not None:
            from cloze.scoring import METRICS

            for name in metrics:
                if name not in METRICS:
                    raise Refusal(f"data.metrics: {name} is not known{did_you_mean(name, METRICS)}")
        self.name = "table"
        self.title = "table"
        self.path = path
        self.columns = {
            setting: str(column)
            for setting, column in (("text", text), ("second", second), ("label", label), ("id", id))
            if column is not None
        }
        self.numeric = numeric
        self.metrics = tuple(metrics or (("pearson", "spearman") if numeric else ("accuracy", "f1_macro")))
        self.header = header
        self.encoding = encoding
        self.on_bad = on_bad
        self.validation_path = validation_path
        self.test_path = test_path
        self._share_asked = validation_share
        self.test_share = test_share
        self.split_seed = split_seed
        self._classes_asked = words

    @property
    def validation_share(self) -> float:  # type: ignore[override]
        if self._share_asked is not None:
            return self._share_asked
        return 0.0 if "validation" in self._files else 0.05

    @property
    def settings(self) -> Sequence[Any]:
        return (self.columns, self.numeric, self._classes_asked, self.header, self.encoding)

    @property
    def labels(self) -> dict[str, Labels]:
        if self.numeric:
            return {self.name: Labels((), self.metrics, *self._range)}
        return {self.name: Labels(self._classes, self.metrics)}

    # where its files lie

    @cached_property
    def _files(self) -> dict[str, list[File]]:
        path = Path(self.path).expanduser()
        found: dict[str, list[File]] = {}
        if path.is_dir():
            held = [each for each in sorted(path.iterdir()) if each.is_file() and _kind(each) in KINDS]
            tables = [each for each in held if _kind(each) != ".txt"] or held
            for split, names in NAMES.items():
                chosen = [each for each in tables if _stem(each.name).lower() in names]
                if len(chosen) > 1:
                    raise Refusal(
                        f"data.path={self.path} has {' and '.join(each.name for each in chosen)}, both to be the {split} split: "
                        "name the files, data.path=… data.validation_path=… data.test_path=…"
                    )
                if chosen:
                    found[split] = find("data.path", str(chosen[0]))
            if "train" not in found:
                rest = [
                    each for each in tables if [each] not in [[file.path] for files in found.values() for file in files]
                ]
                found["train"] = [file for each in rest for file in find("data.path", str(each))]
            if not found["train"]:
                raise Refusal(f"data.path={self.path}: no {', '.join(KINDS)} file in this folder to train on")
        else:
            found["train"] = find("data.path", self.path)
        for split, given in (("validation", self.validation_path), ("test", self.test_path)):
            if given is not None:
                found[split] = find(f"data.{split}_path", given)
        return {split: found[split] for split in NAMES if split in found}

    def _found(self) -> dict[str, Rows]:
        found: dict[str, Rows] = {}
        for split, files in self._files.items():
            rows = [self._opened(file) for file in files]
            found[split] = rows[0] if len(rows) == 1 else Chained(rows)
            for setting, column in self.columns.items():
                if column not in found[split].columns and not (split == "test" and setting == self.answer):
                    raise Refusal(self._missing(found[split], setting, column))
        return found

    def _opened(self, file: File) -> Rows:
        kind = _kind(file.path)
        if kind in (".jsonl", ".json"):
            if not self.header:
                raise Refusal(f"data.header=false has no effect on {file}, whose rows name their fields: leave it out")
            return JsonRows(file, self.encoding)
        reader = CsvRows if kind == ".csv" else TsvRows
        return reader(file, self.encoding, None if self.header else ())

    def _missing(self, rows: Rows, setting: str, column: str) -> str:
        said = f"data.{setting}={column}: {rows.name}"
        if not self.header:
            return f"{said} has no such column; without a header they are numbered from 1 to {len(rows.columns)}"
        there = [name if len(name) <= 40 else f"{name[:40]}…" for name in rows.columns]
        more = " If its first line is no header, say data.header=false." if column.isdigit() else ""
        return f"{said} has no such column{did_you_mean(column, there)}{more}"

    # what it asks

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        if self._classes_asked is not None:
            return self._classes_asked
        words: set[str] = set()
        for rows, word in enumerate(self._training_labels(), 1):
            words.add(word)
            if len(words) > _CLASSES:
                raise Refusal(
                    f"data.label={self.columns['label']} has more than {_CLASSES:,} different values in {rows:,} rows of "
                    f"{self.tables['train'].name}: it is no class. Is it a number to predict, data.numeric=true?"
                )
        if len(words) < 2:
            raise Refusal(
                f"data.label={self.columns['label']}: every row of {self.tables['train'].name} has "
                f"{f'the label {words.pop()!r}' if words else 'no label'}, so there is nothing to tell apart"
            )
        return tuple(sorted(words, key=int) if all(_is_whole(word) for word in words) else sorted(words))

    @cached_property
    def _range(self) -> tuple[float, float]:
        make = self._label_maker(_ANY_NUMBER)
        found = [number for row in self.tables["train"] if not row.fault and (number := make(row)) is not None]
        if not found:
            raise Refusal(f"data.label={self.columns['label']}: {self.tables['train'].name} has no number")
        return min(found), max(found)

    def _label_maker(self, labels: Labels) -> Any:
        def make(row: Row) -> float | None:
            try:
                found = label_of(row, self.columns["label"], labels, needed=False)
            except ValueError:
                return None  # told when the row is read
            return None if found is None else float(found)

        return make

    def _training_labels(self) -> Iterator[str]:
        column = self.columns["label"]
        row = None
        for row in self.tables["train"]:
            if row.fault and self.on_bad == "refuse":
                raise self._refusal(row, row.fault)  # else a class that the row hides would be the one that is missed
            value = row.fields.get(column)
            if value is not None and word_of(value):
                yield word_of(value)
        if row is None:
            raise Refusal(f"{self.tables['train'].name} has a header and no rows")

    # its records

    def maker(self, split: str) -> Maker:
        labels = _ANY_NUMBER if self.numeric else self.labels[self.name]
        texts = [self.columns[setting] for setting in ("text", "second") if setting in self.columns]
        label = self.columns["label"]
        names = [self.columns["id"]] if "id" in self.columns else []

        def make(row: Row) -> Record:
            return Labelled(
                tuple(text_of(row, column) for column in texts),
                where=row.where,
                label=label_of(row, label, labels, needed=split != "test"),
                id=id_of(row, names),
                task=self.name,
            )

        return make


def _kind(path: Path) -> str:
    name = path.name.lower()
    for packing in PACKED:
        name = name.removesuffix(packing)
    return Path(name).suffix


def _stem(name: str) -> str:
    """A file's name without its endings."""
    for packing in PACKED:
        name = name.removesuffix(packing)
    return name.removesuffix(Path(name).suffix)


def _is_whole(word: str) -> bool:
    return word.isascii() and word.removeprefix("-").isdigit()
