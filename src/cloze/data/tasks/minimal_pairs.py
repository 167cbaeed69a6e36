"""Minimal pairs: two sentences that differ in one thing, which makes one of them ungrammatical. BLiMP: https://arxiv.org/abs/1912.00582."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from cloze.data import cache as caches
from cloze.data.base import Choices, Labels, Record, TaskCorpus
from cloze.data.files import File, find
from cloze.data.tasks.fields import Fault, field
from cloze.data.tasks.rows import JsonRows, Row
from cloze.errors import Refusal, did_you_mean

VERSION = 1


class Blimp(TaskCorpus):
    """BLiMP's files, a paradigm each. A pair is `Choices` between the good sentence, which is option 0, and the bad one.

    path       the folder of the .jsonl files, or one of them
    paradigms  names of files without .jsonl (anaphor_gender_agreement), of fields (syntax) or of terms (island_effects); none: all

    A record's `id` is its paradigm, its `topic` the linguistic term. There is one split, "test": nothing is to be learnt from it.
    """

    reads = Choices
    name = "blimp"

    def __init__(self, path: str, paradigms: list[str] | None = None) -> None:
        self.path, self.paradigms = path, tuple(paradigms or ())

    @property
    def labels(self) -> dict[str, Labels]:
        return {self.name: Labels(("good", "bad"))}

    def splits(self) -> tuple[str, ...]:
        return ("test",)

    @cached_property
    def files(self) -> list[File]:
        path = Path(self.path).expanduser()
        held = [each for each in find("data.path", self.path) if not path.is_dir() or each.kind == ".jsonl"]
        if not held:
            raise Refusal(f"data.path={self.path} has no .jsonl file")
        return held

    @property
    def announcement(self) -> str:
        chosen = f", of them {', '.join(self.paradigms)}" if self.paradigms else ""
        return f"blimp: {self.path} (paradigms: {len(self.files)}{chosen})"

    def fingerprint(self) -> str:
        return caches.digest(
            "blimp", VERSION, list(self.paradigms), [caches.source_digest(file.path) for file in self.files]
        )

    def split_records(self, split: str) -> Iterator[Record]:
        unmet = set(self.paradigms)
        names: set[str] = set()
        for file in self.files:
            for row in JsonRows(file):
                try:
                    record, called = _pair(row)
                except Fault as fault:
                    raise Refusal(f"{row.where}: {fault}") from None
                names |= called
                if not self.paradigms or called & set(self.paradigms):
                    unmet -= called
                    yield record
        if unmet:
            strange = sorted(unmet)[0]
            raise Refusal(f"data.paradigms: {strange} is not in {self.path}{did_you_mean(strange, names)}")

    def submission(self, split: str, records: Sequence[Record], predictions: Sequence[Any]) -> dict[str, str]:
        """The share of pairs whose good sentence was chosen, by paradigm, in percent, as the paper's table has it."""
        right: dict[str, list[bool]] = {}
        for record, predicted in zip(records, predictions, strict=True):
            assert isinstance(record, Choices)
            right.setdefault(record.id, []).append(int(predicted) == record.label)
        rows = [f"{name}\t{len(each)}\t{100 * sum(each) / len(each):.1f}" for name, each in right.items()]
        return {f"blimp-{split}.tsv": "\n".join(["paradigm\tpairs\taccuracy", *rows]) + "\n"}


def _pair(row: Row) -> tuple[Choices, set[str]]:
    """The record of a line, and what it may be called by: paradigm, field, term."""
    if row.fault:
        raise Fault(row.fault)
    sentences = (field(row.fields, "sentence_good", str), field(row.fields, "sentence_bad", str))
    if not all(sentences):
        raise Fault("a sentence is empty")
    paradigm = field(row.fields, "UID", str)
    groups = [str(row.fields.get(name, "")) for name in ("linguistics_term", "field")]
    return Choices(("",), groups[0], row.where, "", sentences, 0, paradigm), {paradigm, *groups}
