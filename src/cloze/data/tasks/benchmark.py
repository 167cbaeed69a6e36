"""A benchmark's files as a corpus: splits of rows, the record of each row, and what is said of those that are no example."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

from cloze.data import cache as caches
from cloze.data import splits
from cloze.data.base import Labelled, Labels, Record, Split, TaskCorpus, Text
from cloze.data.splits import Marks
from cloze.data.tasks.fields import Fault
from cloze.data.tasks.rows import Row, Rows
from cloze.errors import Refusal, did_you_mean

VERSION = 1  # of how records are read: part of the fingerprint
COUNTED = 16 << 20  # bytes of all splits together up to which an announcement counts their rows

Maker = Callable[[Row], Record]


class LeftOut(Exception):
    """A row that the benchmark itself does not count as an example; says what such rows are."""


class Benchmark(TaskCorpus):
    """A task whose splits are tables. A subclass says where they lie (`_found`) and what a row is (`maker`).

    Where there is no table to validate or test on, `validation_share` and `test_share` of the training rows are held out, by their
    content (`cloze.data.splits`). `on_bad=drop` passes malformed rows over, with a count, instead of refusing them.
    """

    reads: ClassVar[type[Record]] = Labelled
    title: str  # what an announcement calls it: "GLUE MRPC"
    path: str
    validation_share: float = 0.0
    test_share: float = 0.0
    split_seed: int = 0
    on_bad: Literal["refuse", "drop"] | None = None  # None: malformed rows are refused, and there is no setting for it
    drops_short: str = ""  # what rows with too few columns are called where the benchmark has some and leaves them out

    # where its files lie

    @abstractmethod
    def _found(self) -> dict[str, Rows]:
        """The tables by split, training first. Raises Refusal where they are not there."""

    @cached_property
    def tables(self) -> dict[str, Rows]:
        """The tables by split, training first."""
        found = self._found()
        for split, share in (("validation", self.validation_share), ("test", self.test_share)):
            if share and split in found:
                raise Refusal(
                    f"data.{split}_share={share} has no effect: {found[split].name} is taken whole; leave it out"
                )
        return found

    def splits(self) -> tuple[str, ...]:
        shares = {"validation": self.validation_share, "test": self.test_share}
        held = [split for split, share in shares.items() if share and "train" in self.tables]
        return tuple(sorted({*self.tables, *held}, key=_order))

    def parts(self, split: Split) -> Sequence[str]:
        if split not in self.splits():
            raise Refusal(self._lacks(split))
        return (split,)

    def _lacks(self, split: str) -> str:
        more = "".join(f"; {each}" for each in self.remarks)
        return (
            f"data.path={self.path}: {self.title} has no {split} split there; it has {', '.join(self.splits())}{more}"
        )

    @property
    def announcement(self) -> str:
        tables = self.tables
        if sum(rows.size for rows in tables.values()) <= COUNTED:
            there = ", ".join(f"{count:,} {split}" for split, count in self._counts.items())
        else:
            there = ", ".join(tables)
        held = [f"{split} {share:g} of train" for split, share in self._held_out.items()]
        return f"{self.title}: {self.path} ({', '.join([there, *held])})" + "".join(
            f"; {each}" for each in self.remarks
        )

    @property
    def remarks(self) -> Sequence[str]:
        """What else is to be said of the files at the start of a run."""
        return ()

    @cached_property
    def _counts(self) -> dict[str, int]:
        return {split: rows.count() for split, rows in self.tables.items()}

    @property
    def settings(self) -> Sequence[Any]:
        """The subclass's own settings that decide the records."""
        return ()

    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        shares = [self.validation_share, self.test_share, self.split_seed, self.on_bad]
        tables = {split: rows.digest() for split, rows in self.tables.items()}
        return caches.digest(type(self).__name__, VERSION, self.name, list(self.settings), shares, tables)

    # its records

    @abstractmethod
    def maker(self, split: str) -> Maker:
        """What makes a record of a row of this split, or raises Fault or LeftOut. Raises Refusal where a column is missing."""

    def split_records(self, split: str) -> Iterator[Record]:
        if split not in self.splits():
            raise Refusal(self._lacks(split))
        if not self._held_out or (split in self.tables and split != "train"):
            yield from self._records(split)
            return
        marks = self._marks
        for record in self._records("train"):
            if splits.side(self._digest(record), marks) == split:
                yield record

    def _records(self, table: str) -> Iterator[Record]:
        """Of a whole table."""
        rows = self.tables[table]
        make = self.maker(table)
        passed = self._passed.setdefault(rows.name, {})
        passed.clear()
        some = False
        for row in rows:
            some = True
            try:
                if row.fault:
                    if row.short and self.drops_short:
                        raise LeftOut(self.drops_short)
                    raise Fault(row.fault)
                record = make(row)
            except LeftOut as reason:
                passed.setdefault(str(reason), []).append(row.number)
            except Fault as fault:
                if self.on_bad != "drop":
                    raise self._refusal(row, str(fault)) from None
                passed.setdefault("malformed rows", []).append(row.number)
            else:
                yield record
        if not some:
            raise Refusal(f"{rows.name} has a header and no rows")

    def _refusal(self, row: Row, fault: str) -> Refusal:
        hint = ". Or leave such rows out: data.on_bad=drop" if self.on_bad is not None else ""
        return Refusal(f"{row.where}: {fault.removesuffix('.')}{hint}")

    @cached_property
    def _passed(self) -> dict[str, dict[str, list[int]]]:
        """By table and reason: the rows that the last reading passed over."""
        return {}

    def notes(self) -> list[str]:
        notes = [
            f"{name}: {len(numbers):,} {reason if len(numbers) > 1 else reason.replace('rows', 'row', 1)} left out "
            f"(the first: line {numbers[0]})"
            for name, reasons in self._passed.items()
            for reason, numbers in reasons.items()
        ]
        self._passed.clear()
        return notes

    # what is held out

    @property
    def _held_out(self) -> dict[str, float]:
        shares = {"validation": self.validation_share, "test": self.test_share}
        return {split: share for split, share in shares.items() if share and "train" in self.tables}

    @cached_property
    def _marks(self) -> Marks:
        digests = [self._digest(record) for record in self._records("train")]
        name = self.tables["train"].name
        return splits.marks(
            self.validation_share, self.test_share, digests, name, "Give more rows, or files for each split."
        )

    def _digest(self, record: Record) -> int:
        assert isinstance(record, Text)
        return splits.digest(record.sentences, self.split_seed)


def _order(split: str) -> tuple[int, str]:
    first = ("train", "validation", "test")
    kind = next((number for number, name in enumerate(first) if split.startswith(name)), len(first))
    return kind, split


def text_of(row: Row, column: str) -> str:
    """A value that is text, without outer white space. Raises Fault."""
    value = row.fields.get(column)
    if value is None:
        raise Fault(f"no text: column {column} is {'null' if column in row.fields else 'missing'}")
    if not isinstance(value, str):
        raise Fault(f"column {column}: {value!r} is a {type(value).__name__}, not text")
    if "\0" in value:
        raise Fault(f"column {column}: a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Fault(f"column {column}: half of a surrogate pair (\\ud800…\\udfff)") from None
    return value.strip()


def word_of(value: Any) -> str:
    """A label as a word: JSON's true and false, whole numbers and texts are written as JSON writes them."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value).strip()


def label_of(row: Row, column: str, labels: Labels, needed: bool = True) -> str | float | None:
    """The label in a column; None where there is none and none is `needed`. Raises Fault where it is missing or not one of `labels`."""
    value = row.fields.get(column)
    if value is None or value == "":
        if not needed:
            return None
        raise Fault(f"column {column}: the label is missing. Accepted: {accepted(labels)}")
    word = word_of(value)
    if not labels.numeric:
        if word not in labels.names:
            raise Fault(f"column {column}: {word!r} is not a label{did_you_mean(word, labels.names)}")
        return word
    try:
        number = float("" if "_" in word or isinstance(value, bool) else word)
    except ValueError:
        raise Fault(f"column {column}: {word!r} is not a number. Accepted: {accepted(labels)}") from None
    if not labels.low <= number <= labels.high or number in (float("inf"), float("-inf")):
        raise Fault(f"column {column}: {word} is out of range. Accepted: {accepted(labels)}")
    return number


def accepted(labels: Labels) -> str:
    """The labels in words."""
    if not labels.numeric:
        return ", ".join(labels.names)
    if labels.high == float("inf"):
        return "any number"
    return f"a number from {labels.low:g} to {labels.high:g}"


def id_of(row: Row, columns: Sequence[str]) -> str:
    """What the row is called by the first of these columns that it has; "" where it has none."""
    for column in columns:
        value = row.fields.get(column)
        if value is not None and value != "":
            return str(value)
    return ""


def numbered(records: Sequence[Record], predictions: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """(what the example is called, its prediction): its id, or its number from 0."""
    for number, (record, prediction) in enumerate(zip(records, predictions, strict=True)):
        yield getattr(record, "id", "") or str(number), prediction
