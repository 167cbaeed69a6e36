"""Questions about a passage whose answers are stretches of it: SQuAD 1.1 and 2.0, and all that is written in their format.

1.1: https://arxiv.org/abs/1606.05250, 2.0 (some questions have no answer): https://arxiv.org/abs/1806.03822; CMRC 2018 (Chinese):
https://arxiv.org/abs/1810.07366, XQuAD: https://arxiv.org/abs/1910.11856.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from cloze.data.base import Answer, Labels, Passage, Question, Record, Split
from cloze.data.files import File
from cloze.data.huggingface import HuggingFace
from cloze.data.tasks.fields import Fault, checked, field, shown, whole_json
from cloze.data.tasks.split_files import SPLITS, OnBad, SplitFiles
from cloze.errors import Refusal

_AROUND = 20  # characters of a context that a message shows on each side of a place


class Squad(SplitFiles):
    """Passages with questions, a record each. Offsets are those of the file, which are held against its text and never repaired.

    task              what the task is called, in metrics and files
    path              a folder or .zip archive with train-v1.1.json, dev-v1.1.json or the like; a training file; or what `datasets`
                      loads, with columns id, title, context, question, answers: a name on the hub, a copy of that, Parquet
    version           1.1: each question has an answer | 2.0: it may have none; None: told by the files
    train_path, validation_path, test_path, validation_share, split_seed
                      as of all tasks in files; what is held out is articles, whole
    on_bad            refuse | drop answers that do not stand where the file says, and questions that are malformed or have no answer left
    config, revision  of a data set on the hub: its configuration; a commit, branch or tag
    scored_by         whose script counts: squad (words between white space), or cmrc (Chinese characters)
    """

    reads = Passage
    dropped_are = "questions"

    def __init__(
        self,
        task: str = "squad",
        path: str | None = None,
        version: float | None = None,
        train_path: str | None = None,
        validation_path: str | None = None,
        test_path: str | None = None,
        validation_share: float | None = None,
        split_seed: int = 0,
        on_bad: OnBad = "refuse",
        config: str | None = None,
        revision: str | None = None,
        scored_by: Literal["squad", "cmrc"] = "squad",
    ) -> None:
        if version not in (None, 1, 1.1, 2):
            raise Refusal(f"data.version={version:g} is not one of them. Accepted: 1.1, 2.0, null (told by the files).")
        number = "[12].[01]" if version is None else "1.1" if version < 2 else "2.0"
        official: dict[Split, tuple[str, ...]] = {
            "train": (f"train-v{number}.json", "cmrc2018_train.json", "train.json"),
            "validation": (f"dev-v{number}.json", "cmrc2018_dev.json", "dev.json"),
            "test": (f"test-v{number}.json", "cmrc2018_trial.json", "test.json"),
        }
        super().__init__(
            official, task, path, train_path, validation_path, test_path, validation_share, split_seed, on_bad
        )
        self._version_asked = version
        self.config, self.revision, self.scored_by = config, revision, scored_by
        if path is None and (config is not None or revision is not None):
            raise Refusal(
                "data.config and data.revision are of a data set on the hub: name it, data.path=rajpurkar/squad"
            )

    @property
    def labels(self) -> dict[str, Labels]:
        if self.scored_by == "cmrc":
            return {self.name: Labels(metrics=("cmrc_f1", "cmrc_exact_match"))}
        further = ("no_answer_accuracy",) if self.version == 2.0 else ()
        return {self.name: Labels(metrics=("f1", "exact_match", *further))}

    def _settings(self) -> list[Any]:
        return [self._version_asked]

    @cached_property
    def sources(self) -> dict[Split, Any]:
        if self.path is None or not _is_dataset(self.path):
            if self.config is not None or self.revision is not None:
                raise Refusal(
                    f"data.config and data.revision have no effect on {self.path}, which is not on the hub: leave them out"
                )
            return super().sources
        if self._given or self._share_asked is not None:
            raise Refusal(
                f"data.path={self.path} has splits of its own: files and data.validation_share have no effect beside it"
            )
        try:
            loaded = HuggingFace(self.path, self.config, revision=self.revision)._load()
        except Refusal as refusal:
            raise Refusal(str(refusal).replace("data.name=", "data.path=")) from refusal
        found: dict[Split, Any] = {
            split: _Table(f"{self.path}, {split}", loaded[split]) for split in SPLITS if split in loaded
        }
        if not found:
            raise Refusal(
                f"data.path={self.path} has none of the splits {', '.join(SPLITS)}; it has {', '.join(loaded)}"
            )
        return found

    def _identity(self, source: Any) -> Any:
        return [source.data._fingerprint, len(source.data)] if isinstance(source, _Table) else super()._identity(source)

    # what a file says

    @cached_property
    def version(self) -> float:
        """1.1 or 2.0, as asked or as the first of the splits has it: 2.0 where it says so, or where questions say `is_impossible`."""
        if self._version_asked is not None:
            return 1.1 if self._version_asked < 2 else 2.0
        source = next(iter(self.sources.values()))
        if isinstance(source, _Table):
            return 2.0 if any(not each["text"] for each in source.data["answers"]) else 1.1
        return _version(whole_json(source))

    def _keyed(self, source: Any, split: Split) -> Iterator[tuple[str, Record]]:
        version = self.version
        seen: set[str] = set()
        for where, title, context, asked in source.passages() if isinstance(source, _Table) else _passages(source):
            if not context.strip():
                self._pass_over(source, f"{where}: its context is empty ({_named(asked)})", "passages")
                continue
            questions = list(self._questions(source, where, context, asked, version, split, seen))
            if questions:
                yield title or context, Passage((context,), title, where, questions=tuple(questions), title=title)

    def _questions(
        self, source: Any, where: str, context: str, asked: list[Any], version: float, split: Split, seen: set[str]
    ) -> Iterator[Question]:
        for number, said in enumerate(asked):
            place = f"{where}, question {number + 1}"
            try:
                each = checked(said, "question", dict)
                name = field(each, "id", str)
                place = f"{where}, question {name}"
                if name in seen:
                    raise Fault("this id is another question's too")
                text = field(each, "question", str)
                impossible = checked(each.get("is_impossible", False), "is_impossible", bool)
                if "answers" not in each and split == "test":
                    question = Question(name, text, hidden=True)
                else:
                    given = field(each, "answers", list)
                    answers = [answer for one in given if (answer := self._answer(source, place, context, one))]
                    _hold_together(bool(given), impossible, "is_impossible" in each, version)
                    if given and not answers:
                        raise Fault("none of its answers is left")
                    question = Question(name, text, tuple(answers))
            except Fault as fault:
                self._pass_over(source, f"{place}: {fault}")
            else:
                seen.add(name)
                yield question

    def _answer(self, source: Any, place: str, context: str, said: Any) -> Answer | None:
        try:
            row = checked(said, "answer", dict)
            answer = Answer(field(row, "text", str), field(row, "answer_start", int))
            fault = _misplaced(answer, context)
            if fault:
                raise Fault(fault)
        except Fault as fault:
            self._pass_over(source, f"{place}: {fault}", "answers")
            return None
        return answer

    def submission(self, split: str, records: Sequence[Record], predictions: Sequence[Any]) -> dict[str, str]:
        """predictions.json, as the official evaluation scripts take it: the text of the answer by the question's id, "" being none."""
        answers: dict[str, str] = {}
        for record, predicted in zip(records, predictions, strict=True):
            assert isinstance(record, Passage)
            answers |= {question.id: str(predicted[question.id]) for question in record.questions}
        return {"predictions.json": json.dumps(answers, ensure_ascii=False, indent=1) + "\n"}


def _is_dataset(name: str) -> bool:
    """Whether that is something for `datasets`, not JSON files: what it wrote, Parquet or Arrow, or no path here but perhaps a name."""
    path = Path(name).expanduser()
    if path.is_dir():
        marked = any((path / mark).is_file() for mark in ("dataset_dict.json", "state.json"))
        return marked or any(each.suffix in (".parquet", ".arrow") for each in path.rglob("*"))
    if path.exists():
        return path.suffix in (".parquet", ".arrow")
    return not name.startswith(("/", ".", "~")) and name.count("/") <= 1 and not path.suffix


class _Table:
    """A split of a data set of `datasets` with SQuAD's columns."""

    def __init__(self, split: str, data: Any) -> None:
        self.split, self.data = split, data

    def __str__(self) -> str:
        return self.split

    def passages(self) -> Iterator[tuple[str, str, str, list[Any]]]:
        """Place, title, context and questions, from rows that follow one another with the same context."""
        for column in ("id", "context", "question"):
            if column not in self.data.column_names:
                raise Refusal(f"the data set has no column {column}; it has {', '.join(self.data.column_names)}")
        rows = ((number, row) for number, row in enumerate(self.data))
        for (title, context), group in groupby(rows, key=lambda each: (each[1].get("title") or "", each[1]["context"])):
            held = list(group)
            yield f"{self.split}, row {held[0][0]}", title, context or "", [_unfolded(row) for _, row in held]


def _unfolded(row: dict[str, Any]) -> dict[str, Any]:
    """A row as SQuAD's files have a question: `datasets` keeps texts and offsets of the answers in two lists."""
    question = {"id": row["id"], "question": row["question"]}
    answers = row.get("answers")
    if isinstance(answers, dict):
        pairs = zip(answers.get("text") or (), answers.get("answer_start") or (), strict=False)
        return question | {"answers": [{"text": text, "answer_start": start} for text, start in pairs]}
    return question if answers is None else question | {"answers": answers}


def _passages(file: File) -> Iterator[tuple[str, str, str, list[Any]]]:
    """Place, title, context and questions of each paragraph of a file. Raises Refusal where the frame of the file is another."""
    content = whole_json(file)
    try:
        if not isinstance(content, dict) or "data" not in content:
            has = f"an object with {', '.join(content)}" if isinstance(content, dict) else shown(content)
            raise Fault(f"there is no `data`, the list of articles that SQuAD's format begins with; the file is {has}")
        for number, article in enumerate(field(content, "data", list)):
            at = f"data[{number}]"
            title = checked(checked(article, at, dict).get("title", ""), f"{at}.title", str)
            for n, paragraph in enumerate(_in(at, article, "paragraphs", list)):
                place = f"{at}.paragraphs[{n}]"
                checked(paragraph, place, dict)
                asked = _in(place, paragraph, "qas", list)
                yield f"{file}, {place}", title, _in(place, paragraph, "context", str), asked
    except Fault as fault:
        raise Refusal(f"{file}: {fault}") from fault


def _in(place: str, row: dict[str, Any], name: str, kind: type[Any]) -> Any:
    try:
        return field(row, name, kind)
    except Fault as fault:
        raise Fault(f"{place}: {fault}") from fault


def _version(content: Any) -> float:
    """What a file says of itself: its `version`, or whether its questions say that they may have no answer."""
    said = str(content.get("version", "")) if isinstance(content, dict) else ""
    if said.lower().removeprefix("v").startswith("2"):
        return 2.0
    return 2.0 if _anywhere("is_impossible", content) else 1.1


def _anywhere(name: str, value: Any) -> bool:
    """Whether an object of this depth or deeper has a field of that name."""
    if isinstance(value, dict):
        return name in value or any(_anywhere(name, each) for each in value.values())
    return isinstance(value, list) and any(_anywhere(name, each) for each in value)


def _hold_together(answered: bool, impossible: bool, said: bool, version: float) -> None:
    """Raises Fault where a question's answers are not what its version and its `is_impossible` promise."""
    if answered and impossible:
        raise Fault("is_impossible is true, but it has answers")
    if not answered and version < 2:
        raise Fault("it has no answer, which SQuAD 1.1 does not have; where questions may have none: data.version=2.0")
    if not answered and said and not impossible:
        raise Fault("it has no answer, but is_impossible is false")


def _misplaced(answer: Answer, context: str) -> str | None:
    """What is wrong with an answer's place, with the context there, and where the answer stands instead."""
    text, start = answer.text, answer.start
    if not text:
        return "an answer is empty"
    if start >= 0 and context[start : start + len(text)] == text:
        return None
    places = [at for at in range(len(context) - len(text) + 1) if context.startswith(text, at)]
    nearest = min(places, key=lambda at: abs(at - start)) if places else None
    stands = "which the context does not hold" if nearest is None else f"which stands at {nearest}"
    if not 0 <= start <= len(context) - len(text):
        return (
            f"answer_start={start} of {shown(text)}, {stands}, lies outside of the context, which has {len(context)} characters and "
            f"begins {shown(context[: 2 * _AROUND])}"
        )
    around = context[max(0, start - _AROUND) : start + len(text) + _AROUND]
    return f"answer_start={start} is not where {shown(text)} stands, {stands}: the context has {shown(around, 4 * _AROUND)} there"


def _named(asked: list[Any]) -> str:
    """The questions of a passage, for a message."""
    names = [str(each["id"]) for each in asked if isinstance(each, dict) and "id" in each]
    return f"questions {', '.join(names[:3])}{', …' if len(names) > 3 else ''}" if names else "no questions"
