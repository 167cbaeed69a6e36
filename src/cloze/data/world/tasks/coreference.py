"""Shaped like SuperGLUE's WSC: does the pronoun stand for these words?

The text is a few sentences of a document, told as the corpus tells it: a pronoun stands only where one antecedent is possible, somebody or
something just spoken of with the pronoun's gender and number. Two mentions that stand before the pronoun are candidates, one of its
antecedent and one of another person (or thing); which of them is asked about is drawn by lot, so that classes are balanced text by text.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from cloze.data import keyed
from cloze.data.world.documents import Document
from cloze.data.world.draws import Draws, Table
from cloze.data.world.grammar import Mention, Sentence, surface
from cloze.data.world.state import Person, Thing
from cloze.data.world.tasks.scene import Fold
from cloze.data.world.tasks.tagging import document

SENTENCES = 4  # of a text, at most; the pronoun stands in the last


class Span(NamedTuple):
    """Words of the text, which white space parts; `at` is the first one's number, from 0."""

    text: str
    at: int


class Coreference(NamedTuple):
    text: str
    named: Span
    pronoun: Span
    label: bool  # whether the pronoun stands for what is named


class Case(NamedTuple):
    """A pronoun in sentence `last`, with (sentence, mention) of what it may be asked about: its antecedent's, and others'."""

    last: int
    pronoun: Mention
    right: tuple[tuple[int, Mention], ...]
    wrong: tuple[tuple[int, Mention], ...]


def example(fold: Fold, number: int, seed: int = 1) -> Coreference:
    """From a document of its own."""
    for turn in count():
        made = document(fold, number, seed, f"coreference {turn}" if turn else "coreference")
        found = list(cases(made))
        if found:
            break
    draws = Draws(keyed.key(seed, "world tasks", "coreference", "draws", fold, number))
    case = draws.pick(Table(found))
    label = draws.pick(Table((False, True)))
    sentence, mention = draws.pick(Table(case.right if label else case.wrong))
    first = max(0, case.last - SENTENCES + 1)
    told = made.sentences[first : case.last + 1]
    before = [len(each.text.split()) for each in told]
    named = _span(told[sentence - first], mention, sum(before[: sentence - first]))
    pronoun = _span(told[-1], case.pronoun, sum(before[:-1]))
    return Coreference(" ".join(each.text for each in told), named, pronoun, label)


def cases(made: Document) -> Iterator[Case]:
    """Every pronoun with an antecedent and a rival before it."""
    for last, sentence in enumerate(made.sentences):
        for pronoun in sentence.mentions:
            if not pronoun.pronoun:
                continue
            sort = Person if isinstance(pronoun.entity, Person) else Thing
            named = [
                (at, mention)
                for at in range(max(0, last - SENTENCES + 1), last + 1)
                for mention in made.sentences[at].mentions
                if isinstance(mention.entity, sort)
                and not mention.pronoun
                and not _possessive(made.sentences[at], mention)
                and (at < last or mention.start < pronoun.start)
            ]
            right = tuple(each for each in named if each[1].entity is pronoun.entity)
            wrong = tuple(each for each in named if each[1].entity is not pronoun.entity)
            if right and wrong:
                yield Case(last, pronoun, right, wrong)


def _possessive(sentence: Sentence, mention: Mention) -> bool:
    """Whether 's is joined to the last word, so that white space does not part them."""
    return mention.end < len(sentence.words) and sentence.words[mention.end].form == "'s"


def _span(sentence: Sentence, mention: Mention, before: int) -> Span:
    words = sentence.words[mention.start : mention.end]
    return Span(surface(words), before + len(surface(sentence.words[: mention.start]).split()))
