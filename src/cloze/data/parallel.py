"""The user's own translations: two text files, line k of one being the translation of line k of the other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from cloze.data import cache as caches
from cloze.data import splits
from cloze.data.base import Corpus, Parallel, Split
from cloze.data.files import Bad, File, beginning, find, line_number, lines
from cloze.errors import Refusal

DocumentsAre = Literal["line", "blank_line"]
VERSION = 1  # of how documents are read: part of the fingerprint
BLOCK = 1 << 14  # line pairs of one part, or a few more: a part ends where a document does


@dataclass(frozen=True)
class Part:
    """Some line pairs: where they begin in each file (bytes), the number of the first (from 1), and how many they are."""

    split: Split
    files: tuple[File, File]
    offsets: tuple[int, int]
    line: int
    count: int
    held_out: bool  # which split a document belongs to is told by its content


class ParallelFiles(Corpus):
    """Two aligned text files, one sentence a line, plain or packed.

    path, translation_path    the two files
    languages                 their languages' names; None: how the files' names end (train.en.gz, train.de.gz)
    documents_are             line: each pair of lines is a document | blank_line: blocks between lines that are blank in both files
    encoding                  of the files, in Python's names
    on_bad                    refuse | drop documents with bytes that are not text, or with a line that is blank in one file only
    validation_path, validation_translation_path
                              a pair of files to validate on; without it, validation_share of the documents (None: 0.05) is held out
    test_path, test_translation_path
                              a pair of files to test on; without it, test_share of the documents is held out
    split_seed                which documents are held out
    language_sampling         as for `cloze.data.languages`; both languages have as many sentences, so that it matters to few objectives
    """

    reads = Parallel

    def __init__(
        self,
        path: str,
        translation_path: str,
        languages: list[str] | None = None,
        documents_are: DocumentsAre = "line",
        encoding: str = "utf-8",
        on_bad: Literal["refuse", "drop"] = "refuse",
        validation_path: str | None = None,
        validation_translation_path: str | None = None,
        test_path: str | None = None,
        test_translation_path: str | None = None,
        validation_share: float | None = None,
        test_share: float = 0.0,
        split_seed: int = 0,
        language_sampling: float | None = 0.7,
    ) -> None:
        given: dict[str, tuple[str | None, str | None]] = {
            "": (path, translation_path),
            "validation_": (validation_path, validation_translation_path),
            "test_": (test_path, test_translation_path),
        }
        for name, (one, other) in given.items():
            if (one is None) != (other is None):
                missing = f"{name}path" if one is None else f"{name}translation_path"
                raise Refusal(f"data.{missing} is missing: texts and their translations come in pairs of files.")
        validation_share = splits.beside_paths(validation_path, test_path, validation_share, test_share)
        if languages is not None and (len(languages) != 2 or len(set(languages)) != 2):
            raise Refusal(f"data.languages=[{','.join(languages)}] must be two different names, e.g. [en,de].")
        if language_sampling is not None and not 0.0 <= language_sampling <= 1.0:
            raise Refusal(f"data.language_sampling={language_sampling:g} must lie in [0, 1], or be null.")
        self._given = {
            name: (one, other) for name, (one, other) in given.items() if one is not None and other is not None
        }
        self._languages = languages
        self.documents_are, self.encoding, self.on_bad = documents_are, encoding, on_bad
        self.validation_share, self.test_share, self.split_seed = validation_share, test_share, split_seed
        self.language_sampling = language_sampling
        self._dropped: dict[str, list[int | str]] = {}  # file: how many documents, and what was wrong with the first

    # what there is

    @cached_property
    def _files(self) -> dict[str, tuple[File, File]]:
        """The pairs of files, by what their settings begin with."""
        return {
            name: (_one(f"data.{name}path", one), _one(f"data.{name}translation_path", other))
            for name, (one, other) in self._given.items()
        }

    @cached_property
    def languages(self) -> tuple[str, str]:
        """The languages' names."""
        if self._languages is not None:
            return self._languages[0], self._languages[1]
        one, other = (_ending(file) for file in self._files[""])
        if not one or not other or one == other:
            named = " and ".join(str(file) for file in self._files[""])
            raise Refusal(f"the names of {named} do not say which languages these are: data.languages=[en,de]")
        return one, other

    @property
    def announcement(self) -> str:
        one, other = self._files[""]
        count = sum(block[1] for block in self._blocks[""])
        return f"parallel text: {one} ({self.languages[0]}), {other} ({self.languages[1]}), {count:,} pairs of lines"

    def fingerprint(self) -> str:
        files = {
            name: [(caches.source_digest(file.path), file.packing) for file in pair]
            for name, pair in self._files.items()
        }
        settings = [
            self.languages,
            self.documents_are,
            self.encoding,
            self.on_bad,
            self.validation_share,
            self.test_share,
        ]
        return caches.digest("parallel", VERSION, settings, self.split_seed, files)

    @cached_property
    def _blocks(self) -> dict[str, list[tuple[int, int, tuple[int, int]]]]:
        """(first line from 1, how many, where they begin) of the blocks of each pair of files.

        Raises Refusal where two files have not the same number of lines, or no text.
        """
        return {name: self._aligned(name, pair) for name, pair in self._files.items()}

    def _aligned(self, name: str, pair: tuple[File, File]) -> list[tuple[int, int, tuple[int, int]]]:
        for file in pair:
            beginning(file)
        blocks: list[tuple[int, int, tuple[int, int]]] = []
        counts = [0, 0]
        start, first, text = (0, 0), 1, False
        cut = True  # whether a document may end before this line
        for one, other in itertools.zip_longest(*(lines(file, self.encoding) for file in pair)):
            counts[0] += one is not None
            counts[1] += other is not None
            if one is None or other is None:
                continue
            number = counts[0]
            if number - first >= BLOCK and cut:
                blocks.append((first, number - first, start))
                start, first = (one[0], other[0]), number
            blank = not _has_text(one[1]) and not _has_text(other[1])
            cut = self.documents_are == "line" or blank
            text = text or not blank
        if counts[0] != counts[1]:
            raise Refusal(
                f"data.{name}path={pair[0]} has {counts[0]:,} lines and data.{name}translation_path={pair[1]} has {counts[1]:,}: "
                "line k of one must be the translation of line k of the other"
            )
        if not text:
            raise Refusal(f"data.{name}path={pair[0]} and data.{name}translation_path={pair[1]} hold only white space")
        return [*blocks, (first, counts[0] - first + 1, start)]

    # splits

    def parts(self, split: Split) -> Sequence[Part]:
        name = {"train": "", "validation": "validation_", "test": "test_"}[split]
        held_out = bool(self.validation_share or self.test_share)
        if name in self._files and name:
            return self._parts(split, name, False)
        if name and not {"validation": self.validation_share, "test": self.test_share}[split]:
            raise Refusal(f"this corpus has no {split} split: give data.{name}path or data.{name}share")
        if held_out:
            _ = self._marks  # told before the corpus travels to other processes
        return self._parts(split, "", held_out)

    def _parts(self, split: Split, name: str, held_out: bool) -> list[Part]:
        files = self._files[name]
        return [Part(split, files, offsets, line, count, held_out) for line, count, offsets in self._blocks[name]]

    @cached_property
    def _marks(self) -> splits.Marks:
        size = sum(file.size * (4 if file.packing else 1) for file in self._files[""])
        digests = None
        if size <= splits.COUNTED:
            digests = [
                self._digest(record) for part in self._parts("train", "", False) for record in self._documents(part)
            ]
            self._dropped.clear()
        hint = "Give data.validation_path and data.validation_translation_path, or more text."
        return splits.marks(self.validation_share, self.test_share, digests, f"data.path={self._files[''][0]}", hint)

    def _digest(self, record: Parallel) -> int:
        return splits.digest((*record.sentences, *record.translation), self.split_seed)

    # reading

    def read(self, part: Part) -> Iterator[Parallel]:
        for record in self._documents(part):
            if not part.held_out or splits.side(self._digest(record), self._marks) == part.split:
                yield record

    def notes(self) -> list[str]:
        notes = [
            f"{name}: {count} malformed documents dropped (the first: {first})"
            for name, (count, first) in self._dropped.items()
        ]
        self._dropped.clear()
        return notes

    def _documents(self, part: Part) -> Iterator[Parallel]:
        """The documents of a part, blank ones left out."""
        both = (lines(file, self.encoding, start) for file, start in zip(part.files, part.offsets, strict=True))
        one, other = self.languages
        sides: tuple[list[str], list[str]] = ([], [])
        first, bad = part.line, False

        def document() -> Iterator[Parallel]:
            if sides[0] and not bad:
                where = f"{part.files[0]}, line {first}"
                yield Parallel(tuple(sides[0]), "", where, one, tuple(sides[1]), other)

        for number, pair in enumerate(itertools.islice(zip(*both, strict=False), part.count), start=part.line):
            texts = [text for _, text in pair]
            there = [_has_text(text) for text in texts]
            if self.documents_are == "line" or not any(there):
                yield from document()
                sides, first, bad = ([], []), number + (not any(there)), False
            if not any(there):
                continue
            fault = self._fault(part, number, pair, there)
            if fault is not None:
                if not bad:
                    self._refuse_or_drop(fault)
                bad = True
                continue
            for side, text in zip(sides, texts, strict=True):
                side.append(str(text).strip())
        yield from document()

    def _fault(
        self, part: Part, number: int, pair: Sequence[tuple[int, str | Bad]], there: Sequence[bool]
    ) -> tuple[File, str] | None:
        """What is wrong with a pair of lines, and with which file."""
        for file, (_, text) in zip(part.files, pair, strict=True):
            if isinstance(text, Bad):
                return file, f"line {line_number(file, self.encoding, text.offset)}, byte {text.offset}: {text.reason}"
        if not all(there):
            blank, full = (part.files[0], part.files[1]) if there[1] else (part.files[1], part.files[0])
            return blank, f"line {number}: blank, but line {number} of {full} is not"
        return None

    def _refuse_or_drop(self, fault: tuple[File, str]) -> None:
        file, what = fault
        if self.on_bad == "refuse":
            raise Refusal(f"{file}, {what}. Or leave such documents out: data.on_bad=drop")
        dropped = self._dropped.setdefault(str(file), [0, what])
        dropped[0] = int(dropped[0]) + 1


def _has_text(line: str | Bad) -> bool:
    return isinstance(line, Bad) or bool(line.strip())


def _one(setting: str, value: str) -> File:
    found = find(setting, value)
    if len(found) > 1:
        raise Refusal(
            f"{setting}={value} names {len(found)} files; it must be one: its lines are matched with another file's"
        )
    return found[0]


def _ending(file: File) -> str:
    """How the file's name ends, without its packing; nothing where that says only that it is text."""
    path = file.path.with_suffix("") if file.packing else file.path
    return "" if path.suffix.lower() in (".txt", ".md") else path.suffix.removeprefix(".")
