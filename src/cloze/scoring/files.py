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
from cloze.data.tasks.rows import FileRows, JsonRows, Row, TsvRows
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
    """What one example is, or is said to be. `key` names the example in both files, `group` what it belongs to."""

    key: str
    value: str | float
    where: str
    group: Hashable = None


@dataclass(frozen=True)
class Labels:
    """Of all examples. `unlabelled` are keys of examples that no one could agree on (label "-"); `aliases` other words for a label."""

    labels: list[Label]
    unlabelled: frozenset[str] = frozenset()
    aliases: Mapping[str, str] | None = None


_COLA = ("source", "label", "mark", "sentence")
_KEYS = ("index", "idx", "id")
_DESCRIPTIONS = ("label_desc", "label_des")


def gold_labels(file: File, name: str, task: Task) -> Labels:
    """Of the official labelled file of a task, TSV or JSON Lines. Examples are named by `idx`, `id` or `index`, or numbered from 0."""
    rows = _rows(file, None if task.columns else _COLA)
    if name == "superglue/multirc":
        return Labels(list(_answers_of(rows, task)))
    json_lines = isinstance(rows, JsonRows)
    column = _COLA[task.place] if not task.columns else rows.column(*task.columns, *(("answer",) if json_lines else ()))
    named = next((key for key in (_KEYS if json_lines else ("index",)) if key in rows.columns), None)
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
        found.append(Label(key, value, row.where))
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
    named = rows.column("idx", "id", "index") if isinstance(rows, JsonRows) else rows.column("index", "id")
    column = rows.column("label", "prediction") if isinstance(rows, JsonRows) else rows.column("prediction", "label")
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
            for question in row.fields["passage"]["questions"]:
                group = f"{row.fields['idx']}/{question['idx']}"
                for answer in question["answers"]:
                    value = _checked(answer["label"], task, row.where)
                    yield Label(f"{group}/{answer['idx']}", value, row.where, group)
        except (KeyError, TypeError) as fault:
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
class Word:
    """A word, its tag and its line; the end of a sentence has neither word nor tag."""

    word: str
    tag: str
    line: int


_RANGE_OR_EMPTY = re.compile(r"\d+[-.]\d+")  # CoNLL-U: "1-2" writes two words as one, "1.1" is not in the text
_UPOS = 3


def tagged_pair(
    gold: File, predictions: File, column: int | None
) -> tuple[list[list[str]], list[list[str]], list[Word]]:
    """The tags of each sentence in both files, and the predicted words. Raises Refusal where they do not have the same words."""
    right, said = list(_words(gold, column)), list(_words(predictions, column))
    if not right:
        raise Refusal(f"{gold} has no words")
    for one, other in zip_longest(right, said):
        if one is None or other is None or one.word != other.word:
            there, here = _place(gold, one), _place(predictions, other)
            raise Refusal(f"{here}, but {there}: both files must have the same words in the same sentences")
    return _sentences(right), _sentences(said), [word for word in said if word.word]


def _place(file: File, word: Word | None) -> str:
    if word is None:
        return f"{file} ends"
    return f"{file}, line {word.line}, " + (f"has {word.word!r}" if word.word else "ends a sentence")


def _sentences(words: list[Word]) -> list[list[str]]:
    sentences: list[list[str]] = [[]]
    for word in words:
        if word.word:
            sentences[-1].append(word.tag)
        else:
            sentences.append([])
    return [sentence for sentence in sentences if sentence]


def _words(file: File, column: int | None) -> Iterator[Word]:
    """Words in order, and the end of each sentence."""
    conllu = _is_conllu(file)
    wanted = column if column is not None else _UPOS if conllu else -1
    open_sentence = False
    number = 0
    for number, (_, line) in enumerate(lines(file, "utf-8"), 1):
        if isinstance(line, Bad):
            raise Refusal(f"{file}, line {number}: {line.reason.split('; it ')[0]}")
        if not line.strip():
            if open_sentence:
                yield Word("", "", number)
            open_sentence = False
            continue
        if conllu and line.startswith("#"):
            continue
        fields = line.split("\t") if "\t" in line else line.split()
        while fields and not fields[-1]:
            fields.pop()
        if fields[0] == "-DOCSTART-" or (conllu and _RANGE_OR_EMPTY.fullmatch(fields[0])):
            continue
        if len(fields) < 2 or not -len(fields) <= wanted < len(fields):
            many = f"{len(fields)} column{'s' * (len(fields) != 1)}"
            asked = "a word and a tag are wanted" if len(fields) < 2 else f"there is no column {wanted} (from 0)"
            raise Refusal(f"{file}, line {number}: {many}; {asked}")
        yield Word(fields[1 if conllu else 0], fields[wanted], number)
        open_sentence = True
    if open_sentence:
        yield Word("", "", number + 1)


def _is_conllu(file: File) -> bool:
    """By its name, or by ten columns between tabs, of which the first is a number."""
    if ".conllu" in file.path.suffixes:
        return True
    for _, line in lines(file, "utf-8"):
        if isinstance(line, Bad) or (line.strip() and not line.startswith("#")):
            return isinstance(line, str) and bool(re.match(r"\d", line)) and line.count("\t") == 9
    return False
