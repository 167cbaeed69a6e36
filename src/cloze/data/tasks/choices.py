"""Multiple choice: SWAG, HellaSwag, RACE, DREAM, COPA and XCOPA, each in the files that its authors published."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cloze.data import cache as caches
from cloze.data.base import Choices, Labels, Record, Split
from cloze.data.files import File, find
from cloze.data.tasks.fields import Fault, checked, field, shown, texts, whole_json
from cloze.data.tasks.rows import CsvRows, JsonRows, Row, Rows
from cloze.data.tasks.split_files import SPLITS, OnBad, SplitFiles
from cloze.errors import Refusal, did_you_mean

_LETTERS = ("A", "B", "C", "D")
Keyed = tuple[str, Choices]  # what decides whether a record is held out, and the record


class _ChoiceFiles(SplitFiles):
    """A benchmark of multiple choice; `options` are the names of its options, in their order, as its files write them."""

    reads = Choices
    dropped_are = "questions"
    options: tuple[str, ...]

    @property
    def labels(self) -> dict[str, Labels]:
        return {self.name: Labels(self.options)}

    def _from_rows(self, rows: Rows, make: Callable[[Row], Keyed]) -> Iterator[Keyed]:
        """What is made of each row, those that are malformed refused or counted."""
        for row in self._whole(rows):
            try:
                keyed = make(row)
            except Fault as fault:
                self._pass_over(rows.name, f"{row.where}: {fault}")
            else:
                yield keyed


class Swag(_ChoiceFiles):
    """How a scene that begins so goes on, one ending of four: https://arxiv.org/abs/1808.05326 (train.csv, val.csv, test.csv).

    The context is `sent1`, the question `sent2`, which the endings complete. What is held out is videos, whole.
    """

    options = ("0", "1", "2", "3")

    def __init__(
        self,
        task: str = "swag",
        path: str | None = None,
        train_path: str | None = None,
        validation_path: str | None = None,
        test_path: str | None = None,
        validation_share: float | None = None,
        split_seed: int = 0,
        on_bad: OnBad = "refuse",
    ) -> None:
        official: dict[Split, tuple[str, ...]] = {
            "train": ("train.csv",),
            "validation": ("val.csv", "validation.csv"),
            "test": ("test.csv",),
        }
        super().__init__(
            official, task, path, train_path, validation_path, test_path, validation_share, split_seed, on_bad
        )

    def _keyed(self, source: Any, split: Split) -> Iterator[tuple[str, Record]]:
        rows = CsvRows(source)
        for name in ("video-id", "sent1", "sent2", *(f"ending{n}" for n in range(4))):
            rows.column(name)
        if split != "test":
            rows.column("label")

        def make(row: Row) -> Keyed:
            context, begun = field(row.fields, "sent1", str), field(row.fields, "sent2", str)
            endings = tuple(field(row.fields, f"ending{n}", str) for n in range(4))
            label = _number(field(row.fields, "label", str), self.options) if "label" in row.fields else None
            number = row.fields.get("") or row.fields.get("Unnamed: 0") or ""
            video = field(row.fields, "video-id", str)
            return video, Choices((context, begun), "", row.where, "", endings, label, number)

        yield from self._from_rows(rows, make)

    def submission(self, split: str, records: Sequence[Record], predictions: Sequence[Any]) -> dict[str, str]:
        """The number of the ending that is chosen, from 0, a line for each row of the split."""
        return {f"{self.name}-{split}.csv": "".join(f"{int(each)}\n" for each in predictions)}


class HellaSwag(_ChoiceFiles):
    """As SWAG, from WikiHow and ActivityNet, with endings that a model took to be good: https://arxiv.org/abs/1905.07830.

    Files hellaswag_train.jsonl, …_val.jsonl, …_test.jsonl. The context is `ctx`, which the endings complete. What is held out is sources.
    """

    options = ("0", "1", "2", "3")

    def __init__(
        self,
        task: str = "hellaswag",
        path: str | None = None,
        train_path: str | None = None,
        validation_path: str | None = None,
        test_path: str | None = None,
        validation_share: float | None = None,
        split_seed: int = 0,
        on_bad: OnBad = "refuse",
    ) -> None:
        official: dict[Split, tuple[str, ...]] = {
            "train": ("hellaswag_train.jsonl", "train.jsonl"),
            "validation": ("hellaswag_val.jsonl", "val.jsonl"),
            "test": ("hellaswag_test.jsonl", "test.jsonl"),
        }
        super().__init__(
            official, task, path, train_path, validation_path, test_path, validation_share, split_seed, on_bad
        )

    def _keyed(self, source: Any, split: Split) -> Iterator[tuple[str, Record]]:
        def make(row: Row) -> Keyed:
            context = field(row.fields, "ctx", str)
            label = None if split == "test" and "label" not in row.fields else _choice(row.fields, "label", 4)
            name = str(row.fields.get("ind", ""))
            endings = texts(row.fields, "endings", 4)
            topic = str(row.fields.get("activity_label", ""))
            key = str(row.fields.get("source_id", context))
            return key, Choices((context,), topic, row.where, "", endings, label, name)

        yield from self._from_rows(JsonRows(source), make)


class Race(_ChoiceFiles):
    """Questions about a text from English exams, one option of four: https://arxiv.org/abs/1704.04683.

    The folder RACE has train, dev and test, these high (school) and middle, these a file for each article. The context is the article.
    A question with a gap has it as `_`. What is held out, where there is no dev, is articles.
    """

    options = _LETTERS

    def __init__(
        self,
        path: str,
        level: Literal["all", "high", "middle"] = "all",
        task: str = "race",
        validation_share: float | None = None,
        split_seed: int = 0,
        on_bad: OnBad = "refuse",
    ) -> None:
        super().__init__({}, task, path, None, None, None, validation_share, split_seed, on_bad)
        self.folder, self.level = Path(path).expanduser(), level

    def _settings(self) -> list[Any]:
        return [self.level]

    def _at(self, path: Path) -> dict[Split, Any]:
        if not path.is_dir():
            raise Refusal(f"data.path={self.path} must be the folder RACE, with train, dev and test in it")
        levels = ("high", "middle") if self.level == "all" else (self.level,)
        found: dict[Split, Any] = {}
        for split, name in zip(SPLITS, ("train", "dev", "test"), strict=True):
            folder = _Articles(path / name, tuple(level for level in levels if (path / name / level).is_dir()))
            if folder.levels:
                found[split] = folder
        if not found:
            there = ", ".join(sorted(each.name for each in path.iterdir())[:8])
            wanted = "high or middle" if self.level == "all" else self.level
            raise Refusal(
                f"data.path={self.path} has no folders train, dev or test with {wanted} in them; it holds {there}"
            )
        return found

    def _identity(self, source: Any) -> Any:
        return [[str(each.relative_to(source.folder)), caches.source_digest(each)] for each in source.paths()]

    def _keyed(self, source: Any, split: Split) -> Iterator[tuple[str, Record]]:
        for path in source.paths():
            name = path.relative_to(self.folder).as_posix()
            row = whole_json(find("data.path", str(path))[0])
            try:
                article = field(checked(row, "the file", dict), "article", str)
                questions = texts(row, "questions")
                options = field(row, "options", list)
                answers = texts(row, "answers") if split != "test" or "answers" in row else (None,) * len(questions)
                if not len(questions) == len(options) == len(answers):
                    raise Fault(f"{len(questions)} questions, {len(options)} lists of options, {len(answers)} answers")
            except Fault as fault:
                self._pass_over(source, f"{path}: {fault}", "articles")
                continue
            for n, (question, given, answer) in enumerate(zip(questions, options, answers, strict=True)):
                place = f"{path}, question {n + 1}"
                try:
                    held = texts({"options": given}, "options", 4)
                    label = None if answer is None else _number(answer, self.options)
                except Fault as fault:
                    self._pass_over(source, f"{place}: {fault}")
                else:
                    yield article, Choices((article, question), "", place, "", held, label, f"{name}#{n}")

    def submission(self, split: str, records: Sequence[Record], predictions: Sequence[Any]) -> dict[str, str]:
        """The letters that are chosen, by file and question: {"test/high/1.txt": ["A", "C"]}."""
        chosen: dict[str, list[str]] = {}
        for record, predicted in zip(records, predictions, strict=True):
            assert isinstance(record, Choices)
            chosen.setdefault(record.id.rpartition("#")[0], []).append(self.options[int(predicted)])
        return {f"{self.name}-{split}.json": json.dumps(chosen, indent=1) + "\n"}


class _Articles:
    """A folder of RACE, and those of its levels that are read."""

    def __init__(self, folder: Path, levels: tuple[str, ...]) -> None:
        self.folder, self.levels = folder, levels

    def __str__(self) -> str:
        return f"{self.folder}/{','.join(self.levels)}"

    def paths(self) -> list[Path]:
        """The articles, in the order of their numbers."""
        held = [path for level in self.levels for path in (self.folder / level).glob("*.txt")]
        if not held:
            raise Refusal(f"{self}: there is no .txt file")
        return sorted(
            held, key=lambda path: (path.parent.name, int(path.stem) if path.stem.isdigit() else 0, path.name)
        )


class Dream(_ChoiceFiles):
    """Questions about a dialogue, one option of three: https://arxiv.org/abs/1902.00164 (train.json, dev.json, test.json).

    The context is the dialogue, a turn to a line. What is held out is dialogues.
    """

    options = ("0", "1", "2")

    def __init__(
        self,
        task: str = "dream",
        path: str | None = None,
        train_path: str | None = None,
        validation_path: str | None = None,
        test_path: str | None = None,
        validation_share: float | None = None,
        split_seed: int = 0,
        on_bad: OnBad = "refuse",
    ) -> None:
        official: dict[Split, tuple[str, ...]] = {
            "train": ("train.json",),
            "validation": ("dev.json",),
            "test": ("test.json",),
        }
        super().__init__(
            official, task, path, train_path, validation_path, test_path, validation_share, split_seed, on_bad
        )

    def _keyed(self, source: Any, split: Split) -> Iterator[tuple[str, Record]]:
        content = whole_json(source)
        if not isinstance(content, list):
            raise Refusal(f"{source}: it must be a list of [turns, questions, id], not {shown(content)}")
        for number, entry in enumerate(content):
            where = f"{source}, dialogue {number + 1}"
            try:
                if len(checked(entry, "dialogue", list)) != 3:
                    raise Fault(f"it must be [turns, questions, id], not {shown(entry)}")
                context = "\n".join(texts({"turns": entry[0]}, "turns"))
                asked, name = checked(entry[1], "questions", list), checked(entry[2], "id", str)
            except Fault as fault:
                self._pass_over(source, f"{where}: {fault}", "dialogues")
                continue
            for n, question in enumerate(asked):
                place = f"{where} ({name}), question {n + 1}"
                try:
                    row = checked(question, "question", dict)
                    wording, held = field(row, "question", str), texts(row, "choice", 3)
                    label = None if split == "test" and "answer" not in row else _among(field(row, "answer", str), held)
                except Fault as fault:
                    self._pass_over(source, f"{place}: {fault}")
                else:
                    yield context, Choices((context, wording), "", place, "", held, label, f"{name}-{n}")


class Copa(_ChoiceFiles):
    """What was the cause, or the effect, one option of two: COPA (https://arxiv.org/abs/1905.00537, SuperGLUE's files) and, in eleven
    more languages, XCOPA (https://arxiv.org/abs/2005.00333).

    The context is the premise; the question is worded as `cause` and `effect` say, which are COPA's own words.

    language          null: SuperGLUE's train.jsonl, val.jsonl, test.jsonl | et, it, zh, …: XCOPA's folder of that name, which has nothing
                      to train on (train_path: COPA's English)
    path              the folder of these files; with a language XCOPA's folder `data`, or the language's
    """

    options = ("0", "1")

    def __init__(
        self,
        task: str = "copa",
        path: str | None = None,
        language: str | None = None,
        cause: str = "What was the cause of this?",
        effect: str = "What happened as a result?",
        train_path: str | None = None,
        validation_path: str | None = None,
        test_path: str | None = None,
        validation_share: float | None = None,
        split_seed: int = 0,
        on_bad: OnBad = "refuse",
    ) -> None:
        end = "" if language is None else f".{language}"
        official: dict[Split, tuple[str, ...]] = {
            "train": (f"train{end}.jsonl",),
            "validation": (f"val{end}.jsonl",),
            "test": (f"test{end}.jsonl",),
        }
        super().__init__(
            official, task, path, train_path, validation_path, test_path, validation_share, split_seed, on_bad
        )
        self.language = language
        self.wording: Mapping[str, str] = {"cause": cause, "effect": effect}

    def _settings(self) -> list[Any]:
        return [self.language, dict(self.wording)]

    def _at(self, path: Path) -> dict[Split, File]:
        if self.language is None or not path.is_dir() or any(path.glob(f"*.{self.language}.jsonl")):
            return super()._at(path)
        if not (path / self.language).is_dir():
            held = [each.name for each in path.iterdir() if each.is_dir()]
            raise Refusal(f"data.language={self.language} is not in {path}{did_you_mean(self.language, held)}")
        return super()._at(path / self.language)

    def _keyed(self, source: Any, split: Split) -> Iterator[tuple[str, Record]]:
        language = self.language or ""
        if language and not str(source).removesuffix(source.packing).endswith(f".{language}.jsonl"):
            language = "en"  # COPA's own, to train on

        def make(row: Row) -> Keyed:
            premise, asked = field(row.fields, "premise", str), field(row.fields, "question", str)
            if asked not in self.wording:
                raise Fault(f"`question`: {asked} is not one of them{did_you_mean(asked, self.wording)}")
            given = (field(row.fields, "choice1", str), field(row.fields, "choice2", str))
            label = None if split == "test" and "label" not in row.fields else _choice(row.fields, "label", 2)
            name = str(row.fields.get("idx", ""))
            return premise, Choices((premise, self.wording[asked]), "", row.where, language, given, label, name)

        yield from self._from_rows(JsonRows(source), make)

    def submission(self, split: str, records: Sequence[Record], predictions: Sequence[Any]) -> dict[str, str]:
        """As super.gluebenchmark.com takes it: COPA.jsonl, an object with idx and label a line."""
        lines = []
        for number, (record, predicted) in enumerate(zip(records, predictions, strict=True)):
            name = getattr(record, "id", "")
            lines.append(json.dumps({"idx": int(name) if name.isdigit() else name or number, "label": int(predicted)}))
        stem = "COPA" if self.language is None else f"XCOPA-{self.language}"
        return {f"{stem}{'' if split == 'test' else f'-{split}'}.jsonl": "\n".join(lines) + "\n"}


def _choice(row: Mapping[str, Any], name: str, count: int) -> int:
    """The number of an option. Raises Fault where there is none of that number."""
    label = field(row, name, int)
    if not 0 <= label < count:
        raise Fault(f"`{name}`={label} is no option: it must be a number from 0 to {count - 1}")
    return label


def _number(said: str, options: Sequence[str]) -> int:
    """The number of the option that is called so."""
    if said not in options:
        raise Fault(f"the answer {shown(said)} is not one of {', '.join(options)}")
    return options.index(said)


def _among(answer: str, options: Sequence[str]) -> int:
    """The number of the option that is worded so; one, and no more, must be."""
    places = [number for number, option in enumerate(options) if option == answer]
    if len(places) != 1:
        raise Fault(
            f"the answer {shown(answer)} is {len(places)} of the options {shown(list(options), 120)}; it must be one"
        )
    return places[0]
