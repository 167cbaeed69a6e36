"""The last word of a passage, which its last sentence alone does not tell. LAMBADA: https://arxiv.org/abs/1606.06031."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cloze.data import cache as caches
from cloze.data.base import Labels, Record, TaskCorpus, Text
from cloze.data.files import File, find
from cloze.data.tasks.fields import Fault, field
from cloze.data.tasks.rows import JsonRows, Row
from cloze.errors import Refusal

VERSION = 1
_LAST_WORD = re.compile(r"(.*\S)(\s+)(\S+)\s*", re.DOTALL)


@dataclass(frozen=True)
class LastWord(Text):
    """A passage without its last word, and that word. `sentences` is (context,); `gap` is the white space between the two."""

    target: str = ""
    gap: str = " "
    id: str = ""

    @property
    def context(self) -> str:
        return self.sentences[0]

    @property
    def passage(self) -> str:
        return f"{self.context}{self.gap}{self.target}"

    @property
    def fields(self) -> tuple[str, ...]:
        """The context, then the word."""
        return (self.context, self.target)


class Lambada(TaskCorpus):
    """LAMBADA as GPT-2 was measured on it, detokenised: JSON lines {"text": …}. There is one split, "test".

    path   the file, or the folder with lambada_test.jsonl

    The last word is what white space stands before at the end of the passage; punctuation that is joined to it belongs to it.
    """

    reads = LastWord
    name = "lambada"

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def labels(self) -> dict[str, Labels]:
        return {self.name: Labels(metrics=("accuracy", "perplexity"))}

    def splits(self) -> tuple[str, ...]:
        return ("test",)

    @cached_property
    def file(self) -> File:
        path = Path(self.path).expanduser()
        found = find("data.path", str(path / "lambada_test.jsonl") if path.is_dir() else self.path)
        if len(found) > 1:
            raise Refusal(f"data.path={self.path} names {len(found)} files; it must be one")
        return found[0]

    @property
    def announcement(self) -> str:
        return f"lambada: {self.file}"

    def fingerprint(self) -> str:
        return caches.digest("lambada", VERSION, caches.source_digest(self.file.path))

    def split_records(self, split: str) -> Iterator[Record]:
        for row in JsonRows(self.file):
            try:
                yield _last_word(row)
            except Fault as fault:
                raise Refusal(f"{row.where}: {fault}") from None

    def submission(self, split: str, records: Sequence[Record], predictions: Sequence[Any]) -> dict[str, str]:
        """A table of line, the word that was there, and the word that was predicted."""
        rows = []
        for record, predicted in zip(records, predictions, strict=True):
            assert isinstance(record, LastWord)
            rows.append(f"{record.id}\t{record.target}\t{predicted}")
        return {f"lambada-{split}.tsv": "\n".join(["line\tword\tprediction", *rows]) + "\n"}


def _last_word(row: Row) -> LastWord:
    if row.fault:
        raise Fault(row.fault)
    match = _LAST_WORD.fullmatch(field(row.fields, "text", str))
    if match is None:
        raise Fault("`text` must be two words or more")
    return LastWord((match[1],), where=row.where, target=match[3], gap=match[2], id=str(row.number))
