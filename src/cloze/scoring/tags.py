"""Tags of words: accuracy, and of spans (entities, chunks) precision, recall and F1 as the CoNLL shared tasks count them.

Spans are seqeval's in its default mode, which reads IOB1 and IOB2 alike, as conlleval does: a span ends before O, B-, or
another type, and I- after O, or after another type, begins one. A span is right if both ends and the type are. https://aclanthology.org/W03-0419
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any

from cloze.errors import Refusal

Sentences = Sequence[Sequence[str]]  # the tags of each sentence

SPAN_TAG = re.compile(r"O|[BIES](?:-.+)?")


def score_tags(gold: Sentences, predictions: Sentences) -> dict[str, Any]:
    """Percentages: `accuracy` of the words; where gold tags mark spans, also `precision`, `recall` and `f1` of these, and `types`, the
    same of each type with its number of spans (`support`).

    Raises ValueError where the sentences differ in number or length or there is no word, and Refusal for a predicted tag that marks
    no span where gold tags do.
    """
    if [len(tags) for tags in gold] != [len(tags) for tags in predictions]:
        raise ValueError("gold and predictions must have the same sentences, word by word")
    pairs = [pair for tags in zip(gold, predictions, strict=True) for pair in zip(*tags, strict=True)]
    if not pairs:
        raise ValueError("there is nothing to score")
    result: dict[str, Any] = {"accuracy": 100.0 * sum(right == said for right, said in pairs) / len(pairs)}
    if not marks_spans(gold):
        return result
    for _, said in pairs:
        if not SPAN_TAG.fullmatch(said):
            raise Refusal(f"{said} is not a tag of a span: those are O and B- or I- with a type")
    from seqeval.metrics import sequence_labeling

    seqeval: Any = sequence_labeling  # it has no types
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a type was never predicted: its precision is 0
        report: dict[str, dict[str, Any]] = seqeval.classification_report(
            [list(tags) for tags in gold], [list(tags) for tags in predictions], output_dict=True, zero_division=0
        )
    means = {name: report.pop(f"{name} avg") for name in ("micro", "macro", "weighted")}
    result |= {name.replace("-score", ""): 100.0 * float(means["micro"][name]) for name in _MEASURES}
    result["types"] = {
        kind: {name.replace("-score", ""): 100.0 * float(row[name]) for name in _MEASURES}
        | {"support": int(row["support"])}
        for kind, row in report.items()
    }
    return result


_MEASURES = ("precision", "recall", "f1-score")


def marks_spans(gold: Sentences) -> bool:
    """Whether tags mark spans (O, B-PER, I-PER, …) and are not parts of speech."""
    return all(SPAN_TAG.fullmatch(tag) for tags in gold for tag in tags)
