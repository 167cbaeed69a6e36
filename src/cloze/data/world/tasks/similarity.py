"""Shaped like STS-B: how much of two sentences is the same, 0 to 5. Score = 5 * common facts / all facts of either.

A sentence tells five facts: who, did what, to what, of which colour, where. Each may differ; the wording always may.
"""

from __future__ import annotations

from typing import NamedTuple

from cloze.data.world.grammar import surface
from cloze.data.world.state import Fact, Kind
from cloze.data.world.tasks.scene import Fold, scene, text

KINDS: tuple[Kind, ...] = ("find", "put", "see")
FACTS = ("who", "what", "thing", "colour", "where")


class Similarity(NamedTuple):
    first: str
    second: str
    score: float
    facts: tuple[tuple[str, ...], tuple[str, ...]]


def example(fold: Fold, number: int, seed: int = 1) -> Similarity:
    s = scene("similarity", fold, number, seed)
    x, y, _ = s.things
    first = [s.people[0], s.pick(KINDS), x, s.colours[x], s.places[0]]
    changed = s.pick(tuple(range(6)))
    order = list(range(5))
    differ = []
    for _ in range(changed):
        differ.append(s.pick([at for at in order if at not in differ]))
    second = list(first)
    for at in differ:
        second[at] = (
            s.people[1],
            s.pick([kind for kind in KINDS if kind != first[1]]),
            y,
            s.pick([word for word in s.lexicon.colours.items if word != first[3]]),
            s.places[1],
        )[at]
    facts = [
        (who.name.word.form, kind, thing.noun.base, colour.form, surface(place.words))
        for who, kind, thing, colour, place in (first, second)
    ]
    texts = ["", ""]
    while texts[0] == texts[1]:  # what means the same is still not said in the same words
        texts = []
        for who, kind, thing, colour, place in (first, second):
            s.colours[thing] = colour
            fact = Fact(kind, who, thing, place=place)
            texts.append(text(s.event(fact, s.pick((False, True)), synonym=s.pick((0, 1)), coloured=(thing,))))
    common = sum(one == other for one, other in zip(*facts, strict=True))
    return Similarity(texts[0], texts[1], round(5 * common / (10 - common), 3), (facts[0], facts[1]))
