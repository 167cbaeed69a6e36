"""GLUE's tasks: https://arxiv.org/abs/1804.07461, from the official files or from `datasets` (`nyu-mll/glue`).

A task is told by the columns of its files. The public download script had the addresses of QQP and STS-B swapped, so a folder's name
proves nothing: where another folder holds the task that is asked for, it is taken, and the run says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from cloze.data.base import Labelled, Labels, Record
from cloze.data.files import Bad, find, lines
from cloze.data.huggingface import HuggingFace
from cloze.data.tasks.benchmark import (
    Benchmark,
    LeftOut,
    Maker,
    id_of,
    label_of,
    numbered,
    text_of,
)
from cloze.data.tasks.fields import Fault
from cloze.data.tasks.rows import DatasetRows, FileRows, Row, Rows, TsvRows, file_in
from cloze.errors import Refusal

GlueTask = Literal["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli", "ax"]

_YES_NO = ("0", "1")
_TWO = ("entailment", "not_entailment")
_THREE = ("entailment", "neutral", "contradiction")
_COLA = ("source", "label", "star", "sentence")  # columns of its train.tsv and dev.tsv, which have no header


@dataclass(frozen=True)
class Form:
    """How a task looks: the names of its folder, what it asks, and its columns, which `datasets` may call otherwise than the files."""

    folder: tuple[str, ...]
    labels: Labels
    first: tuple[str, ...]
    second: tuple[str, ...] = ()
    label: tuple[str, ...] = ("label",)

    def looks_at(self, columns: Sequence[str]) -> bool:
        """Whether the columns of the texts are there."""
        return all(not names or any(name in columns for name in names) for names in (self.first, self.second))


FORMS: dict[str, Form] = {
    "cola": Form(("CoLA",), Labels(_YES_NO, ("matthews",)), ("sentence",)),
    "sst2": Form(("SST-2",), Labels(_YES_NO), ("sentence",)),
    "mrpc": Form(
        ("MRPC",),
        Labels(_YES_NO, ("f1", "accuracy")),
        ("#1 String", "sentence1"),
        ("#2 String", "sentence2"),
        ("Quality", "label"),
    ),
    "stsb": Form(
        ("STS-B", "STS"),
        Labels((), ("spearman", "pearson"), 0.0, 5.0),
        ("sentence1",),
        ("sentence2",),
        ("score", "label"),
    ),
    "qqp": Form(
        ("QQP",), Labels(_YES_NO, ("f1", "accuracy")), ("question1",), ("question2",), ("is_duplicate", "label")
    ),
    "mnli": Form(
        ("MNLI",), Labels(_THREE), ("sentence1", "premise"), ("sentence2", "hypothesis"), ("gold_label", "label")
    ),
    "qnli": Form(("QNLI",), Labels(_TWO), ("question",), ("sentence",)),
    "rte": Form(("RTE",), Labels(_TWO), ("sentence1",), ("sentence2",)),
    "wnli": Form(("WNLI",), Labels(_YES_NO), ("sentence1",), ("sentence2",)),
    "ax": Form(
        ("AX", "diagnostic"),
        Labels(_THREE, ("matthews",)),
        ("sentence1", "Premise", "premise"),
        ("sentence2", "Hypothesis", "hypothesis"),
        ("Label", "label"),
    ),
}

_FILES: dict[str, tuple[str, ...]] = {  # of a split, in a task's folder
    "train": ("train.tsv",),
    "validation": ("dev.tsv", "dev_matched.tsv"),
    "validation_mismatched": ("dev_mismatched.tsv",),
    "test": ("test.tsv", "test_matched.tsv"),
    "test_mismatched": ("test_mismatched.tsv",),
}
_DIAGNOSTIC = ("diagnostic-full.tsv", "diagnostic.tsv", "AX.tsv", "ax.tsv", "test.tsv")  # the first has labels
_HUB = {"validation_matched": "validation", "test_matched": "test"}  # splits that `datasets` calls otherwise

_SENT = {task: {"test": f"{form.folder[0]}.tsv"} for task, form in FORMS.items()}  # files of a submission
_SENT["mnli"] = {
    "test": "MNLI-m.tsv",
    "test_mismatched": "MNLI-mm.tsv",
    "diagnostic": "AX.tsv",
    "validation": "MNLI-m-validation.tsv",
    "validation_mismatched": "MNLI-mm-validation.tsv",
}


class Glue(Benchmark):
    """One task of GLUE.

    task      cola | sst2 | mrpc | stsb | qqp | mnli | qnli | rte | wnli | ax (the diagnostic set: a test split for models of mnli)
    path      the folder of all tasks, or the task's own; or what `datasets` loads: a name on the hub (nyu-mll/glue), a copy of that,
              what save_to_disk wrote
    revision  a commit, branch or tag on the hub

    Labels are the words of the files. MNLI has the splits train, validation and test (matched), validation_mismatched,
    test_mismatched, and diagnostic where AX lies beside it. Rows of QQP that have too few columns are left out, as by everyone.
    """

    def __init__(self, task: GlueTask, path: str, revision: str | None = None) -> None:
        self.name = task
        self.title = f"GLUE {FORMS[task].folder[0]}"
        self.path = path
        self.revision = revision
        self._remarks: list[str] = []
        if task == "qqp":
            self.drops_short = "rows with too few columns"

    @property
    def labels(self) -> dict[str, Labels]:
        return {self.name: FORMS[self.name].labels}

    @property
    def remarks(self) -> Sequence[str]:
        if self.name == "ax":
            return (
                "models of mnli are tested on it: it is data=glue/mnli's split diagnostic where AX lies beside MNLI",
            )
        return self._remarks

    # where its files lie

    def _found(self) -> dict[str, Rows]:
        path = Path(self.path).expanduser()
        if path.is_dir() and not _is_dataset(path):
            if self.revision is not None:
                raise Refusal(f"data.revision={self.revision} has no effect on a folder: leave it out")
            return self._in_folders(path)
        if path.exists() and not path.is_dir():
            raise Refusal(f"data.path={self.path} is a file; it must be a folder: GLUE's, or the task's own")
        if not path.exists() and (self.path.startswith(("/", ".", "~")) or self.path.count("/") > 1):
            find("data.path", self.path)  # says what is near
        return self._of_datasets()

    def _in_folders(self, path: Path) -> dict[str, Rows]:
        form = FORMS[self.name]
        own = _tables(path, self.name)
        if own:
            fault = misfit(self.name, own)
            if fault:
                raise Refusal(f"data.path={self.path}: {fault}{_advice(own)}")
            return own
        named = {each.name: task for each in sorted(path.iterdir()) if (task := _task_named(each)) is not None}
        mine = [name for name, task in named.items() if task == self.name]
        faults: list[str] = []
        for name in [*mine, *(name for name in named if name not in mine)]:
            tables = _tables(path / name, self.name)
            if not tables:
                continue
            fault = misfit(self.name, tables)
            if fault:
                faults += [fault + _advice(tables)] if name in mine else []
                continue
            if name not in mine:
                if self.name not in _tasks_of(tables) or len(_tasks_of(tables)) > 1:
                    continue
                self._remarks.append(f"by its columns the folder {name} holds {form.folder[0]}, whatever it is called")
            return tables | self._diagnostic(path)
        if faults:
            raise Refusal(f"data.path={self.path}: {faults[0]}")
        there = f"it has {', '.join(named)}" if named else "it has no folder of any task"
        raise Refusal(
            f"data.path={self.path}: no folder {form.folder[0]} with {', '.join(_expected(self.name))} in it; {there}"
        )

    def _diagnostic(self, path: Path) -> dict[str, Rows]:
        """AX beside MNLI."""
        if self.name != "mnli":
            return {}
        for each in sorted(path.iterdir()):
            if _task_named(each) == "ax" and (found := _tables(each, "ax")):
                return {"diagnostic": found["test"]}
        return {}

    def _of_datasets(self) -> dict[str, Rows]:
        path = Path(self.path).expanduser()
        saved = path.is_dir() and any((path / mark).is_file() for mark in ("dataset_dict.json", "state.json"))
        try:
            loaded = HuggingFace(self.path, None if saved else self.name, revision=self.revision)._load()
        except Refusal as refusal:
            raise Refusal(str(refusal).replace("data.name=", "data.path=")) from refusal
        form = FORMS[self.name]
        found: dict[str, Rows] = {}
        for name, data in loaded.items():
            label = next((column for column in form.label if column in data.column_names), None)
            found[_HUB.get(name, name)] = DatasetRows(f"{self.path}, {name}", data, label, form.labels.names)
        fault = misfit(self.name, found)
        if fault:
            raise Refusal(f"data.path={self.path}: {fault}{_advice(found)}")
        return found

    # its records

    def maker(self, split: str) -> Maker:
        rows = self.tables[split]
        form = FORMS["ax" if split == "diagnostic" else self.name]
        first = rows.column(*form.first)
        second = rows.column(*form.second) if form.second else None
        given = [name for name in form.label if name in rows.columns]
        tested = split.startswith(("test", "diagnostic"))
        label = given[0] if given else None if tested else rows.column(*form.label)
        task = self.name

        def make(row: Row) -> Record:
            if label is not None and row.fields[label] == "-":
                raise LeftOut("rows whose annotators do not agree (label -)")
            return Labelled(
                (text_of(row, first),) if second is None else (text_of(row, first), text_of(row, second)),
                where=row.where,
                label=None if label is None else label_of(row, label, form.labels, needed=not tested),
                id=id_of(row, ("index", "id", "idx")),
                task=task,
            )

        return make

    def submission(self, split: str, records: Sequence[Record], predictions: Sequence[Any]) -> dict[str, str]:
        """As gluebenchmark.com takes it: a table of index and prediction, STS-B's limited to 0..5."""
        labels = FORMS[self.name].labels
        rows = [
            f"{index}\t{min(max(float(each), labels.low), labels.high):.3f}" if labels.numeric else f"{index}\t{each}"
            for index, each in numbered(records, predictions)
        ]
        return {sent_as(self.name, split): "\n".join(["index\tprediction", *rows]) + "\n"}


def sent_as(task: str, split: str) -> str:
    """The name of the file that a split's predictions are sent in; the split stands in it where it is not one of the leaderboard's."""
    name = _SENT[task].get(split)
    return name if name is not None else f"{FORMS[task].folder[0]}-{split}.tsv"


# ---------------------------------------------------------------------------------------------- what task a file is of


def misfit(task: str, tables: dict[str, Rows]) -> str:
    """What shows that these are not the task's files ("" = nothing): a column that is missing, or a label that is another task's."""
    form = FORMS[task]
    for split, rows in tables.items():
        tested = split.startswith("test")
        if form.looks_at(rows.columns) and (tested or any(name in rows.columns for name in form.label)):
            label = _first_label(rows, form)
            if tested or label is None or fits(label, form.labels) or not _is_known(label, rows.columns):
                continue
            return f"{rows.name} is not {form.folder[0]}: its first label is {label!r}"
        try:
            for names in (form.first, form.second, () if tested else form.label):
                _ = rows.column(*names) if names else None
        except Refusal as refusal:
            return str(refusal).removesuffix(".")
    return ""


def fits(word: str, labels: Labels) -> bool:
    """Whether a label is one of the task's; "-" is one that its annotators did not agree on."""
    try:
        return word == "-" or label_of(Row({"label": word}, "", 1), "label", labels) is not None
    except Fault:
        return labels.numeric and "." in word  # a score out of range is a fault of the row, not another task


def _is_known(word: str, columns: Sequence[str]) -> bool:
    """Whether some task with these columns has such a label: what none has is a fault of its row."""
    return any(form.looks_at(columns) and fits(word, form.labels) for form in FORMS.values() if form.labels.names)


def _first_label(rows: Rows, form: Form) -> str | None:
    column = next((name for name in form.label if name in rows.columns), None)
    row = next(iter(rows), None)
    value = row.fields.get(column) if row is not None and column is not None else None
    return str(value) if value not in (None, "") else None


def _tasks_of(tables: dict[str, Rows]) -> list[str]:
    """The tasks whose files these could be."""
    return [task for task in get_args(GlueTask) if task != "ax" and not misfit(task, tables)]


def _advice(tables: dict[str, Rows]) -> str:
    if "train" not in tables and "validation" not in tables:
        return "."
    found = _tasks_of(tables)
    return (
        f". By its columns it is {' or '.join(FORMS[task].folder[0] for task in found)}: data=glue/{found[0]}"
        if found
        else "."
    )


def _task_named(folder: Path) -> str | None:
    plain = folder.name.lower().replace("-", "").replace("_", "")
    for task, form in FORMS.items():
        if folder.is_dir() and plain in (task, *(name.lower().replace("-", "") for name in form.folder)):
            return task
    return None


def _expected(task: str) -> tuple[str, ...]:
    if task == "ax":
        return _DIAGNOSTIC[1:2]
    if task == "mnli":
        return ("train.tsv", "dev_matched.tsv", "dev_mismatched.tsv")
    return ("train.tsv", "dev.tsv", "test.tsv")


def _tables(folder: Path, task: str) -> dict[str, Rows]:
    """The files of a folder, by split."""
    if task == "ax":
        file = file_in(folder, *_DIAGNOSTIC)
        return {} if file is None else {"test": TsvRows(file)}
    found: dict[str, Rows] = {}
    for split, names in _FILES.items():
        file = file_in(folder, *names)
        if file is not None:
            found[split] = _opened(TsvRows(file), task)
    return found


def _opened(rows: FileRows, task: str) -> Rows:
    """A file, which may be one of CoLA's that have no header."""
    first = next((line for _, line in lines(rows.file, rows.encoding)), "")
    values = [] if isinstance(first, Bad) else first.split("\t")
    bare = len(values) == len(_COLA) and values[1] in _YES_NO and "sentence" not in values
    return TsvRows(rows.file, rows.encoding, _COLA) if bare else rows


def _is_dataset(path: Path) -> bool:
    """Whether a folder holds what `datasets` wrote, not the official files."""
    if any((path / mark).is_file() for mark in ("dataset_dict.json", "state.json")):
        return True
    return any(next(path.glob(pattern), None) for pattern in ("*.parquet", "*/*.parquet", "*.arrow", "*/*.arrow"))
