"""Shaped like XNLI: learn in one language whether a hypothesis follows from a premise, be tested in others.

The training examples are those of the task shaped like MNLI, as XNLI's are MNLI's own; example i of a development or test file is the same
in every language. Labels stay, because a translation says what the original says.
"""

from __future__ import annotations

from typing import NamedTuple

from cloze.data.world.languages import Language, translate
from cloze.data.world.tasks import inference
from cloze.data.world.tasks.scene import Fold, text

ANCHORS = 0.5  # share of names and numbers that are the same in every language, where nobody says it


class CrossLingual(NamedTuple):
    premise: str
    hypothesis: str
    label: inference.Label
    topic: str


def example(fold: Fold, number: int, language: Language, anchors: float = ANCHORS, seed: int = 1) -> CrossLingual:
    made = inference.example(fold, number, seed, "inference" if fold == "train" else "cross-lingual inference")
    premise, hypothesis = (
        text(words) if language == "a" else translate(words, language, anchors).text for words in made.words
    )
    return CrossLingual(premise, hypothesis, made.label, made.topic)
