"""Shaped like SWAG: which of four endings can come next? Two things happened; only one ending is possible in the state they leave.

An ending is an act with a precondition: a thing is repaired only if it is damaged, found only if it is lost, cleaned only if it
is dirty, returned only by one who borrowed it. The endings are two acts with each of two things, so that they alone say nothing:
the right one is the act that undoes what happened to that very thing.
"""

from __future__ import annotations

from typing import NamedTuple

from cloze.data.world.state import Fact, Kind, Thing
from cloze.data.world.tasks.scene import Fold, scene, text

CAUSES: dict[Kind, Kind] = {"damage": "repair", "lose": "find", "soil": "clean", "lend": "return"}


class Continuation(NamedTuple):
    first: str  # what happened
    start: str  # the words that every ending goes on from
    endings: tuple[str, str, str, str]
    label: int
    told: tuple[Fact, Fact]
    acts: tuple[Fact, Fact, Fact, Fact]


def example(fold: Fold, number: int, seed: int = 1) -> Continuation:
    s = scene("continuation", fold, number, seed)
    a, b, _ = s.people
    x, y, _ = s.things
    kinds = list(CAUSES)
    one = s.pick(kinds)
    two = s.pick([kind for kind in kinds if kind != one])
    idle = s.pick([kind for kind in kinds if kind not in (one, two)])  # its act is offered, and nothing asks for it
    told = [_cause(one, a, x, b), _cause(two, a, y, b)]
    acts = [
        _effect(CAUSES[kind], a, thing, b) for kind in (one, idle) for thing in (x, y)
    ]  # the first is the right one
    if s.pick((False, True)):
        told.reverse()
    order: list[int] = []
    while len(order) < 4:
        order.append(s.pick([at for at in range(4) if at not in order]))
    shuffled = [acts[at] for at in order]
    name = b.name.word.form
    endings = [text(s.event(act)).removeprefix(name + " ") for act in shuffled]
    first = " ".join(text(s.event(fact)) for fact in told)
    return Continuation(first, f"Then {name}", tuple(endings), order.index(0), tuple(told), tuple(shuffled))  # type: ignore[arg-type]


def _cause(kind: Kind, a: object, thing: Thing, b: object) -> Fact:
    return Fact(kind, a, thing, b if kind == "lend" else None)  # type: ignore[arg-type]


def _effect(kind: Kind, a: object, thing: Thing, b: object) -> Fact:
    return Fact(kind, b, thing, a if kind == "return" else None)  # type: ignore[arg-type]
