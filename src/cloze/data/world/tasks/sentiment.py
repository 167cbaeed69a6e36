"""Shaped like SST-2: is the sentence in favour? Words of praise and blame, each half of the time under a negation."""

from __future__ import annotations

from typing import NamedTuple

from cloze.data.world.tasks.scene import Fold, scene, text

# (template, whether it turns the adjective's polarity round)
FORMS = (
    ("T T:be Q", False),
    ("T T:be not/PART Q", True),
    ("A thought/VERB that/SCONJ T T:be Q", False),
    ("A thought/VERB that/SCONJ T T:be not/PART Q", True),
    ("nobody/PRON thought/VERB that/SCONJ T T:be Q", True),
    ("everybody/PRON thought/VERB that/SCONJ T T:be Q", False),
    ("T from/ADP P T:be very/ADV Q", False),
    ("T from/ADP P T:be never/ADV Q", True),
)


class Sentiment(NamedTuple):
    sentence: str
    label: int  # 1 = in favour
    adjective: str
    negated: bool


def example(fold: Fold, number: int, seed: int = 1) -> Sentiment:
    s = scene("sentiment", fold, number, seed)
    label = s.pick((0, 1))
    template, negated = s.pick(FORMS)
    table = s.topic.good if bool(label) != negated else s.topic.bad
    adjective = s.pick(table.items)
    words = s.words(template, T=s.things[0], A=s.people[0], P=s.places[0], Q=adjective.word)
    return Sentiment(text(words), label, adjective.word.form, negated)
