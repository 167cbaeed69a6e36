"""Chinese answers, scored as the official script of CMRC 2018 does: https://arxiv.org/abs/1810.07366, github.com/ymcui/cmrc2018.

Unlike SQuAD's F1, this one is of the longest *stretch* that both answers have (no gaps), counted in Chinese characters and, between them,
words of other scripts; and a fixed list of punctuation marks is dropped, which has the Chinese ones and some of the ASCII ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cloze.errors import Refusal
from cloze.scoring.squad import Gold

PUNCTUATION = frozenset(
    "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"
)  # the script's; it means to drop …… too, but never does
_CHINESE = re.compile("([\u4e00-\u9fa5])")
_APART = re.compile(r"""([;@#$%&?!()\[\]{}<>"—–]|\.{3,}|,(?!\d)|\.(?=\s*$)|(?:'(?:s|m|d|ll|re|ve)|n't)\b)""")


def segments(answer: str) -> list[str]:
    """What answers are compared in: each Chinese character, and the words between them, in lower case and without punctuation.

    The script has NLTK split what is not Chinese. Here are those rules of its word tokenizer that matter to answers, without its division
    into sentences: marks stand apart, as do 's and n't and the last full stop; 3.5cm and u.s remain whole. Of the 9657 answers of CMRC's
    dev file all are split at the same places (NLTK's tells opening double quotes from closing ones, which are the same mark here).
    """
    parts: list[str] = []
    for stretch in _CHINESE.split(_bare(answer)):
        parts += _APART.sub(r" \1 ", stretch).split()
    return parts


def longest_stretch(first: list[str], second: list[str]) -> int:
    """Length of the longest run of segments that stands in both."""
    best, before = 0, [0] * (len(second) + 1)
    for one in first:
        now = [0] * (len(second) + 1)
        for place, other in enumerate(second, start=1):
            if one == other:
                now[place] = before[place - 1] + 1
                best = max(best, now[place])
        before = now
    return best


def f1(prediction: str, gold: str) -> float:
    """F1 of the longest stretch that both have, in segments. 0 where they have none, also for two empty answers."""
    predicted, right = segments(prediction), segments(gold)
    common = longest_stretch(right, predicted)
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(right)
    return 2 * precision * recall / (precision + recall)


def exact(prediction: str, gold: str) -> float:
    """1 if the answers are the same in lower case and without punctuation, white space within them counting."""
    return float(_bare(prediction) == _bare(gold))


def _bare(answer: str) -> str:
    return "".join(character for character in answer.lower().strip() if character not in PUNCTUATION)


def score_cmrc(gold: Gold, predictions: Mapping[str, str]) -> dict[str, float]:
    """`AVERAGE` (of the next two), `F1` and `EM` in percent of all questions, `TOTAL`, and `SKIP`, how many have no prediction and score 0.

    Raises Refusal where there are no questions, or one has no answers.
    """
    if not gold:
        raise Refusal("there are no questions to score")
    matched = overlap = 0.0
    for question, answers in gold:
        if not answers:
            raise Refusal(f"question {question} has no answers, and CMRC has no such questions")
        if question in predictions:
            matched += max(exact(predictions[question], answer) for answer in answers)
            overlap += max(f1(predictions[question], answer) for answer in answers)
    em, mean_f1 = 100.0 * matched / len(gold), 100.0 * overlap / len(gold)
    skipped = sum(question not in predictions for question, _ in gold)
    return {"AVERAGE": (em + mean_f1) / 2, "F1": mean_f1, "EM": em, "TOTAL": len(gold), "SKIP": skipped}
