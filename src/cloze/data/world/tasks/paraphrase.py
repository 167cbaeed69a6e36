"""Shaped like MRPC: do two sentences say the same? Voice, order of objects, synonyms and converse verbs against near misses.

The second sentence is told in another way whether or not it means the same, and a miss changes one thing of the event: who did
it to whom, with what, or what was done. So the share of common words does not give the answer away.
"""

from __future__ import annotations

from typing import NamedTuple

from cloze.data.world.lexicon import Word
from cloze.data.world.state import Fact, Kind
from cloze.data.world.tasks.scene import Fold, Scene, scene, text

KINDS: tuple[Kind, ...] = ("give", "show", "lend", "sell", "buy", "borrow")
CONVERSE: dict[Kind, Kind] = {"sell": "buy", "buy": "sell", "lend": "borrow", "borrow": "lend"}
MISSES = ("roles", "roles", "thing", "person", "event", "colour")


class Paraphrase(NamedTuple):
    first: str
    second: str
    label: int  # 1 = they mean the same
    facts: tuple[Fact, Fact]
    colours: tuple[str, str]


def meaning(fact: Fact) -> Fact:
    """One form for converse events: buying is being sold to."""
    if fact.kind in ("buy", "borrow"):
        return fact._replace(kind=CONVERSE[fact.kind], subject=fact.other, other=fact.subject)
    return fact


def example(fold: Fold, number: int, seed: int = 1) -> Paraphrase:
    s = scene("paraphrase", fold, number, seed)
    a, b, c = s.people
    x, y, _ = s.things
    fact = Fact(s.pick(KINDS), a, x, b)
    label = s.pick((0, 1))
    other = fact
    colours = (s.colours[x], s.colours[x])
    if not label:
        miss = s.pick(MISSES)
        if miss == "roles":
            other = fact._replace(subject=b, other=a)
        elif miss == "thing":
            other = fact._replace(thing=y)
        elif miss == "person":
            other = fact._replace(subject=c) if s.pick((False, True)) else fact._replace(other=c)
        elif miss == "event":
            other = fact._replace(kind=s.pick([k for k in KINDS if k not in (fact.kind, CONVERSE.get(fact.kind))]))
        else:
            colours = (s.colours[x], s.pick([word for word in s.lexicon.colours.items if word != s.colours[x]]))
    if other.kind in CONVERSE and s.pick((False, True)):
        other = other._replace(kind=CONVERSE[other.kind], subject=other.other, other=other.subject)
    told = ["", ""]
    while told[0] == told[1]:  # the same words twice would be too easy
        voices = s.pick(((False, True), (True, False), (False, False)))
        told = [_tell(s, one, colour, voice) for one, colour, voice in zip((fact, other), colours, voices, strict=True)]
    return Paraphrase(told[0], told[1], label, (fact, other), (colours[0].form, colours[1].form))


def _tell(s: Scene, fact: Fact, colour: Word, passive: bool) -> str:
    assert fact.thing is not None
    s.colours[fact.thing] = colour
    return text(s.event(fact, passive, s.pick((False, True)), s.pick((0, 1)), coloured=(fact.thing,)))
