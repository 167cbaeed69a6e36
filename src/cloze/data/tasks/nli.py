"""Natural language inference beside the benchmarks': XNLI in many languages (https://arxiv.org/abs/1809.05053) and SICK
(https://aclanthology.org/L14-1314/).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from cloze.data import cache as caches
from cloze.data.base import Labelled, Labels, Record
from cloze.data.files import find
from cloze.data.tasks.benchmark import Benchmark, LeftOut, Maker, id_of, label_of, text_of
from cloze.data.tasks.rows import Chained, Row, Rows, TsvRows, file_in
from cloze.errors import Refusal, did_you_mean

_THREE = ("entailment", "neutral", "contradiction")


class Xnli(Benchmark):
    """XNLI: what was learnt in one language is tested in others.

    path            a folder with xnli.dev.tsv and xnli.test.tsv (every language in one file, told by its column language), or with files
                    such as sw.genre.dev.tsv (columns sentence1_sw, sentence2_sw)
    languages       those to validate and test on; None: all that are there
    train_path      the file to train on: multinli.train.en.tsv of XNLI-MT, or train.tsv of GLUE's MNLI; None: multinli.train.<language>.tsv
                    where path or its folder multinli has it
    train_language  the language to train in

    Splits are train, validation and test of all languages, and validation_sw, test_sw, … of one each where there are several.
    """

    def __init__(
        self, path: str, languages: list[str] | None = None, train_path: str | None = None, train_language: str = "en"
    ) -> None:
        self.name = "xnli"
        self.title = "XNLI"
        self.path = path
        self.languages = languages
        self.train_path = train_path
        self.train_language = train_language

    @property
    def labels(self) -> dict[str, Labels]:
        return {"xnli": Labels(_THREE)}

    @property
    def settings(self) -> Sequence[Any]:
        return (self.train_language,)

    @property
    def remarks(self) -> Sequence[str]:
        return () if "train" in self.tables else ("nothing to train on: give data.train_path",)

    def _found(self) -> dict[str, Rows]:
        path = Path(self.path).expanduser()
        if not path.is_dir():
            raise Refusal(f"data.path={self.path} is not a folder: it must be XNLI's")
        found: dict[str, Rows] = {}
        train = self._train(path)
        if train is not None:
            found["train"] = train
        for split, kind in (("validation", "dev"), ("test", "test")):
            spoken = _spoken(path, kind)
            if not spoken:
                continue
            for language in self.languages or ():
                if language not in spoken:
                    raise Refusal(
                        f"data.languages: no {language} in the {kind} files of data.path={self.path}{did_you_mean(language, spoken)}"
                    )
            wanted = self.languages or sorted(spoken)
            found[split] = Chained([spoken[language] for language in wanted])
            if len(wanted) > 1:
                found |= {f"{split}_{language}": spoken[language] for language in wanted}
        if not found:
            raise Refusal(f"data.path={self.path} has neither xnli.dev.tsv nor files such as sw.genre.dev.tsv")
        return found

    def _train(self, path: Path) -> Rows | None:
        name = f"multinli.train.{self.train_language}.tsv"
        if self.train_path is not None:
            file = find("data.train_path", self.train_path)[0]
        else:
            there = file_in(path, name, f"multinli/{name}")
            if there is None:
                return None
            file = there
        return _Spoken(TsvRows(file), self.train_language)

    def maker(self, split: str) -> Maker:
        labels = self.labels["xnli"]

        def make(row: Row) -> Record:
            label = row.fields["label"]
            if label == "-":
                raise LeftOut("rows whose annotators do not agree (label -)")
            if label == "contradictory":  # so the translated training files have it
                row = Row({**row.fields, "label": "contradiction"}, row.source, row.number)
            return Labelled(
                (text_of(row, "sentence1"), text_of(row, "sentence2")),
                where=row.where,
                language=row.fields["language"],
                label=label_of(row, "label", labels),
                id=id_of(row, ("id",)),
                task="xnli",
            )

        return make


class _Spoken(Rows):
    """The rows of a table that are in one language, with columns that are called alike."""

    def __init__(self, table: TsvRows, language: str) -> None:
        self.table, self.language = table, language
        self.name, self.size = table.name, table.size
        own = f"sentence1_{language}"
        self._texts = (
            (own, f"sentence2_{language}")
            if own in table.columns
            else (table.column("sentence1", "premise"), table.column("sentence2", "hypo", "hypothesis"))
        )
        self._label = table.column("gold_label", "label")

    @property
    def columns(self) -> tuple[str, ...]:
        return ("sentence1", "sentence2", "label", "language", "id")

    def __iter__(self) -> Iterator[Row]:
        for row in self.table:
            if row.fault:
                yield row
            elif row.fields.get("language", self.language) == self.language:
                first, second = self._texts
                fields = {
                    "sentence1": row.fields[first],
                    "sentence2": row.fields[second],
                    "label": row.fields[self._label],
                    "language": self.language,
                    "id": row.fields.get("pairID", ""),
                }
                yield Row(fields, row.source, row.number)

    def digest(self) -> str:
        return caches.digest(self.table.digest(), self.language)


def _spoken(path: Path, kind: str) -> dict[str, Rows]:
    """The rows of each language, in files of dev or of test."""
    whole = file_in(path, f"xnli.{kind}.tsv")
    if whole is not None:
        table = TsvRows(whole)
        table.column("language")
        return {
            language: _Spoken(table, language)
            for language in sorted({row.fields["language"] for row in table if not row.fault})
        }
    found: dict[str, Rows] = {}
    for each in sorted(path.glob(f"*.genre.{kind}.tsv")):
        table = TsvRows(find("data.path", str(each))[0])
        for column in table.columns:
            if column.startswith("sentence1_"):
                language = column.removeprefix("sentence1_")
                found.setdefault(language, _Spoken(table, language))
    return found


class Sick(Benchmark):
    """SICK: does one sentence follow from another, or how near are they, from 1 to 5?

    path      the folder with SICK_train.txt, SICK_trial.txt (to validate on) and SICK_test_annotated.txt
    predict   entailment | relatedness
    """

    def __init__(self, path: str, predict: Literal["entailment", "relatedness"] = "entailment") -> None:
        self.name = "sick"
        self.title = f"SICK ({predict})"
        self.path = path
        self.predict = predict

    @property
    def labels(self) -> dict[str, Labels]:
        if self.predict == "entailment":
            return {"sick": Labels(tuple(name.upper() for name in _THREE))}
        return {"sick": Labels((), ("pearson", "spearman"), 1.0, 5.0)}

    @property
    def settings(self) -> Sequence[Any]:
        return (self.predict,)

    def _found(self) -> dict[str, Rows]:
        path = Path(self.path).expanduser()
        names = {
            "train": ("SICK_train.txt",),
            "validation": ("SICK_trial.txt",),
            "test": ("SICK_test_annotated.txt", "SICK_test.txt"),
        }
        found: dict[str, Rows] = {}
        for split, each in names.items():
            file = file_in(path, *each)
            if file is not None:
                found[split] = TsvRows(file)
        if not found:
            raise Refusal(f"data.path={self.path} has no {', '.join(each[0] for each in names.values())}")
        return found

    def maker(self, split: str) -> Maker:
        rows = self.tables[split]
        labels = self.labels["sick"]
        column = {"entailment": "entailment_judgment", "relatedness": "relatedness_score"}[self.predict]
        for name in ("sentence_A", "sentence_B", *(() if split == "test" else (column,))):
            rows.column(name)

        def make(row: Row) -> Record:
            return Labelled(
                (text_of(row, "sentence_A"), text_of(row, "sentence_B")),
                where=row.where,
                label=label_of(row, column, labels, needed=split != "test"),
                id=id_of(row, ("pair_ID",)),
                task="sick",
            )

        return make
