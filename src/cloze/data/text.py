"""The user's own text files: plain, Markdown, JSON lines, tables, WikiExtractor's output; packed or not; larger than memory too.

Larger ones are read in ranges of bytes, so that many processes can read one file. What is held out: `cloze.data.splits`.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

from cloze.data import cache as caches
from cloze.data import splits
from cloze.data.base import Corpus, Split, Text
from cloze.data.files import Bad, File, beginning, find, is_wide, line_number, lines
from cloze.data.sentences import sentences_of
from cloze.errors import Refusal, did_you_mean

DocumentsAre = Literal["auto", "file", "blank_line", "line", "wiki"]

VERSION = 1  # of how documents are read: part of the fingerprint
RANGE = 4 << 20  # bytes of a large file that make one part

_STOPS = tuple('.!?…。！？:"”’»)')
_TITLE = re.compile(r'\btitle="([^"]*)"')


@dataclass(frozen=True)
class Part:
    """A file, or the documents that begin in bytes start ≤ … < stop of it."""

    file: File
    form: str  # .jsonl .csv .tsv file blank_line line wiki
    wrapped: bool  # lines are cut at a margin: a paragraph is all lines up to a blank one
    split: Split | None  # None: all of it
    start: int = 0
    stop: int | None = None


@dataclass
class _Document:
    """Where it begins, what decides whose range it is in, its paragraphs (or what is wrong), and whether it goes on the one before."""

    offset: int
    anchor: int
    paragraphs: list[str]
    bad: Bad | None = None
    continues: bool = False


class TextFiles(Corpus):
    """Text files as a corpus.

    path              a file, a folder or a glob
    column            the field of .jsonl, the column of .csv and .tsv that holds the text; None: "text"
    documents_are     file | blank_line (blocks between blank lines) | line | wiki (<doc …> … </doc>); auto: rows of .jsonl, .csv and
                      .tsv; wiki where files begin so; else files where there are several; else blocks, where there are blank lines
    wrapped           whether lines are cut at a margin, so that a paragraph ends at a blank line; None: told from the file
    encoding          of the files, in Python's names
    on_bad            refuse | drop documents with bytes that are not text, NULs, malformed rows
    validation_path   files to validate on; without it, validation_share of the documents (None: 0.05) is held out
    test_path         files to test on; without it, test_share of the documents is held out
    split_seed        which documents are held out
    """

    def __init__(
        self,
        path: str,
        column: str | None = None,
        documents_are: DocumentsAre = "auto",
        wrapped: bool | None = None,
        encoding: str = "utf-8",
        on_bad: Literal["refuse", "drop"] = "refuse",
        validation_path: str | None = None,
        test_path: str | None = None,
        validation_share: float | None = None,
        test_share: float = 0.0,
        split_seed: int = 0,
    ) -> None:
        validation_share = splits.beside_paths(validation_path, test_path, validation_share, test_share)
        try:
            codecs.lookup(encoding).name.encode()
            "".encode(encoding)
        except LookupError:
            known = ("utf-8", "utf-16", "latin-1", "cp1252", "gb18030", "big5", "shift_jis", "euc_kr", "koi8-r")
            raise Refusal(f"data.encoding={encoding} is not known{did_you_mean(encoding, known)}") from None
        self.path = path
        self.column = "text" if column is None else column
        self._asked = {
            "column": (column, (".jsonl", ".csv", ".tsv")),
            "wrapped": (wrapped, ("file", "blank_line")),
        }  # settings that only some forms of file heed
        self.documents_are: DocumentsAre = documents_are
        self.wrapped = wrapped
        self.encoding = encoding
        self.on_bad = on_bad
        self.validation_path = validation_path
        self.test_path = test_path
        self.validation_share = validation_share
        self.test_share = test_share
        self.split_seed = split_seed
        self._dropped: dict[str, list[Any]] = {}  # file: how many documents, and what was wrong with the first

    # what there is

    @cached_property
    def _files(self) -> dict[str, list[Part]]:
        """Whole files, by where they were named: main, validation, test."""
        named = {"main": ("data.path", self.path)}
        if self.validation_path is not None:
            named["validation"] = "data.validation_path", self.validation_path
        if self.test_path is not None:
            named["test"] = "data.test_path", self.test_path
        found = {where: find(setting, value) for where, (setting, value) in named.items()}
        held = {file.path.resolve() for where in ("validation", "test") for file in found.get(where, ())}
        found["main"] = [file for file in found["main"] if file.path.resolve() not in held]
        if not found["main"]:
            raise Refusal(
                f"data.path={self.path}: all its files are named as validation or test files too; nothing is left to train on"
            )
        looked = {where: [self._look(file, alone=len(files) == 1) for file in files] for where, files in found.items()}
        forms = {part.form for parts in looked.values() for part in parts}
        for name, (value, heeding) in self._asked.items():
            if value is not None and forms.isdisjoint(heeding):
                shown = str(value).lower() if isinstance(value, bool) else value
                raise Refusal(
                    f"data.{name}={shown} has no effect where documents are {', '.join(sorted(forms))}; it is for "
                    f"{', '.join(heeding)}: leave it out"
                )
        return looked

    def _look(self, file: File, alone: bool) -> Part:
        """What a file is made of, from its name and its beginning."""
        first = beginning(file)
        text = first.decode(self.encoding, "replace").removeprefix("\ufeff")
        rows = text.split("\n")
        if len(first) >= 1 << 16 and len(rows) > 1:
            rows.pop()  # cut somewhere
        form: str = self.documents_are if self.documents_are != "auto" else ""
        if file.kind in (".jsonl", ".csv", ".tsv"):
            if form:
                raise Refusal(
                    f"data.documents_are={form} has no effect on {file}: each row is a document; leave it at auto"
                )
            form = file.kind
        elif not form:
            start = text.lstrip()
            if start.startswith("<doc "):
                form = "wiki"
            elif start.startswith("{") and not file.path.suffix:
                form = ".jsonl"  # WikiExtractor --json
            elif not alone:
                form = "file"
            else:
                blank = [not row.strip() for row in rows]
                form = "blank_line" if any(a and not b for a, b in pairwise(blank[_first(blank) :])) else "line"
        wrapped = self.wrapped
        if wrapped is None:
            ends = [a.rstrip().endswith(_STOPS) for a, b in pairwise(rows) if a.strip() and b.strip()]
            wrapped = form in ("file", "blank_line") and len(ends) > 0 and sum(ends) < len(ends) / 2
        return Part(file, form, wrapped, None)

    @property
    def announcement(self) -> str:
        files = self._files["main"]
        forms = sorted({part.form for part in files})
        size = sum(part.file.size for part in files) / 1e6
        many = f"{len(files)} files" if len(files) > 1 else "1 file"
        return f"text: {self.path} ({many}, {size:.1f} MB, documents: {', '.join(forms)})"

    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        files = {
            where: [(_digest(part.file), part.file.packing, part.form, part.wrapped) for part in parts]
            for where, parts in self._files.items()
        }
        settings = [self.column, self.encoding, self.on_bad, self.validation_share, self.test_share, self.split_seed]
        return caches.digest("text", VERSION, settings, files)

    def parts(self, split: Split) -> Sequence[Part]:
        if split in self._files:
            return self._ranges(split, None)
        if split == "test" and not self.test_share:
            raise Refusal("this corpus has no test split: give data.test_path or data.test_share")
        if split == "validation" and not self.validation_share:
            raise Refusal("this corpus has no validation split: give data.validation_path or data.validation_share")
        shared = self.validation_share or self.test_share
        if shared:
            _ = self._marks  # told before the corpus travels to other processes
        return self._ranges("main", split if shared else None)

    def _ranges(self, where: str, split: Split | None) -> list[Part]:
        parts = []
        for whole in self._files[where]:
            ranged = (
                whole.form in (".jsonl", "blank_line", "line", "wiki")
                and not whole.file.packing
                and not is_wide(self.encoding)
            )
            step = RANGE if ranged else whole.file.size
            for start in range(0, whole.file.size, step):
                stop = start + step if ranged and start + step < whole.file.size else None
                parts.append(Part(whole.file, whole.form, whole.wrapped, split, start, stop))
        return parts

    # splits

    @cached_property
    def _marks(self) -> splits.Marks:
        size = sum(part.file.size * (4 if part.file.packing else 1) for part in self._files["main"])
        digests = None
        if size <= splits.COUNTED:
            digests = [digest for part in self._ranges("main", None) for digest, _ in self._documents(part)]
            self._dropped.clear()
        forms = " or ".join(sorted({part.form for part in self._files["main"]}))
        return splits.marks(
            self.validation_share,
            self.test_share,
            digests,
            f"data.path={self.path}",
            f"Give data.validation_path, or say what its documents are (each is a {forms} now): data.documents_are=blank_line|line",
        )

    # reading

    def read(self, part: Part) -> Iterator[Text]:
        for digest, document in self._documents(part):
            if part.split is None or splits.side(digest, self._marks) == part.split:
                sentences = sentences_of(document.paragraphs)
                if sentences:
                    yield Text(sentences, where=f"{part.file}, byte {document.offset}")

    def notes(self) -> list[str]:
        notes = [
            f"{name}: {count} malformed document{'s' * (count > 1)} dropped (the first: {first})"
            for name, (count, first) in self._dropped.items()
        ]
        self._dropped.clear()
        return notes

    def _documents(self, part: Part) -> Iterator[tuple[int, _Document]]:
        """The documents of a part that are sound and not blank, each with its digest."""
        reader = {".jsonl": _json_rows, ".csv": _table_rows, ".tsv": _table_rows, "file": _file_documents}
        reader |= {"blank_line": _blocks, "line": _line_documents, "wiki": _wiki_documents}
        digest = 0
        for document in reader[part.form](part, self.encoding, self.column):
            if part.stop is not None and document.anchor >= part.stop:
                return
            if document.bad is not None:
                self._refuse_or_drop(part.file, document.bad)
            elif any(not paragraph.isspace() for paragraph in document.paragraphs if paragraph):
                if not document.continues:
                    digest = splits.digest(document.paragraphs, self.split_seed)
                yield digest, document

    def _refuse_or_drop(self, file: File, bad: Bad) -> None:
        if self.on_bad == "refuse" or str(file) not in self._dropped:
            place = f"line {line_number(file, self.encoding, bad.offset)}, byte {bad.offset}: {bad.reason}"
            if self.on_bad == "refuse":
                raise Refusal(f"{file}, {place}. Or leave such documents out: data.on_bad=drop")
            self._dropped[str(file)] = [0, place]
        self._dropped[str(file)][0] += 1


def _digest(file: File) -> str:
    try:
        return caches.source_digest(file.path)
    except OSError as error:
        raise Refusal(f"{file} cannot be read: {error.strerror or error}") from error


def _first(blank: list[bool]) -> int:
    """The number of the first row that is not blank."""
    return next((number for number, empty in enumerate(blank) if not empty), len(blank))


# ------------------------------------------------------------------------------------- documents of each form


def _line_documents(part: Part, encoding: str, column: str) -> Iterator[_Document]:
    for offset, line in lines(part.file, encoding, part.start):
        if isinstance(line, Bad):
            yield _Document(offset, offset, [], line)
        else:
            yield _Document(offset, offset, [line])


def _blocks(part: Part, encoding: str, column: str) -> Iterator[_Document]:
    """Blocks of lines between blank lines. A block's range is that in which the last blank line before it begins."""
    anchor = 0 if part.start == 0 else None  # None: what comes first began in the range before
    block: _Document | None = None
    for offset, line in lines(part.file, encoding, part.start):
        if isinstance(line, str) and (not line or line.isspace()):
            if block is not None:
                yield _joined(block, part.wrapped)
            block, anchor = None, offset
        elif anchor is not None:
            if block is None:
                if part.stop is not None and anchor >= part.stop:
                    return
                block = _Document(offset, anchor, [])
            if isinstance(line, Bad):
                block.bad = block.bad or line
            else:
                block.paragraphs.append(line)
    if block is not None:
        yield _joined(block, part.wrapped)


def _joined(block: _Document, wrapped: bool) -> _Document:
    if wrapped:
        block.paragraphs = [" ".join(block.paragraphs)]
    return block


def _file_documents(part: Part, encoding: str, column: str) -> Iterator[_Document]:
    """The whole file; a very long one in pieces that follow one another."""
    document = _Document(0, 0, [])
    paragraph: list[str] = []
    size = 0
    for offset, line in lines(part.file, encoding):
        if isinstance(line, Bad):
            document.bad = line
            break
        blank = not line or line.isspace()
        if not blank:
            paragraph.append(line)
            size += len(line)
        if paragraph and (blank or not part.wrapped or size > 4 * RANGE):
            document.paragraphs.append(" ".join(paragraph))
            paragraph = []
        if size > 4 * RANGE and not paragraph:
            yield document
            document, size = _Document(offset, 0, [], continues=True), 0
    if paragraph:
        document.paragraphs.append(" ".join(paragraph))
    yield document


def _wiki_documents(part: Part, encoding: str, column: str) -> Iterator[_Document]:
    """<doc id="…" title="…"> … </doc>, a paragraph a line. The title is left out where it only stands there as the first line."""
    document: _Document | None = None
    title = ""
    skipping = part.start > 0  # what comes first began in the range before
    for offset, line in lines(part.file, encoding, part.start):
        if isinstance(line, Bad):
            if document is not None:
                document.bad = document.bad or line
            elif not skipping:
                yield _Document(offset, offset, [], line)
        elif line.startswith("<doc "):
            if document is not None:
                document.bad = document.bad or Bad("<doc …> before the </doc> of the one before it", offset)
                yield document
            if part.stop is not None and offset >= part.stop:
                return
            skipping = False
            match = _TITLE.search(line)
            title = match[1].strip() if match else ""
            document = _Document(offset, offset, [])
        elif skipping:
            continue
        elif line.startswith("</doc>"):
            if document is None:
                yield _Document(offset, offset, [], Bad("</doc> without <doc …>", offset))
            else:
                yield document
            document = None
        elif line and not line.isspace():
            if document is None:
                yield _Document(offset, offset, [], Bad("text outside <doc …> … </doc>", offset))
            elif document.paragraphs or line.strip() != title:
                document.paragraphs.append(line)
    if document is not None:
        document.bad = document.bad or Bad("the file ends before the </doc> of this document", document.offset)
        yield document


def _json_rows(part: Part, encoding: str, column: str) -> Iterator[_Document]:
    for offset, line in lines(part.file, encoding, part.start):
        document = _Document(offset, offset, [])
        if isinstance(line, Bad):
            document.bad = line
        elif line and not line.isspace():
            try:
                document.paragraphs = _field(json.loads(line), column)
            except (ValueError, RecursionError) as error:
                reason = (
                    f"not JSON ({error.msg}, character {error.pos})"
                    if isinstance(error, json.JSONDecodeError)
                    else str(error)
                )
                document.bad = Bad(reason, offset)
        yield document


def _field(row: Any, column: str) -> list[str]:
    """The lines of a row's text. Raises ValueError."""
    if not isinstance(row, dict):
        raise ValueError(f"a JSON {type(row).__name__}, not an object with a field {column}")
    if column not in row:
        raise ValueError(f"no field data.column={column}{did_you_mean(column, map(str, row))}"[:300].rstrip("."))
    text = row[column]
    if text is None:
        return []
    if not isinstance(text, str):
        raise ValueError(f"the field {column} is a {type(text).__name__}, not a string")
    if "\0" in text:
        raise ValueError("a NUL character (\\u0000)")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair (\\ud800…\\udfff)") from None
    return text.split("\n")


def _table_rows(part: Part, encoding: str, column: str) -> Iterator[_Document]:
    """Rows of a table with a header. In .csv quotes hold fields together; in .tsv a quote is a quote."""
    offset = 0
    bad: list[Bad] = []

    def readable() -> Iterator[str]:
        nonlocal offset
        for offset, line in lines(part.file, encoding):  # noqa: B007
            if isinstance(line, Bad):
                bad.append(line)
            else:
                yield line + "\n"

    if part.form == ".tsv":
        rows: Iterator[list[str]] = (line.rstrip("\n").split("\t") for line in readable())
    else:
        csv.field_size_limit(sys.maxsize)
        rows = csv.reader(readable(), delimiter=_delimiter(part.file, encoding), strict=True)
    header = next(rows, [])
    yield from (_Document(fault.offset, 0, [], fault) for fault in bad)
    bad.clear()
    if column not in header:
        raise Refusal(f"{part.file} has no column data.column={column}{did_you_mean(column, header)}")
    place = header.index(column)
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield _Document(offset, 0, [], Bad(f"not CSV ({error})", offset))
            return
        yield from (_Document(fault.offset, 0, [], fault) for fault in bad)
        bad.clear()
        if row is None:
            return
        if not row or row == [""]:
            continue
        document = _Document(offset, 0, [])
        if len(row) != len(header):
            document.bad = Bad(f"{len(row)} columns where the header has {len(header)}", offset)
        else:
            document.paragraphs = row[place].split("\n")
        yield document


def _delimiter(file: File, encoding: str) -> str:
    """A comma, or what else the header is cut with."""
    header = next((line for _, line in lines(file, encoding) if isinstance(line, str)), "")
    return "," if "," in header else max(",;\t|", key=header.count)
