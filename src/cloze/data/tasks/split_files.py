"""Labelled data that lies in files: which file is which split, what is held out, and what was passed over."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from cloze.data import cache as caches
from cloze.data.base import Record, Split, TaskCorpus
from cloze.data.files import PACKED, File, find
from cloze.data.splits import Marks, checked_shares, digest, marks, side
from cloze.data.tasks.archives import Member, members
from cloze.data.tasks.rows import Row, Rows
from cloze.errors import Refusal

OnBad = Literal["refuse", "drop"]
T = TypeVar("T")
_ENCODING_HINT = re.compile(r"[:;] data\.encoding=\S+")
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class SplitFiles(TaskCorpus):
    """A task whose splits are a file each, in a folder or zip archive with the official names, or named one by one.

    A subclass says which names are `official`, and how a file is read. Its other settings:

    task              what the task is called, in metrics and files
    path              a folder or .zip archive that has files with the official names, or a training file
    train_path, validation_path, test_path
                      a file for each split; beside a folder, in the place of the folder's own
    validation_share  of the training file that is held out where there is no file to validate on; None: 0.05
    split_seed        what is held out
    on_bad            refuse | drop what is malformed
    """

    reading: ClassVar[int] = 1  # version of how records are read: part of the fingerprint
    dropped_are: ClassVar[str] = "records"  # what on_bad=drop leaves out

    def __init__(
        self,
        official: dict[Split, tuple[str, ...]],
        task: str,
        path: str | None,
        train_path: str | None,
        validation_path: str | None,
        test_path: str | None,
        validation_share: float | None,
        split_seed: int,
        on_bad: OnBad,
    ) -> None:
        self.official = official  # names of files (with * and ?) by split, those to be preferred first
        self.name, self.path = task, path
        self._given: dict[Split, str] = {
            split: given
            for split, given in zip(SPLITS, (train_path, validation_path, test_path), strict=True)
            if given is not None
        }
        self._share_asked = validation_share
        if validation_path is not None and validation_share is not None:
            raise Refusal("data.validation_share has no effect beside data.validation_path: give one of them")
        checked_shares(validation_share or 0.0, 0.0)
        self.split_seed, self.on_bad = split_seed, on_bad
        self._dropped: dict[
            tuple[str, str], tuple[int, str]
        ] = {}  # of a file and what was dropped: how many, the first

    # which file is which split

    @cached_property
    def sources(self) -> dict[Split, Any]:
        """What each split is read from: files, unless a subclass has others as well."""
        found: dict[Split, Any] = {}
        if self.path is not None:
            found |= self._at(Path(self.path).expanduser())
        for split, given in self._given.items():
            found[split] = self._one(f"data.{split}_path", given)
        if not found:
            raise Refusal(
                f"data.path is missing: a folder with {self._expected()}, or a training file; or data.train_path, "
                "data.validation_path, data.test_path"
            )
        if self._share_asked is not None and "validation" in found:
            raise Refusal(
                f"data.validation_share={self._share_asked} has no effect: {found['validation']} is there to validate on; leave it out"
            )
        return found

    def _at(self, path: Path) -> dict[Split, File]:
        zipped = path.suffix.lower() == ".zip" and path.is_file()
        if not path.is_dir() and not zipped:
            if "train" in self._given:
                raise Refusal(
                    f"data.train_path has no effect: data.path={self.path} is a training file; give one of them"
                )
            return {"train": self._one("data.path", str(path))}
        held: list[Any] = members(path) if zipped else [each for each in sorted(path.iterdir()) if each.is_file()]
        named = [(each.path.name if zipped else each.name, each) for each in held]
        found: dict[Split, File] = {}
        for split, patterns in self.official.items():
            chosen = self._matching(named, patterns)
            if chosen is not None and split not in self._given:
                found[split] = chosen if zipped else self._one("data.path", str(chosen))
        if not found and not self._given:
            there = ", ".join(name for name, _ in named[:8]) or "no files"
            raise Refusal(
                f"data.path={self.path} has no file named like {self._expected()}; it holds {there}"
                f"{', …' if len(named) > 8 else ''}. Or name the files: data.train_path=… data.validation_path=…"
            )
        return found

    def _matching(self, named: list[tuple[str, Any]], patterns: Iterable[str]) -> Any:
        for pattern in patterns:
            matches = [each for name, each in named if fnmatchcase(_unpacked(name), pattern)]
            if len(matches) > 1:
                raise Refusal(
                    f"data.path={self.path} has {' and '.join(str(each) for each in matches[:2])}, both named like {pattern}: say "
                    "which is meant: data.train_path=… data.validation_path=… data.test_path=…"
                )
            if matches:
                return matches[0]
        return None

    def _expected(self) -> str:
        return ", ".join(names[0] for names in self.official.values())

    @staticmethod
    def _one(setting: str, value: str) -> File:
        """The file of that name; `archive.zip/name.txt` is a file inside of an archive."""
        path = Path(value).expanduser()
        for parent in path.parents:
            if parent.suffix.lower() == ".zip" and parent.is_file():
                inside = path.relative_to(parent).as_posix()
                held = members(parent)
                for each in held:
                    if str(each) == f"{parent}/{inside}":
                        return each
                raise Refusal(f"{setting}={value} not found: the archive holds {', '.join(map(str, held[:8]))}")
        if path.is_dir():
            raise Refusal(f"{setting}={value} is a folder; it must be a file")
        found = find(setting, value)
        if len(found) > 1:
            raise Refusal(f"{setting}={value} names {len(found)} files; it must be one")
        return found[0]

    # what a corpus says of itself

    @property
    def announcement(self) -> str:
        held = [f"{split} {self.sources[split]}" for split in SPLITS if split in self.sources]
        if self._share:
            held.append(
                f"validation {self._share:g} of it" if len(held) == 1 else f"validation {self._share:g} of train"
            )
        return f"{self.name}: {', '.join(held)}"

    def fingerprint(self) -> str:
        identity = {split: self._identity(source) for split, source in self.sources.items()}
        settings = [self.split_seed, self._share, self.on_bad, *self._settings()]
        return caches.digest(type(self).__name__, self.reading, self.name, settings, identity)

    def _identity(self, source: Any) -> Any:
        """What a source is known by: a digest of its bytes."""
        if isinstance(source, Member):
            return [caches.source_digest(source.archive), str(source.path).removeprefix(str(source.archive))]
        return caches.source_digest(source.path)

    def _settings(self) -> list[Any]:
        """A subclass's own settings that decide its records."""
        return []

    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if split in self.sources or (split == "validation" and self._share))

    # records

    @abstractmethod
    def _keyed(self, source: Any, split: Split) -> Iterator[tuple[str, Record]]:
        """The records of a source, in its order, each with what decides whether it is held out: all of one document share it."""

    @property
    def _share(self) -> float:
        """Of the training data that is held out to validate on."""
        if "validation" in self.sources or "train" not in self.sources:
            return 0.0
        return 0.05 if self._share_asked is None else self._share_asked

    @cached_property
    def _marks(self) -> Marks:
        digests = {self._digest(key) for key, _ in self._keyed(self.sources["train"], "train")}
        self._dropped.clear()
        hint = "Give data.validation_path=, or more text."
        return marks(self._share, 0.0, digests, str(self.sources["train"]), hint)

    def _digest(self, key: str) -> int:
        return digest([key], self.split_seed)

    def split_records(self, split: str) -> Iterator[Record]:
        if split not in self.splits():
            raise Refusal(f"{self.announcement}: there is no {split} split; it has {', '.join(self.splits())}")
        source, wanted = self._source(split)
        yield from self._on_side(split, self._keyed(source, wanted))

    def _source(self, split: str) -> tuple[Any, Split]:
        """What a split is read from, and whose source that is: the training split's, where what is validated on is held out of it."""
        wanted = next(each for each in SPLITS if each == split)
        wanted = "train" if wanted not in self.sources else wanted
        return self.sources[wanted], wanted

    def _on_side(self, split: str, keyed: Iterator[tuple[str, T]]) -> Iterator[T]:
        """Of what a split's source holds, that which belongs to the split."""
        held_out = self._share and split != "test"
        for key, each in keyed:
            if not held_out or side(self._digest(key), self._marks) == split:
                yield each

    # what is malformed

    def _whole(self, rows: Rows) -> Iterator[Row]:
        """The rows that can be read."""
        for row in rows:
            if row.fault:
                fault = _ENCODING_HINT.sub("", row.fault)  # these files are UTF-8: there is no such setting
                self._pass_over(rows.name, f"{row.where}: {fault}")
            else:
                yield row

    def _pass_over(self, source: Any, what: str, dropped: str | None = None) -> None:
        """Refuses what is malformed, or counts it as dropped."""
        kind = dropped or self.dropped_are
        if self.on_bad == "refuse":
            raise Refusal(f"{what.removesuffix('.')}. Or leave such {kind} out: data.on_bad=drop")
        count, first = self._dropped.get((str(source), kind), (0, what))
        self._dropped[str(source), kind] = (count + 1, first)

    def notes(self) -> list[str]:
        notes = [
            f"{count:,} malformed {kind} of {source} dropped (the first: {first.removeprefix(source).lstrip(', ')})"
            for (source, kind), (count, first) in self._dropped.items()
        ]
        self._dropped.clear()
        return notes


def _unpacked(name: str) -> str:
    """A file's name without the ending of its packing."""
    return next((name.removesuffix(ending) for ending in PACKED if name.endswith(ending)), name)
