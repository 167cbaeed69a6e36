"""The files that `cloze score` reads: gold data as the benchmarks distribute it, predictions as their scorers take them.

Whatever is malformed raises a Refusal that names the file, the line and the value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from cloze.data.files import Bad, File, beginning, find, lines
from cloze.data.tasks.fields import Fault, field, shown, whole_json
from cloze.data.tasks.rows import FileRows, JsonRows, Row, TsvRows, first_line
from cloze.data.tasks.word_lines import Reader, Sentence, columns, conllu, two_lists
from cloze.errors import Refusal, did_you_mean
from cloze.scoring.glue import Task
from cloze.scoring.squad import Version


def one_file(what: str, path: Path) -> File:
    """The file at a path, plain or packed. `what` it should be is said where it is not there."""
    if path.is_dir():
        raise Refusal(f"{what}={path} is a folder; it must be a file")
    return find(what, str(path))[0]


# ------------------------------------------------------------------------------------------------------- questions


@dataclass(frozen=True)
class Questions:
    """Each question's id and answers, in the file's order, and the version of SQuAD that the file is of."""

    gold: list[tuple[str, list[str]]]
    version: Version


def questions(file: File) -> Questions:
    """Of a file in the format of SQuAD. It is of version 2.0 if it says so, speaks of `is_impossible` or has a question without answers."""
    data = whole_json(file)
    found: list[tuple[str, list[str]]] = []
    second = False
    try:
        if not isinstance(data, dict):
            raise Fault('the file must be an object with a "data" list, as SQuAD\'s are')
        second = str(data.get("version", "")).lower().lstrip("v").startswith("2")
        for where, question in _nested(data):
            try:
                answers = [field(answer, "text", str) for answer in field(question, "answers", list)]
                found.append((field(question, "id", str), answers))
            except Fault as fault:
                raise Fault(f"{where}: {fault}") from fault
            second = second or "is_impossible" in question or not answers
    except Fault as fault:
        raise Refusal(f"{file}: {fault}") from fault
    if not found:
        raise Refusal(f"{file} has no questions")
    return Questions(found, "2.0" if second else "1.1")


def _nested(data: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The questions, each with its place. Raises Fault where there is something else."""
    levels = ("data", "paragraphs", "qas")

    def below(node: Any, level: int, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        if not isinstance(node, dict):
            raise Fault(f"{where}: must be an object, not {shown(node)}")
        if level == len(levels):
            yield where, node
            return
        try:
            inner = field(node, levels[level], list)
        except Fault as fault:
            raise Fault(f"{where}: {fault}" if where else str(fault)) from fault
        for number, each in enumerate(inner):
            yield from below(each, level + 1, f"{where}{'.' if where else ''}{levels[level]}[{number}]")

    return below(data, 0, "")


def answers(file: File) -> dict[str, str]:
    """Predictions: one JSON object with the answer to each question's id."""
    said = _object(file, "the answer to each question's id, as predictions.json is")
    for question, answer in said.items():
        if not isinstance(answer, str):
            raise Refusal(f"{file}: the answer to {question} must be text, not {shown(answer)}")
    return said


def probabilities(file: File) -> dict[str, float]:
    """The probability for each question's id that it has no answer."""
    said = _object(file, "the probability for each question's id that it has no answer")
    for question, value in said.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refusal(f"{file}: the probability of {question} must be a number, not {shown(value)}")
    return {question: float(value) for question, value in said.items()}


def _object(file: File, what: str) -> dict[str, Any]:
    said = whole_json(file)
    if not isinstance(said, dict):
        raise Refusal(f"{file} must be one JSON object with {what}, not {shown(said)}")
    return said


# ------------------------------------------------------------------------------------------------------- labels


@dataclass(frozen=True)
class Label:
    """What one example is, or is said to be. `key` names the example in both files, unless `number`, its place in the gold file from 0,
    does; `group` is what it belongs to.
    """

    key: str
    value: str | float
    where: str
    number: str = ""
    group: Hashable = None


@dataclass(frozen=True)
class Labels:
    """Of all examples. `unlabelled` are keys of examples that no one could agree on (label "-"); `aliases` other words for a label."""

    labels: list[Label]
    unlabelled: frozenset[str] = frozenset()
    aliases: Mapping[str, str] | None = None


_COLA = ("source", "label", "mark", "sentence")
_KEYS = ("index", "id", "idx")
_DESCRIPTIONS = ("label_desc", "label_des")


def gold_labels(file: File, name: str, task: Task) -> Labels:
    """Of the official labelled file of a task, TSV or JSON Lines. Examples are named by `idx`, `id` or `index`, or numbered from 0."""
    rows = _rows(file, None if task.columns else _COLA)
    if name == "superglue/multirc":
        return Labels(list(_answers_of(rows, task)))
    json_lines = isinstance(rows, JsonRows)
    column = _COLA[task.place] if not task.columns else rows.column(*task.columns, *(("answer",) if json_lines else ()))
    named = next((key for key in _KEYS if key in rows.columns), None)
    found: list[Label] = []
    unlabelled: set[str] = set()
    aliases: dict[str, str] = {}
    for number, row in enumerate(_whole(rows)):
        key = str(number) if named is None else str(_value(row, named))
        label = _value(row, column)
        if label == "-":
            unlabelled.add(key)
            continue
        value = _checked(label, task, row.where)
        found.append(Label(key, value, row.where, str(number)))
        for description in _DESCRIPTIONS:
            if description in row.fields:
                aliases[str(row.fields[description])] = str(value)
    if not found:
        raise Refusal(f"{file} has no labels")
    _once(found)
    return Labels(found, frozenset(unlabelled), aliases)


def predicted_labels(file: File, name: str, task: Task) -> Labels:
    """Of a submission: TSV with the columns `index` and `prediction`, or JSON Lines with `idx` (or `id`) and `label`."""
    rows = _rows(file, None)
    if name == "superglue/multirc":
        return Labels(list(_answers_of(rows, task)))
    named = rows.column("idx", "id", "index") if isinstance(rows, JsonRows) else rows.column("index")
    column = rows.column("label", "answer") if isinstance(rows, JsonRows) else rows.column("prediction")
    found = [
        Label(str(_value(row, named)), _checked(_value(row, column), task, row.where), row.where)
        for row in _whole(rows)
    ]
    if not found:
        raise Refusal(f"{file} has no predictions")
    _once(found)
    return Labels(found)


def gold_texts(file: File) -> list[tuple[str, list[str]]]:
    """Of ReCoRD's file: each question's idx, and the texts that fill its blank."""
    found = []
    for row in _whole(JsonRows(file)):
        try:
            for question in field(row.fields, "qas", list):
                found.append((str(question["idx"]), [field(each, "text", str) for each in question["answers"]]))
        except (Fault, KeyError, TypeError) as fault:
            raise Refusal(f"{row.where}: {_said(fault)}; ReCoRD has qas, each with idx and answers") from fault
    if not found:
        raise Refusal(f"{file} has no questions")
    return found


def _rows(file: File, names: tuple[str, ...] | None) -> FileRows:
    first = beginning(file).removeprefix(b"\xef\xbb\xbf").lstrip()
    return JsonRows(file) if first.startswith(b"{") else TsvRows(file, names=names)


def _whole(rows: FileRows) -> Iterator[Row]:
    for row in rows:
        if row.fault:
            raise Refusal(f"{row.where}: {row.fault.split('; it ')[0]}")
        yield row


def _value(row: Row, column: str) -> Any:
    if column not in row.fields:
        raise Refusal(f"{row.where}: there is no {column}")
    return row.fields[column]


def _checked(label: Any, task: Task, where: str) -> str | float:
    """The label as the task has it. Raises Refusal."""
    if not isinstance(label, str | int | float):
        raise Refusal(f"{where}: the label is {shown(label)}; a label is a word or a number")
    text = str(label).lower() if isinstance(label, bool) else str(label).strip()
    if task.numeric:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise Refusal(f"{where}: {shown(label)} is not a number")
        return number
    if "true" in task.classes:
        text = text.lower()
    if task.classes and text not in task.classes:
        raise Refusal(f"{where}: {shown(label)} is not a class{did_you_mean(text, task.classes)}")
    return text


def _answers_of(rows: FileRows, task: Task) -> Iterator[Label]:
    """MultiRC's answers, which are nested alike in gold and submission: passage, questions, answers."""
    for row in _whole(rows):
        try:
            for q, question in enumerate(row.fields["passage"]["questions"]):
                group = f"{row.fields['idx']}-{question.get('idx', q)}"
                for a, answer in enumerate(question["answers"]):
                    value = _checked(answer["label"], task, row.where)
                    yield Label(f"{group}-{answer.get('idx', a)}", value, row.where, group=group)
        except (KeyError, TypeError, AttributeError) as fault:
            raise Refusal(
                f"{row.where}: {_said(fault)}; MultiRC has idx and passage.questions, each with idx and answers, each with idx and label"
            ) from fault


def _said(fault: Exception) -> str:
    return f"there is no {fault}" if isinstance(fault, KeyError) else str(fault)


def _once(labels: list[Label]) -> None:
    seen: dict[str, str] = {}
    for label in labels:
        if label.key in seen:
            raise Refusal(f"{label.where}: example {label.key} is there twice, first at {seen[label.key]}")
        seen[label.key] = label.where


# ------------------------------------------------------------------------------------------------------- tags


@dataclass(frozen=True)
class TaggedFiles:
    """The tags of each sentence in both files, and for each of these tags in the predictions its line."""

    gold: list[list[str]]
    predictions: list[list[str]]
    lines: list[list[int]]


def tagged(gold: File, predictions: File, column: int | str | None) -> TaggedFiles:
    """Of two files with the same words: CoNLL-U, CoNLL columns, or TSV with text_a and label. Raises Refusal where words differ.

    `column` is the tags': in CoNLL-U a name or a number from 1 (None: upos), in columns a number from 1 (None: the last). Where the
    predictions have more columns than the gold file, the last one is what was predicted, as in the files that conlleval reads.
    """
    right = _sentences(gold, column)
    if not right:
        raise Refusal(f"{gold} has no words")
    said = _sentences(predictions, column)
    if isinstance(column, int) and _width(said) > _width(right):
        said = _sentences(predictions, None)
    for one, other in zip_longest(right, said):
        _refuse_other_words(gold, one, predictions, other)
    return TaggedFiles([s.tags or [] for s in right], [s.tags or [] for s in said], [s.numbers for s in said])


def _sentences(file: File, column: int | str | None) -> list[Sentence]:
    def refuse(number: int, what: str) -> None:
        raise Refusal(f"{file}, line {number}: {what}")

    read: Reader = columns
    if ".conllu" in file.path.suffixes or _has_ten_columns(file):
        read = conllu
    elif "text_a" in first_line(file).split("\t"):
        read = two_lists
    elif isinstance(column, str):
        raise Refusal(f"--column={column} names a column of CoNLL-U; of {file} give a number (1 is the first)")
    try:
        found = list(read(file, "utf-8", column, 1, refuse))
    except Refusal as refusal:
        raise Refusal(str(refusal).replace("data.column", "--column")) from refusal
    for sentence in found:
        if sentence.tags is None:
            missing = "" if column is None else f" in column {column}"
            refuse(sentence.numbers[0], f"{sentence.words[0]!r} has no tag{missing}")
    return found


def _has_ten_columns(file: File) -> bool:
    """Whether the first line that is no comment looks like CoNLL-U's."""
    for _, line in lines(file, "utf-8"):
        if isinstance(line, Bad) or (line.strip() and not line.startswith("#")):
            return isinstance(line, str) and bool(re.match(r"\d", line)) and line.count("\t") == 9
    return False


def _width(sentences: list[Sentence]) -> int:
    """How many columns the first line with a word has; 0 where words do not stand one to a line."""
    line = next((line for sentence in sentences[:1] for line, word in sentence.rows if word >= 0), "")
    return len(line.split("\t") if "\t" in line else line.split())


def _refuse_other_words(gold: File, one: Sentence | None, predictions: File, other: Sentence | None) -> None:
    right, said = (sentence.words if sentence else [] for sentence in (one, other))
    if right == said:
        return
    at = next((n for n, (a, b) in enumerate(zip(right, said, strict=False)) if a != b), min(len(right), len(said)))
    raise Refusal(
        f"{_place(predictions, other, at)}, but {_place(gold, one, at)}: both files must have the same words in the same sentences"
    )


def _place(file: File, sentence: Sentence | None, at: int) -> str:
    if sentence is None:
        return f"{file} ends"
    if at == len(sentence.words):
        return f"{file}, line {sentence.numbers[-1]}, ends a sentence with {sentence.words[-1]!r}"
    return f"{file}, line {sentence.numbers[at]}, has {sentence.words[at]!r}"
