"""Rows with their places: of TSV, CSV and JSON Lines files, and of a split of `datasets`.

What the formats mean here: a line ends at \\n (or \\r\\n) and nowhere else; TSV is split at tabs and a quote in it is a quote; only CSV has
quoting; no value is guessed to be a number or missing ("NA", "null" and "None" are words). A byte order mark is dropped.
"""

from __future__ import annotations

import csv
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cloze.data import cache as caches
from cloze.data.files import PACKED, Bad, File, beginning, find, lines
from cloze.data.tasks.archives import Member
from cloze.errors import Refusal, did_you_mean


@dataclass(frozen=True, slots=True)
class Row:
    """Values by column, and where they stand. `fault` says what is wrong with the row ("" = nothing; else `fields` is empty).

    `short` is a row with fewer values than there are columns.
    """

    fields: Mapping[str, Any]
    source: str
    number: int
    fault: str = ""
    short: bool = False
    unit: str = "line"

    @property
    def where(self) -> str:
        return f"{self.source}, {self.unit} {self.number}"


class Rows(ABC):
    """A table that can be read again and again. `size` is near the number of bytes that this costs."""

    name: str
    size: int

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Their names. Raises Refusal where the file cannot tell."""

    @abstractmethod
    def __iter__(self) -> Iterator[Row]:
        """All rows, in order, with those that cannot be read."""

    @abstractmethod
    def digest(self) -> str:
        """Hexadecimal digest of the rows."""

    def count(self) -> int:
        """How many rows there are."""
        return sum(1 for _ in self)

    def column(self, *names: str) -> str:
        """The first of these columns that is there. Raises Refusal where none is."""
        for name in names:
            if name in self.columns:
                return name
        there = [name if len(name) <= 40 else f"{name[:40]}…" for name in self.columns]
        raise Refusal(f"{self.name}, line 1: no column {' or '.join(names)}{did_you_mean(names[0], there)}")


class FileRows(Rows):
    """Of a file, packed or not."""

    def __init__(self, file: File, encoding: str = "utf-8") -> None:
        beginning(file)  # what is no text is told by its name
        self.file = file
        self.encoding = encoding
        self.name = str(file)
        self.size = file.size * (4 if file.packing else 1)

    def digest(self) -> str:
        within = self.file.path.name if isinstance(self.file, Member) else self.file.packing
        try:
            content = caches.source_digest(self.file.archive if isinstance(self.file, Member) else self.file.path)
            return caches.digest(type(self).__name__, self.encoding, within, content)
        except OSError as error:
            raise Refusal(f"{self.file} cannot be read: {error.strerror or error}") from error

    def _lines(self) -> Iterator[tuple[int, str | Bad]]:
        """Number and text of all lines but the blank ones at the end."""
        blank: list[tuple[int, str | Bad]] = []
        for number, (_, line) in enumerate(lines(self.file, self.encoding), 1):
            if isinstance(line, str) and (not line or (line.isspace() and "\t" not in line)):
                blank.append((number, line))
                continue
            yield from blank
            blank.clear()
            yield number, line

    def _row(self, number: int, values: Sequence[str]) -> Row:
        columns = self.columns
        if len(values) == len(columns):
            return Row(dict(zip(columns, values, strict=True)), self.name, number)
        many = f"{len(values)} column{'s' * (len(values) != 1)}"
        return Row({}, self.name, number, f"{many} where there must be {len(columns)}", len(values) < len(columns))

    def _bad(self, number: int, bad: Bad) -> Row:
        return Row({}, self.name, number, f"{bad.reason} (byte {bad.offset} of the file)")


class TsvRows(FileRows):
    """Tab-separated values. `names` are the columns of a file that has no header; none: numbers from 1."""

    def __init__(self, file: File, encoding: str = "utf-8", names: Sequence[str] | None = None) -> None:
        super().__init__(file, encoding)
        self.names = None if names is None else tuple(names)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        if self.names:
            return self.names
        first = first_line(self.file, self.encoding).split("\t")
        return _header(self, first) if self.names is None else _numbered(first)

    def __iter__(self) -> Iterator[Row]:
        for number, line in self._lines():
            if number == 1 and self.names is None:
                continue
            yield self._bad(number, line) if isinstance(line, Bad) else self._row(number, line.split("\t"))


class CsvRows(FileRows):
    """Comma-separated values (or semicolons, or what else the first line is cut with), in which quotes hold fields together."""

    def __init__(self, file: File, encoding: str = "utf-8", names: Sequence[str] | None = None) -> None:
        super().__init__(file, encoding)
        self.names = None if names is None else tuple(names)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        if self.names:
            return self.names
        _, first = next(self._records(), (1, []))
        if not isinstance(first, list):
            raise Refusal(f"{self.name}, line 1: {first.reason if isinstance(first, Bad) else first}")
        return _header(self, first) if self.names is None else _numbered(first)

    def __iter__(self) -> Iterator[Row]:
        records = self._records()
        if self.names is None:
            next(records, None)
        for number, values in records:
            if isinstance(values, Bad):
                yield self._bad(number, values)
            elif isinstance(values, str):
                yield Row({}, self.name, number, values)
            elif values:
                yield self._row(number, values)

    def _records(self) -> Iterator[tuple[int, list[str] | str | Bad]]:
        """The line that a record begins in, and its values or what is wrong."""
        bad: list[tuple[int, Bad]] = []
        at = 0

        def readable() -> Iterator[str]:
            nonlocal at
            for at, line in self._lines():
                if isinstance(line, Bad):
                    bad.append((at, line))
                else:
                    yield line + "\n"

        csv.field_size_limit(sys.maxsize)
        reader = csv.reader(readable(), delimiter=delimiter(first_line(self.file, self.encoding)), strict=True)
        while True:
            begins = at + 1
            try:
                values = next(reader, None)
            except csv.Error as error:
                yield begins, f"not CSV ({error}); a quote is opened and not closed, or stands inside a field?"
                return
            yield from bad
            bad.clear()
            if values is None:
                return
            yield begins, values


class JsonRows(FileRows):
    """JSON Lines: an object a line. The columns are the fields of the first one; a row may lack some and have others."""

    @cached_property
    def columns(self) -> tuple[str, ...]:
        row = next(iter(self), None)
        if row is None or row.fault:
            raise Refusal(f"{self.name}, line 1: {row.fault if row else 'nothing there'}")
        return tuple(row.fields)

    def __iter__(self) -> Iterator[Row]:
        for number, line in self._lines():
            if isinstance(line, Bad):
                yield self._bad(number, line)
                continue
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError) as error:
                reason = (
                    f"{error.msg}, character {error.pos}" if isinstance(error, json.JSONDecodeError) else str(error)
                )
                yield Row({}, self.name, number, f"not JSON ({reason})")
                continue
            if isinstance(fields, dict):
                yield Row(fields, self.name, number)
            else:
                yield Row({}, self.name, number, f"a JSON {type(fields).__name__}, not an object with named fields")


class Chained(Rows):
    """Several tables with the same columns, one after the other."""

    def __init__(self, tables: Sequence[Rows]) -> None:
        self.tables = tables
        self.name = tables[0].name if len(tables) == 1 else f"{tables[0].name} and {len(tables) - 1} more"
        self.size = sum(rows.size for rows in tables)

    @property
    def columns(self) -> tuple[str, ...]:
        for rows in self.tables[1:]:
            if set(rows.columns) != set(self.tables[0].columns):
                raise Refusal(
                    f"{rows.name} has the columns {', '.join(rows.columns)}, and {self.tables[0].name} "
                    f"{', '.join(self.tables[0].columns)}: they must be the same"
                )
        return self.tables[0].columns

    def __iter__(self) -> Iterator[Row]:
        for rows in self.tables:
            yield from rows

    def count(self) -> int:
        return sum(rows.count() for rows in self.tables)

    def digest(self) -> str:
        return caches.digest(*(rows.digest() for rows in self.tables))


class DatasetRows(Rows):
    """Of a split of Hugging Face's `datasets`. Of a `ClassLabel` a row has the name where `names` (ours) has it, else our name of its
    number; -1 is no label."""

    def __init__(self, name: str, data: Any, label: str | None, names: Sequence[str]) -> None:
        self.name = name
        self.data = data
        self.size = int(data.data.nbytes)
        self._label = label if label is not None and label in data.column_names else None
        self._names = tuple(names)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.data.column_names)

    def count(self) -> int:
        return len(self.data)

    def digest(self) -> str:
        return caches.digest("datasets", self.data._fingerprint, len(self.data))

    def __iter__(self) -> Iterator[Row]:
        theirs = getattr(self.data.features.get(self._label), "names", None) or ()
        names = theirs if set(theirs) == set(self._names) else self._names
        for number, fields in enumerate(self.data):
            if self._label is not None:
                fields = {**fields, self._label: _named(fields[self._label], names)}
            yield Row(fields, self.name, number, unit="row")


def _named(label: Any, names: Sequence[str]) -> Any:
    if isinstance(label, bool) or not isinstance(label, int | float):
        return label
    if label == -1:
        return None
    return names[label] if isinstance(label, int) and 0 <= label < len(names) else label


def _header(rows: FileRows, values: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns. Raises Refusal where two are called the same."""
    names = tuple(value.strip() for value in values)
    for name in names:
        if names.count(name) > 1:
            raise Refusal(f"{rows.name}, line 1: two columns are called {name!r}")
    return names


def _numbered(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(number) for number in range(1, len(values) + 1))


def delimiter(header: str) -> str:
    """A comma, or what else the line is cut with."""
    return "," if "," in header else max(",;\t|", key=header.count)


def first_line(file: File, encoding: str = "utf-8") -> str:
    """Raises Refusal where it cannot be read."""
    line = next((line for _, line in lines(file, encoding)), "")
    if isinstance(line, Bad):
        raise Refusal(f"{file}, line 1: {line.reason} (byte {line.offset} of the file)")
    return line


def file_in(folder: Path, *names: str) -> File | None:
    """The first of these files that the folder has, plain or packed. Raises Refusal where it is empty."""
    for name in names:
        for packing in ("", *PACKED):
            path = folder / f"{name}{packing}"
            if path.is_file():
                return find("data.path", str(path))[0]
    return None
