"""Answers to questions, scored as the official scripts of SQuAD 1.1 (https://arxiv.org/abs/1606.05250) and 2.0
(https://arxiv.org/abs/1806.03822) score them: percentages under the scripts' own names.

An answer is compared after *normalisation*: lower case, no ASCII punctuation, no articles, single spaces. Of several gold answers the best
one counts. What the two versions do differently:

|                                 | 1.1                  | 2.0                                                       |
|---------------------------------|----------------------|-----------------------------------------------------------|
| question without a prediction   | scores 0             | is left out                                               |
| gold answer that normalises to nothing | as any other  | is dropped; a question left with none has the answer ""   |
| F1 of two empty answers         | 0                    | 1                                                         |

The script of version 2.0 announces that it leaves a question out and then ends in a KeyError, since it still wants it for HasAns and NoAns;
here the question is left out of these as well.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from cloze.errors import Refusal

Version = Literal["1.1", "2.0"]
Gold = Sequence[tuple[str, Sequence[str]]]  # (question's id, answers); no answers: it cannot be answered

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(answer: str) -> str:
    """Lower case, without ASCII punctuation, then without the words a, an and the, white space as single spaces."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact(prediction: str, gold: str) -> float:
    """1 if the answers are the same after normalisation, else 0."""
    return float(normalise(prediction) == normalise(gold))


def f1(prediction: str, gold: str, empty: float = 1.0) -> float:
    """F1 of the words, each counted as often as it is there. `empty` is the score where neither answer has any."""
    predicted, right = normalise(prediction).split(), normalise(gold).split()
    if not predicted or not right:
        return empty if predicted == right else 0.0
    common = sum((Counter(predicted) & Counter(right)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(right)
    return 2 * precision * recall / (precision + recall)


def score_squad(
    gold: Gold,
    predictions: Mapping[str, str],
    no_answer: Mapping[str, float] | None = None,
    version: Version = "1.1",
    threshold: float = 1.0,
) -> dict[str, float]:
    """Percentages of a whole split. `gold` has each question's id and answers, `predictions` the answer to each id ("" = none).

    Version 1.1 gives `exact_match` and `f1`. Version 2.0 gives `exact`, `f1` and `total`, the same of the questions that have an answer
    (`HasAns_`) and that have none (`NoAns_`), as far as there are such, and with `no_answer`, the probability for each question that
    it has no answer: questions with more than `threshold` count as answered with "", and `best_exact`, `best_exact_thresh`, `best_f1` and
    `best_f1_thresh` say what the best threshold would have given. Raises Refusal where there is nothing to score, where a question of
    version 1.1 has no answer and where a probability is missing.
    """
    if not gold:
        raise Refusal("there are no questions to score")
    if version == "1.1":
        if no_answer is not None:
            raise Refusal("probabilities of no answer go with version 2.0; in 1.1 every question has one")
        return _score_1(gold, predictions)
    return _score_2(gold, predictions, no_answer, threshold)


def _score_1(gold: Gold, predictions: Mapping[str, str]) -> dict[str, float]:
    matched = overlap = 0.0
    for question, answers in gold:
        if not answers:
            raise Refusal(f"question {question} has no answers: such are scored by version 2.0")
        if question in predictions:
            matched += max(exact(predictions[question], answer) for answer in answers)
            overlap += max(f1(predictions[question], answer, empty=0.0) for answer in answers)
    return {"exact_match": 100.0 * matched / len(gold), "f1": 100.0 * overlap / len(gold)}


def _score_2(
    gold: Gold, predictions: Mapping[str, str], no_answer: Mapping[str, float] | None, threshold: float
) -> dict[str, float]:
    answerable: dict[str, bool] = {}
    exacts: dict[str, float] = {}
    overlaps: dict[str, float] = {}
    for question, answers in gold:
        if question not in predictions:
            continue
        accepted = [answer for answer in answers if normalise(answer)] or [""]
        answerable[question] = bool(answers)
        exacts[question] = max(exact(predictions[question], answer) for answer in accepted)
        overlaps[question] = max(f1(predictions[question], answer) for answer in accepted)
    if not answerable:
        raise Refusal(f"none of the {len(gold)} questions has a prediction: are both files of the same data?")
    if no_answer is not None:
        missing = [question for question in answerable if question not in no_answer]
        if missing:
            raise Refusal(f"question {missing[0]} has no probability of no answer ({len(missing)} have none)")

    def thresholded(scores: dict[str, float]) -> dict[str, float]:
        if no_answer is None:
            return scores
        return {q: float(not answerable[q]) if no_answer[q] > threshold else score for q, score in scores.items()}

    counted_exact, counted_f1 = thresholded(exacts), thresholded(overlaps)
    result: dict[str, float] = {}
    for prefix, questions in (
        ("", list(answerable)),
        ("HasAns_", [q for q, can in answerable.items() if can]),
        ("NoAns_", [q for q, can in answerable.items() if not can]),
    ):
        if questions:
            result[f"{prefix}exact"] = _percent(counted_exact[q] for q in questions)
            result[f"{prefix}f1"] = _percent(counted_f1[q] for q in questions)
            result[f"{prefix}total"] = len(questions)
    if no_answer is not None:
        for name, scores in (("exact", exacts), ("f1", overlaps)):
            best, at = best_threshold(scores, answerable, predictions, no_answer)
            result[f"best_{name}"], result[f"best_{name}_thresh"] = best, at
    return result


def _percent(scores: Iterable[float]) -> float:
    values = list(scores)
    return 100.0 * sum(values) / len(values)


def best_threshold(
    scores: Mapping[str, float],
    answerable: Mapping[str, bool],
    predictions: Mapping[str, str],
    no_answer: Mapping[str, float],
) -> tuple[float, float]:
    """The best percentage that a threshold on `no_answer` can give, and the lowest such threshold.

    As the official script finds it: from answering nothing (threshold 0) on, one question after the other is answered, the surest first.
    Its ways are kept: an unanswerable question loses its point if anything at all was predicted, even what normalises to nothing, and
    questions of the same probability are answered one by one.
    """
    current = float(sum(not can for can in answerable.values()))
    best, at = current, 0.0
    for question in sorted(no_answer, key=lambda q: no_answer[q]):
        if question not in scores:
            continue
        if answerable[question]:
            current += scores[question]
        elif predictions[question]:
            current -= 1
        if current > best:
            best, at = current, no_answer[question]
    return 100.0 * best / len(scores), at
