"""Text to text: a sentence and its translation; a passage and its summary.

A translation is word by word into a language with an order and endings of its own, so it is right by construction. A summary is what a
reader who knows the scripts would keep: the first sentence of each, which says what the rest is about.
"""

from __future__ import annotations

from typing import NamedTuple

from cloze.data import keyed
from cloze.data.world.draws import Draws, Table
from cloze.data.world.grammar import Sentence
from cloze.data.world.languages import LANGUAGES, Language, translate
from cloze.data.world.tasks.cross_lingual import ANCHORS
from cloze.data.world.tasks.scene import Fold
from cloze.data.world.tasks.tagging import document

SCRIPTS = 2  # that a passage has


class Translated(NamedTuple):
    """One sentence in each language."""

    a: str
    b: str
    c: str


class Summarised(NamedTuple):
    passage: str
    summary: str


def translation(fold: Fold, number: int, anchors: float = ANCHORS, seed: int = 1) -> Translated:
    """A sentence of a document of its own."""
    made = document(fold, number, seed, "translation")
    draws = Draws(keyed.key(seed, "world tasks", "translation", "draws", fold, number))
    sentence = draws.pick(Table(made.sentences))
    return Translated(*(told(sentence, language, anchors) for language in LANGUAGES))


def told(sentence: Sentence, language: Language, anchors: float) -> str:
    return sentence.text if language == "a" else translate(sentence.words, language, anchors).text


def summary(fold: Fold, number: int, seed: int = 1) -> Summarised:
    """Of the first two scripts of a document of its own; what introduces its people is left out."""
    made = document(fold, number, seed, "summary")
    scripts: dict[int, list[str]] = {}
    for sentence in made.sentences:
        if 0 < sentence.paragraph <= SCRIPTS:
            scripts.setdefault(sentence.paragraph, []).append(sentence.text)
    return Summarised(
        " ".join(text for script in scripts.values() for text in script),
        " ".join(script[0] for script in scripts.values()),
    )
