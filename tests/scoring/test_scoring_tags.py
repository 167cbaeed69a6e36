"""Tags: a case counted by hand, and conlleval's rules written out, on tags drawn at random."""

from __future__ import annotations

import random

import pytest
from seqeval.metrics import f1_score, precision_score, recall_score

from cloze.errors import Refusal
from cloze.scoring.tags import marks_spans, score_tags

Span = tuple[int, int, int, str]


def spans(sentences: list[list[str]]) -> set[Span]:
    """Sentence, first and last word, and type of each span, as conlleval finds them."""
    found: set[Span] = set()
    for number, tags in enumerate(sentences):
        begin, kind = 0, ""
        for place, tag in enumerate([*tags, "O"]):
            mark, _, now = tag.partition("-")
            if kind and (mark in "OB" or now != kind):
                found.add((number, begin, place - 1, kind))
                kind = ""
            if mark != "O" and not kind:
                begin, kind = place, now
    return found


def test_by_hand() -> None:
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "B-ORG", "O"], ["I-LOC", "I-LOC", "I-PER"]]
    #                    whole                  too short                  one for two      right, IOB1 as it is
    said = [["B-PER", "I-PER", "O", "B-PER"], ["B-ORG", "I-ORG", "O"], ["B-LOC", "I-LOC", "B-PER"]]
    # gold has PER, LOC | ORG, ORG | LOC, PER: 6 spans; predicted are PER, PER | ORG | LOC, PER: 5; the same are PER | | LOC, PER: 3
    scores = score_tags(gold, said)
    assert scores["precision"] == pytest.approx(100 * 3 / 5) and scores["recall"] == pytest.approx(100 * 3 / 6)
    assert scores["f1"] == pytest.approx(100 * 2 * 3 / (5 + 6))
    assert scores["accuracy"] == pytest.approx(100 * 6 / 10)
    per, org = scores["types"]["PER"], scores["types"]["ORG"]
    assert per == {"precision": pytest.approx(200 / 3), "recall": 100.0, "f1": pytest.approx(80.0), "support": 2}
    assert org == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 2}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("marks", ["IOB1", "IOB2", "any"])
def test_f1_is_seqevals_and_conllevals(seed: int, marks: str) -> None:
    draw = random.Random(seed)

    def sentence(length: int) -> list[str]:
        tags: list[str] = []
        while len(tags) < length:
            kind = draw.choice(["PER", "LOC", "O"])
            many = draw.randint(1, 3)
            if kind == "O":
                tags.append("O")
            elif marks == "any":
                tags += [f"{draw.choice('BI')}-{kind}" for _ in range(many)]
            else:
                follows = bool(tags) and tags[-1].endswith(kind)
                first = "B" if marks == "IOB2" or follows else "I"
                tags += [f"{first}-{kind}", *[f"I-{kind}"] * (many - 1)]
        return tags[:length]

    gold = [sentence(draw.randint(1, 12)) for _ in range(20)]
    said = [tags if draw.random() < 0.3 else sentence(len(tags)) for tags in gold]
    right, found = spans(gold), spans(said)
    scores = score_tags(gold, said)
    assert scores["f1"] == pytest.approx(100 * f1_score(gold, said))
    assert scores["precision"] == pytest.approx(100 * precision_score(gold, said))
    assert scores["recall"] == pytest.approx(100 * recall_score(gold, said))
    assert scores["f1"] == pytest.approx(200 * len(right & found) / (len(right) + len(found)))
    pairs = [pair for tags in zip(gold, said, strict=True) for pair in zip(*tags, strict=True)]
    assert scores["accuracy"] == pytest.approx(100 * sum(a == b for a, b in pairs) / len(pairs))


def test_parts_of_speech_have_accuracy_only() -> None:
    assert score_tags([["NOUN", "VERB"], ["X"]], [["NOUN", "NOUN"], ["X"]]) == {"accuracy": pytest.approx(200 / 3)}
    assert not marks_spans([["NOUN", "O"]]) and marks_spans([["O", "B-creative-work"], ["I"]])


def test_no_span_predicted_scores_0() -> None:
    scores = score_tags([["B-PER", "O"]], [["O", "O"]])
    assert (scores["precision"], scores["recall"], scores["f1"], scores["accuracy"]) == (0.0, 0.0, 0.0, 50.0)


def test_what_cannot_be_scored_is_told() -> None:
    with pytest.raises(ValueError, match="same sentences"):
        score_tags([["O", "O"]], [["O"]])
    with pytest.raises(ValueError, match="nothing"):
        score_tags([], [])
    with pytest.raises(Refusal, match="PER is not a tag of a span"):
        score_tags([["B-PER"]], [["PER"]])
