"""Data sets of Hugging Face's `datasets`: from the hub, a local folder, Parquet or Arrow files, or what `save_to_disk` wrote.

No code of a data set is ever run.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from cloze.data import cache as caches
from cloze.data import splits
from cloze.data.base import Corpus, Split, Text
from cloze.data.sentences import sentences_of
from cloze.errors import Refusal, did_you_mean

VERSION = 1
ROWS = 10_000  # of a part
_READERS = {".parquet": "parquet", ".arrow": "arrow", ".jsonl": "json", ".json": "json", ".csv": "csv", ".txt": "text"}


@dataclass(frozen=True)
class Rows:
    """Rows start … stop - 1 of a split of the data set; of them those on our side where `split` is given."""

    name: str
    start: int
    stop: int
    split: Split | None


class HuggingFace(Corpus):
    """A data set with a column of texts; a row is a document.

    name               a name on the hub, a folder, or a .parquet or .arrow file
    config             the data set's configuration ("wikitext-2-raw-v1"); a file and what save_to_disk wrote have none
    column             the column of texts
    revision           a commit, branch or tag on the hub; nothing else has one
    train_split, validation_split, test_split
                       the data set's own splits; None: "validation" and "test" where it has them, else a share of the documents
    validation_share   of the documents that is held out where there is no validation split; None: 0.05
    test_share         of the documents that is held out where there is no test split
    split_seed         which documents are held out
    on_bad             refuse | drop rows with NUL characters
    """

    def __init__(
        self,
        name: str,
        config: str | None = None,
        column: str = "text",
        revision: str | None = None,
        train_split: str = "train",
        validation_split: str | None = None,
        test_split: str | None = None,
        validation_share: float | None = None,
        test_share: float = 0.0,
        split_seed: int = 0,
        on_bad: Literal["refuse", "drop"] = "refuse",
    ) -> None:
        self._share_asked = validation_share
        validation_share = 0.05 if validation_share is None else validation_share
        splits.checked_shares(validation_share, test_share)
        self.name = name
        self.config = config
        self.column = column
        self.revision = revision
        self.train_split = train_split
        self.validation_split = validation_split
        self.test_split = test_split
        self.validation_share = validation_share
        self.test_share = test_share
        self.split_seed = split_seed
        self.on_bad = on_bad
        self._dropped = 0

    @cached_property
    def _data(self) -> dict[str, Any]:
        """The data set's splits that are used, with the column of texts alone: under our names of them."""
        loaded = self._load()
        wanted = {"train": self.train_split, "validation": self.validation_split, "test": self.test_split}
        chosen = {}
        for split, name in wanted.items():
            name = split if name is None and split in loaded else name
            if name is None:
                continue
            if name not in loaded:
                raise Refusal(
                    f"data.name={self.name} has no split data.{split}_split={name}{did_you_mean(name, loaded)}"
                )
            data = loaded[name]
            if self.column not in data.column_names:
                raise Refusal(
                    f"data.name={self.name} has no column data.column={self.column}{did_you_mean(self.column, data.column_names)}"
                )
            kind = getattr(data.features[self.column], "dtype", type(data.features[self.column]).__name__)
            if kind not in ("string", "large_string", "string_view"):
                texts = [
                    each
                    for each, feature in data.features.items()
                    if getattr(feature, "dtype", "") in ("string", "large_string")
                ]
                raise Refusal(
                    f"data.column={self.column} of {self.name} is of type {kind}, not text. Columns of text: {', '.join(texts) or 'none'}."
                )
            chosen[split] = data.select_columns([self.column])
        for split, share in (("validation", self._share_asked), ("test", self.test_share or None)):
            if share is not None and split in chosen:
                raise Refusal(
                    f"data.{split}_share={share} has no effect: data.name={self.name} has a split "
                    f"{wanted[split] or split}, which is taken whole; leave it out"
                )
        if not len(chosen["train"]):
            raise Refusal(f"data.name={self.name}: its split {self.train_split} is empty")
        return chosen

    def _load(self) -> dict[str, Any]:
        datasets: Any = importlib.import_module("datasets")  # late: it takes a second
        if not sys.stderr.isatty():
            datasets.disable_progress_bars()
        path = Path(self.name).expanduser()
        saved = path.is_dir() and any((path / mark).is_file() for mark in ("dataset_dict.json", "state.json"))
        if self.revision is not None and path.exists():
            raise Refusal(
                f"data.revision={self.revision} has no effect on {self.name}, which is not on the hub: leave it out"
            )
        if self.config is not None and (path.is_file() or saved):
            kind = "a file" if path.is_file() else "what save_to_disk wrote"
            raise Refusal(f"data.config={self.config} has no effect on {self.name}, {kind}: leave it out")
        try:
            if path.is_file():
                reader = _READERS.get(path.suffix.lower())
                if reader is None:
                    raise Refusal(
                        f"data.name={self.name}: a file must be one of {', '.join(_READERS)}; data=text reads others"
                    )
                loaded: Any = datasets.load_dataset(reader, data_files=str(path))
            elif saved:
                loaded = datasets.load_from_disk(str(path))
            else:
                loaded = datasets.load_dataset(
                    str(path) if path.is_dir() else self.name, self.config, revision=self.revision
                )
        except Refusal:
            raise
        except Exception as error:  # the library and what it uses raise many kinds
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            where = "" if path.exists() else " (there is no such file or folder here, so it was looked for on the hub)"
            raise Refusal(f"data.name={self.name} cannot be loaded{where}: {reason}") from error
        return dict(loaded) if isinstance(loaded, dict) else {self.train_split: loaded}

    @property
    def announcement(self) -> str:
        rows = ", ".join(f"{split} {len(data):,}" for split, data in self._data.items())
        config = f"/{self.config}" if self.config else ""
        return f"huggingface: {self.name}{config}, column {self.column} (rows: {rows})"

    def fingerprint(self) -> str:
        data = {split: (each._fingerprint, len(each)) for split, each in self._data.items()}
        settings = [self.column, self.validation_share, self.test_share, self.split_seed, self.on_bad]
        return caches.digest("huggingface", VERSION, settings, data)

    def parts(self, split: Split) -> Sequence[Rows]:
        if split != "train" and split in self._data:
            return self._rows(split, None)
        if split != "train" and not (self.validation_share if split == "validation" else self.test_share):
            raise Refusal(f"data.name={self.name} has no {split} split: give data.{split}_split or data.{split}_share")
        if any(self._shares):
            _ = self._marks  # told before the corpus travels to other processes
        return self._rows("train", split if any(self._shares) else None)

    @property
    def _shares(self) -> tuple[float, float]:
        """Of the training split that are held out: nothing for what the data set itself has."""
        return (
            0.0 if "validation" in self._data else self.validation_share,
            0.0 if "test" in self._data else self.test_share,
        )

    def _rows(self, name: str, split: Split | None) -> list[Rows]:
        total = len(self._data[name])
        return [Rows(name, start, min(start + ROWS, total), split) for start in range(0, total, ROWS)]

    @cached_property
    def _marks(self) -> splits.Marks:
        digests = None
        if self._data["train"].data.nbytes <= splits.COUNTED:
            digests = [
                splits.digest(lines, self.split_seed)
                for part in self._rows("train", None)
                for _, lines in self._texts(part)
            ]
            self._dropped = 0
        return splits.marks(
            *self._shares, digests, f"data.name={self.name}", "Give data.validation_split=, or more documents."
        )

    def read(self, part: Rows) -> Iterator[Text]:
        for number, lines in self._texts(part):
            if part.split is None or splits.side(splits.digest(lines, self.split_seed), self._marks) == part.split:
                sentences = sentences_of(lines)
                if sentences:
                    yield Text(sentences, where=f"{self.name}, {part.name}, row {number}")

    def _texts(self, part: Rows) -> Iterator[tuple[int, list[str]]]:
        """Number and lines of the rows that are not blank."""
        data = self._data[part.name]
        for start in range(part.start, part.stop, 1000):
            for number, text in enumerate(data[start : min(start + 1000, part.stop)][self.column], start):
                if text is None or not text or text.isspace():
                    continue
                if "\0" in text:
                    if self.on_bad == "refuse":
                        raise Refusal(
                            f"{self.name}, {part.name}, row {number}: a NUL character. Or leave such rows out: data.on_bad=drop"
                        )
                    self._dropped += 1
                    continue
                yield number, text.split("\n")

    def notes(self) -> list[str]:
        notes = [f"{self.name}: {self._dropped} rows with NUL characters dropped"] if self._dropped else []
        self._dropped = 0
        return notes
