"""`cloze score`: predictions against gold, as the benchmarks' own scorers count; one JSON object on one line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloze.data.files import File
from cloze.errors import Refusal, did_you_mean
from cloze.scoring.glue import TASKS, Task

OPTIONS = {  # which option goes with what
    "version": ("squad",),
    "na_prob": ("squad",),
    "threshold": ("squad",),
    "column": ("tags",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `cloze score` understands."""
    parser.add_argument("what", metavar="WHAT", help=f"squad, cmrc, tags, or a task: {', '.join(TASKS)}")
    parser.add_argument("gold", type=Path, metavar="GOLD", help="the labelled file, as the benchmark distributes it")
    parser.add_argument(
        "predictions",
        type=Path,
        metavar="PREDICTIONS",
        help="squad, cmrc: JSON {id: answer}; tags: as GOLD; a task: index<TAB>prediction, or JSON Lines with idx and label",
    )
    parser.add_argument("--version", choices=("1.1", "2.0"), help="squad: count as this version does (default: GOLD's)")
    parser.add_argument("--na-prob", type=Path, metavar="FILE", help="squad 2.0: JSON {id: probability of no answer}")
    parser.add_argument(
        "--threshold", type=float, metavar="X", help="squad 2.0: above it, a question has no answer (default 1)"
    )
    parser.add_argument(
        "--column",
        metavar="N",
        help="tags: which column is the tag: a number from 1, in CoNLL-U also a name (default: the last, in CoNLL-U upos)",
    )


def run(given: argparse.Namespace) -> int:
    """Prints the scores. Raises Refusal, one sentence, for files that are malformed or do not belong together."""
    what = _named(given.what)
    for option, goes_with in OPTIONS.items():
        if getattr(given, option) is not None and what not in goes_with:
            raise Refusal(f"--{option.replace('_', '-')} goes with {' and '.join(goes_with)}, not with {what}")
    from cloze.scoring.files import one_file

    gold, predictions = one_file("GOLD", given.gold), one_file("PREDICTIONS", given.predictions)
    scorers: dict[str, Callable[[], dict[str, Any]]] = {
        "squad": lambda: _squad(gold, predictions, given),
        "cmrc": lambda: _cmrc(gold, predictions),
        "tags": lambda: _tags(gold, predictions, given.column),
    }
    scores = scorers[what]() if what in scorers else _task(what, TASKS[what], gold, predictions)
    print(json.dumps(scores, ensure_ascii=False))
    return 0


def _named(said: str) -> str:
    """What to score, by its name here, however its dashes and capitals are written ("glue/SST-2")."""
    plain = {name.replace("_", ""): name for name in ("squad", "cmrc", "tags", *TASKS)}
    name = said.lower().replace("-", "").replace("_", "")
    if name not in plain:
        raise Refusal(f"{said} is not something to score{did_you_mean(said.lower(), plain.values())}")
    return plain[name]


def _note(sentence: str) -> None:
    print(f"note: {sentence}", file=sys.stderr)


def _squad(gold_file: File, predictions_file: File, given: argparse.Namespace) -> dict[str, Any]:
    from cloze.scoring.files import answers, one_file, probabilities, questions
    from cloze.scoring.squad import score_squad

    read = questions(gold_file)
    version = given.version or read.version
    if given.na_prob is not None and version == "1.1":
        raise Refusal(f"--na-prob goes with version 2.0, and {gold_file} is of version 1.1; --version 2.0 counts so")
    if given.threshold is not None and given.na_prob is None:
        raise Refusal(
            f"--threshold={given.threshold} is one of probabilities of no answer: give them too, --na-prob FILE"
        )
    said = answers(predictions_file)
    no_answer = None if given.na_prob is None else probabilities(one_file("--na-prob", given.na_prob))
    threshold = 1.0 if given.threshold is None else given.threshold
    scores = score_squad(read.gold, said, no_answer, version, threshold)
    _tell_missing(read.gold, said, "score 0" if version == "1.1" else "are left out")
    return scores


def _cmrc(gold_file: File, predictions_file: File) -> dict[str, Any]:
    from cloze.scoring.cmrc import score_cmrc
    from cloze.scoring.files import answers, questions

    gold, said = questions(gold_file).gold, answers(predictions_file)
    scores = score_cmrc(gold, said)
    _tell_missing(gold, said, "score 0")
    return scores


def _tell_missing(gold: list[tuple[str, list[str]]], said: dict[str, str], consequence: str) -> None:
    ids = {question for question, _ in gold}
    missing = [question for question, _ in gold if question not in said]
    if missing:
        _note(f"{len(missing)} of {len(gold)} questions have no prediction and {consequence} (the first: {missing[0]})")
    unknown = [question for question in said if question not in ids]
    if unknown:
        _note(f"{len(unknown)} predictions are of questions that GOLD does not have (the first: {unknown[0]})")


def _tags(gold_file: File, predictions_file: File, column: str | None) -> dict[str, Any]:
    from cloze.scoring.files import tagged
    from cloze.scoring.tags import SPAN_TAG, marks_spans, score_tags

    number = int(column) if column is not None and column.removeprefix("-").isdigit() else column
    read = tagged(gold_file, predictions_file, number)
    if marks_spans(read.gold):
        for tags, numbers in zip(read.predictions, read.lines, strict=True):
            for tag, line in zip(tags, numbers, strict=True):
                if not SPAN_TAG.fullmatch(tag):
                    raise Refusal(
                        f"{predictions_file}, line {line}: {tag!r} is not a tag of a span: those are O and B- or I- with a type"
                    )
    return score_tags(read.gold, read.predictions)


def _task(name: str, task: Task, gold_file: File, predictions_file: File) -> dict[str, Any]:
    from cloze.scoring.files import gold_labels, gold_texts, predicted_labels
    from cloze.scoring.metrics import score
    from cloze.scoring.squad import score_squad

    if task.text:
        questions = gold_texts(gold_file)
        texts = {label.key: str(label.value) for label in predicted_labels(predictions_file, name, task).labels}
        scores = score_squad(questions, texts, version="1.1")
        _tell_missing(questions, texts, "score 0")
        return {metric: scores[metric] for metric in task.metrics}
    gold, said = gold_labels(gold_file, name, task), predicted_labels(predictions_file, name, task)
    values = {label.key: label.value for label in said.labels}
    keys = [label.key for label in gold.labels]
    if set(keys) != set(values) and {label.number for label in gold.labels} == set(values):
        keys = [label.number for label in gold.labels]
    known = {*keys, *gold.unlabelled}
    for label in said.labels:
        if label.key not in known:
            raise Refusal(f"{label.where}: {gold_file} has no example {label.key}")
    missing = [label for label, key in zip(gold.labels, keys, strict=True) if key not in values]
    if missing:
        raise Refusal(
            f"{predictions_file}: {len(missing)} of {len(keys)} examples have no prediction "
            f"(the first: {missing[0].key}, {missing[0].where})"
        )
    right = [label.value for label in gold.labels]
    guesses: list[str | float] = [values[key] for key in keys]
    groups = [label.group for label in gold.labels]
    if not task.numeric:
        names = task.classes or tuple(dict.fromkeys(map(str, right)))
        words = gold.aliases or {}
        numbers: dict[str | float, int] = {each: number for number, each in enumerate(names)}
        right = [numbers[each] for each in right]
        # a label that GOLD never has, of a task whose labels are not listed here, is wrong whichever it is
        guesses = [numbers.get(each, numbers.get(words.get(str(each), ""), -1)) for each in guesses]
    return {metric: 100.0 * value for metric, value in score(task.metrics, guesses, right, groups).items()}
