"""The user's own pairs of texts, a source and what is to be written for it: any table with two columns of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from cloze.data.base import Labels, Record, SourceTarget
from cloze.data.tasks.benchmark import Maker, id_of, text_of
from cloze.data.tasks.fields import Fault
from cloze.data.tasks.rows import Row
from cloze.data.tasks.table import Table

LABELS = Labels((), ("token_accuracy", "exact_match"))  # nothing to choose from


class Pairs(Table):
    """A file of sources and targets.

    path              a .tsv, .csv or .jsonl file, or a folder of them, as of `Table`
    source, target    the columns: names; numbers from 1 where header=false. A test file need not have targets
    id                the column that an example is called by; None: its number
    The others are those of `Table`. What is held out is decided by the source.
    """

    reads = SourceTarget
    answer = "target"

    def __init__(
        self,
        path: str,
        source: str | int,
        target: str | int,
        id: str | int | None = None,
        header: bool = True,
        encoding: str = "utf-8",
        on_bad: Literal["refuse", "drop"] = "refuse",
        validation_path: str | None = None,
        test_path: str | None = None,
        validation_share: float | None = None,
        test_share: float = 0.0,
        split_seed: int = 0,
    ) -> None:
        super().__init__(
            path,
            source,
            target,
            id=id,
            header=header,
            encoding=encoding,
            on_bad=on_bad,
            validation_path=validation_path,
            test_path=test_path,
            validation_share=validation_share,
            test_share=test_share,
            split_seed=split_seed,
        )
        self.name = self.title = "pairs"
        called = {"text": "source", "label": "target"}
        self.columns = {called.get(setting, setting): column for setting, column in self.columns.items()}

    @property
    def settings(self) -> Sequence[object]:
        return (self.columns, self.header, self.encoding)

    @property
    def labels(self) -> dict[str, Labels]:
        return {self.name: LABELS}

    def maker(self, split: str) -> Maker:
        source, target = self.columns["source"], self.columns["target"]
        names = [self.columns["id"]] if "id" in self.columns else []

        def make(row: Row) -> Record:
            given = text_of(row, source)
            if not given:
                raise Fault(f"column {source}: the source is empty")
            wanted = None
            if split != "test" or row.fields.get(target):
                wanted = text_of(row, target)
                if not wanted:
                    raise Fault(f"column {target}: the target is empty")
            return SourceTarget((given,), where=row.where, target=wanted, id=id_of(row, names))

        return make

    def submission(self, split: str, records: Sequence[Record], predictions: Sequence[str]) -> dict[str, str]:
        return lines_of(self.name, split, predictions)


def lines_of(name: str, split: str, texts: Sequence[str]) -> dict[str, str]:
    """The file of written texts, a line each, which is what scorers of translations and summaries read."""
    return {f"{name}-{split}.txt": "".join(f"{' '.join(text.split())}\n" for text in texts)}
