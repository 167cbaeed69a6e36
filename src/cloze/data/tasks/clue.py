"""Chinese tasks: CLUE (https://arxiv.org/abs/2004.05986), FewCLUE (https://arxiv.org/abs/2107.07498), OCNLI
(https://arxiv.org/abs/2010.05444) and ChnSentiCorp, from the official files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from cloze.data.base import Choices, Labelled, Labels, Record
from cloze.data.files import File
from cloze.data.tasks.archives import members
from cloze.data.tasks.benchmark import Benchmark, LeftOut, Maker, id_of, label_of, numbered, text_of, word_of
from cloze.data.tasks.fields import Fault, field, texts
from cloze.data.tasks.marks import marked
from cloze.data.tasks.rows import JsonRows, Row, Rows, TsvRows, file_in
from cloze.errors import Refusal

ClueTask = Literal[
    "afqmc", "bustm", "chnsenticorp", "cmnli", "csl", "csldcp", "eprstmt", "iflytek", "ocnli", "tnews", "wsc"
]

_YES_NO = ("0", "1")
_THREE = ("neutral", "entailment", "contradiction")
_NEWS = tuple(str(n) for n in range(100, 117) if n not in (105, 111))


@dataclass(frozen=True)
class Form:
    """How a task looks: its title, its classes (none: those of the files), and the columns of its texts."""

    title: str
    names: tuple[str, ...]
    columns: tuple[str, ...]
    folders: tuple[str, ...] = ()  # what its folder may be called, beside the task's own name


FORMS: dict[str, Form] = {
    "afqmc": Form("CLUE AFQMC", _YES_NO, ("sentence1", "sentence2")),
    "bustm": Form("FewCLUE BUSTM", _YES_NO, ("sentence1", "sentence2")),
    "chnsenticorp": Form("ChnSentiCorp", _YES_NO, ("text_a",)),
    "cmnli": Form("CLUE CMNLI", _THREE, ("sentence1", "sentence2")),
    "csl": Form("CLUE CSL", _YES_NO, ("keyword", "abst")),
    "csldcp": Form("FewCLUE CSLDCP", (), ("content",)),
    "eprstmt": Form("FewCLUE EPRSTMT", ("Negative", "Positive"), ("sentence",)),
    "iflytek": Form("CLUE IFLYTEK", tuple(map(str, range(119))), ("sentence",)),
    "ocnli": Form("OCNLI", _THREE, ("sentence1", "sentence2")),
    "tnews": Form("CLUE TNEWS", _NEWS, ("sentence",)),
    "wsc": Form("CLUE WSC", ("true", "false"), ("text", "target"), ("cluewsc", "cluewsc2020")),
    "chid": Form("FewCLUE ChID", (), ("content", "candidates")),
}


# what files of a submission are called, where it is not as the task; {} is the version of CLUE
_SENT = {"ocnli": "ocnli_50k", "tnews": "tnews{}", "wsc": "cluewsc{}"}
_SENT_FEW = {name: f"{name}f" for name in ("chid", "csl", "iflytek", "ocnli", "tnews")} | {"wsc": "cluewscf"}
_FEW = re.compile(r"(train|dev)_(few_all|\d)\.json|test_public\.json")


class _Files(Benchmark):
    """A task's files, in its folder or archive, or in its folder below that of all tasks."""

    fold: str | int | None

    def _found(self) -> dict[str, Rows]:
        path = Path(self.path).expanduser()
        form = FORMS[self.name]
        names = _names(self.fold, "tsv" if self.name == "chnsenticorp" else "json")
        if path.is_file() and path.suffix.lower() == ".zip":
            held: dict[str, File] = {each.path.name: each for each in members(path)}
            files = {
                split: next((held[name] for name in wanted if name in held), None) for split, wanted in names.items()
            }
        elif path.is_dir():
            calls = (self.name, *form.folders)
            below = [each for each in sorted(path.iterdir()) if each.is_dir() and _plain(each.name) in calls]
            files = {}
            for folder in (path, *below):
                files = {split: file_in(folder, *wanted) for split, wanted in names.items()}
                if any(files.values()):
                    break
        else:
            raise Refusal(
                f"data.path={self.path} is not a folder: it must be the benchmark's, or the task's own, or a .zip"
            )
        found: dict[str, Rows] = {}
        for split, file in files.items():
            if file is not None:
                found[split] = TsvRows(file) if self.name == "chnsenticorp" else JsonRows(file)
        if "test" in found and found["test"].name == found.get("test_unlabelled", found["test"]).name:
            found.pop("test_unlabelled", None)
        if self.fold is not None and "train" not in found:
            raise Refusal(
                f"data.fold={self.fold}: there is no {names['train'][0]} of {form.title} in data.path={self.path}"
            )
        if not found:
            raise Refusal(
                f"data.path={self.path}: there is no {', '.join(each[0] for each in names.values())} of {form.title} in it, "
                f"nor a folder {self.name}"
            )
        for rows in found.values():
            for column in form.columns:
                rows.column(column)
        return found

    @property
    def settings(self) -> Sequence[Any]:
        return (self.fold,)

    @property
    def _is_few(self) -> bool:
        """Whether the files are FewCLUE's."""
        return any(_FEW.search(rows.name) for rows in self.tables.values())

    def submission(self, split: str, records: Sequence[Record], predictions: Sequence[Any]) -> dict[str, str]:
        """As cluebenchmarks.com takes it: {"id": …, "label": …} a line; `id` is a text where the files have one."""
        few = self._is_few
        newer = "test" in self.tables and "test1.1" in self.tables["test"].name
        name = _SENT_FEW.get(self.name, self.name) if few else _SENT.get(self.name, self.name)
        name = name.format("11" if newer else "10")
        sent = "test_unlabelled" if few else "test"
        first = next(iter(self.tables[split]), None) if split in self.tables else None
        texts = first is not None and isinstance(first.fields.get("id"), str)
        key = "answer" if self.name == "chid" else "label"
        lines = [
            json.dumps({"id": i if texts or not i.isdigit() else int(i), key: p}, ensure_ascii=False)
            for i, p in numbered(records, predictions)
        ]
        return {f"{name}_predict{'' if split == sent else f'-{split}'}.json": "".join(f"{line}\n" for line in lines)}


class Clue(_Files):
    """One of the tasks that are classification, as one text or two.

    afqmc, bustm, cmnli, ocnli               sentence1, sentence2
    csl                                      the keywords with a space between them, the abstract
    wsc                                      the text, the noun between asterisks, the pronoun between number signs: "*王*说#他#来"
    tnews, iflytek, eprstmt, csldcp, chnsenticorp      the text

    task      afqmc | bustm | chnsenticorp | cmnli | csl | csldcp | eprstmt | iflytek | ocnli | tnews | wsc
    path      the folder of all tasks, the task's own, or a .zip of its files
    fold      which training file: null takes train.json (or what there is: FewCLUE's train_few_all.json, OCNLI's train.50k.json),
              0..4 FewCLUE's train_0.json with dev_0.json, 10k train.10k.json

    The test split is FewCLUE's test_public.json, which has labels, where it is there; test.json is then `test_unlabelled`. Rows whose
    annotators did not agree (label "-" of OCNLI and CMNLI) are left out.
    """

    def __init__(self, task: ClueTask, path: str, fold: str | int | None = None) -> None:
        self.name = task
        self.title = FORMS[task].title
        self.path = path
        self.fold = fold

    @property
    def labels(self) -> dict[str, Labels]:
        return {self.name: Labels(self._names)}

    @cached_property
    def _names(self) -> tuple[str, ...]:
        if FORMS[self.name].names:
            return FORMS[self.name].names
        words = {
            word_of(row.fields["label"])
            for rows in self.tables.values()
            for row in rows
            if row.fields.get("label") not in (None, "")
        }
        if not words:
            raise Refusal(f"data.path={self.path}: no file of {self.title} has labels")
        return tuple(sorted(words))

    def maker(self, split: str) -> Maker:
        columns = FORMS[self.name].columns
        labels = self.labels[self.name]
        tested = split.startswith("test")
        if not tested:
            self.tables[split].column("label")

        def make(row: Row) -> Record:
            if row.fields.get("label") == "-":
                raise LeftOut("rows whose annotators do not agree (label -)")
            if self.name == "csl":
                sentences: tuple[str, ...] = (" ".join(texts(row.fields, "keyword")), text_of(row, "abst"))
            elif self.name == "wsc":
                sentences = (_spans_marked(row),)
            else:
                sentences = tuple(text_of(row, column) for column in columns)
            label = label_of(row, "label", labels, needed=not tested)
            return Labelled(sentences, where=row.where, label=label, id=id_of(row, ("id",)), task=self.name)

        return make


class Chid(_Files):
    """FewCLUE's ChID: which idiom stands at #idiom# of a text? A choice between the candidates.

    path      the folder of all tasks, the task's own, or a .zip of its files
    fold      as of the other tasks
    """

    reads = Choices

    def __init__(self, path: str, fold: str | int | None = None) -> None:
        self.name = "chid"
        self.title = FORMS["chid"].title
        self.path = path
        self.fold = fold

    @property
    def labels(self) -> dict[str, Labels]:
        return {"chid": Labels(())}

    def maker(self, split: str) -> Maker:
        def make(row: Row) -> Record:
            options = texts(row.fields, "candidates")
            answer = None
            if "answer" in row.fields or not split.startswith("test"):
                answer = field(row.fields, "answer", int)
                if not 0 <= answer < len(options):
                    raise Fault(f"answer {answer} is none of the {len(options)} candidates, which count from 0")
            content = text_of(row, "content")
            if content.count("#idiom#") != 1:
                raise Fault(f"#idiom# must stand once in the content, not {content.count('#idiom#')} times")
            return Choices((content,), where=row.where, options=options, label=answer, id=id_of(row, ("id",)))

        return make


def _names(fold: str | int | None, ending: str) -> dict[str, tuple[str, ...]]:
    """Names of each split's file, those to be preferred first."""
    if fold is None:
        train: tuple[str, ...] = ("train", "train.50k", "train_few_all", "train.10k")
        dev: tuple[str, ...] = ("dev", "dev_few_all")
    else:
        train = (f"train_{fold}", f"train.{fold}", f"train_few_{fold}")
        dev = (f"dev_{fold}", f"dev_few_{fold}", "dev")
    test = ("test_public", "test1.1", "test1.0", "test")
    names = {"train": train, "validation": dev, "test": test, "test_unlabelled": ("test",)}
    return {split: tuple(f"{name}.{ending}" for name in each) for split, each in names.items()}


def _plain(folder: str) -> str:
    return folder.lower().removesuffix("_public")


def _spans_marked(row: Row) -> str:
    """The text with its noun and pronoun marked; places count characters."""
    text = str(row.fields.get("text", ""))
    target = field(row.fields, "target", dict)
    spans = []
    for n, sign in ((1, "*"), (2, "#")):
        span, start = field(target, f"span{n}_text", str), field(target, f"span{n}_index", int)
        if not span or text[start : start + len(span)] != span:
            raise Fault(f"span{n} {span!r} does not stand at character {start} of the text")
        spans.append((start, start + len(span), sign))
    return marked(text, spans, gap="").strip()
