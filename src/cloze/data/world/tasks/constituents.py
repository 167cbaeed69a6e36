"""Shaped like CoNLL-2000 (https://aclanthology.org/W00-0726/): the phrases that a sentence is made of, none within another, in IOB2.

As there, a noun phrase ends at its head and what describes it from behind is a phrase of its own; 's begins the noun phrase that it is
in; a verb phrase is a verb with its auxiliaries, `not` and `to`, and takes in an infinitive that it governs ("wanted to bake"); a
prepositional phrase is the preposition alone. Words between phrases are O.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cloze.data import keyed
from cloze.data.world.draws import Draws, Table
from cloze.data.world.lexicon import Word
from cloze.data.world.tasks.scene import Fold
from cloze.data.world.tasks.tagging import document, plain

PHRASES = ("ADJP", "ADVP", "NP", "PP", "SBAR", "VP")
TAGS = ("O", *(f"{mark}-{phrase}" for phrase in PHRASES for mark in "BI"))
_WITHOUT = ("PUNCT", "CCONJ")
_IN_FRONT = ("DET", "NUM", "ADJ", "NOUN", "PROPN", "PRON", "PART")  # what a noun goes on from within its phrase


class Constituents(NamedTuple):
    words: tuple[str, ...]
    parts: tuple[str, ...]  # parts of speech
    tags: tuple[str, ...]


def example(fold: Fold, number: int, seed: int = 1) -> Constituents:
    """One sentence of a document of its own."""
    made = document(fold, number, seed, "constituents")
    draws = Draws(keyed.key(seed, "world tasks", "constituents", "draws", fold, number))
    sentence = draws.pick(Table(made.sentences))
    return Constituents(plain(sentence), tuple(word.tag for word in sentence.words), tuple(phrases(sentence.words)))


def phrases(words: Sequence[Word]) -> list[str]:
    """The tag of each word."""
    tags: list[str] = []
    for at, word in enumerate(words):
        kind = _kind(words, at)
        goes_on = at > 0 and tags[-1][2:] == kind and _goes_on(words[at - 1], word)
        tags.append(f"{'I' if goes_on else 'B'}-{kind}" if kind else "O")
    return tags


def _kind(words: Sequence[Word], at: int) -> str:
    """The kind of phrase that a word is in; "" for none."""
    word, after = words[at], words[at + 1].tag if at + 1 < len(words) else ""
    if word.tag in _WITHOUT:
        return ""
    if word.tag in ("AUX", "VERB") or (word.tag == "PART" and word.form != "'s"):
        return "VP"
    if word.tag in ("ADP", "SCONJ"):
        return "PP" if word.tag == "ADP" else "SBAR"
    if word.tag == "ADV":
        return "ADJP" if after == "ADJ" else "ADVP"
    if word.tag == "ADJ":
        return "NP" if after in ("ADJ", "NOUN", "PROPN") else "ADJP"
    return "NP"


def _goes_on(before: Word, word: Word) -> bool:
    """Whether a word is in the phrase of the one before it, both being in phrases of one kind."""
    if word.tag == "AUX":
        return before.tag != "VERB"  # "the crane that had been counted | was perfect"
    if word.tag in ("ADP", "SCONJ", "DET", "PRON") or word.form == "'s":
        return False
    if word.tag == "NUM":
        return before.tag == "DET"
    return word.tag not in ("NOUN", "PROPN") or before.tag in _IN_FRONT
