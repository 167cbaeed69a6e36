"""Shaped like QQP: do two questions ask the same? Passive, order of objects, synonyms and converse verbs against near misses.

Each asks for the giver or the receiver in an event of which the other is named. The second question is told in another way whether or
not it asks the same; a miss changes who is asked for, who is named, the thing, or what was done.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from cloze.data.world.state import Fact, Kind, Person, Thing
from cloze.data.world.tasks.scene import Fold, Scene, scene, synonym_of, text

ACTS: tuple[Kind, ...] = ("sell", "lend", "give", "show")
TAKING: dict[Kind, Kind] = {"sell": "buy", "lend": "borrow"}
MISSES = ("asked", "asked", "named", "thing", "act")


class Question(NamedTuple):
    act: Kind
    named: Person
    asked: Literal["giver", "receiver"]  # which one is asked for; the other is `named`
    thing: Thing


class Duplicate(NamedTuple):
    first: str
    second: str
    label: int  # 1 = they ask the same


def example(fold: Fold, number: int, seed: int = 1) -> Duplicate:
    s = scene("duplicates", fold, number, seed)
    a, b, _ = s.people
    x, y, _ = s.things
    one = Question(s.pick(ACTS), a, s.pick(("giver", "receiver")), x)
    label = s.pick((0, 1))
    other = one
    if not label:
        miss = s.pick(MISSES)
        if miss == "asked":
            other = one._replace(asked="giver" if one.asked == "receiver" else "receiver")
        elif miss == "named":
            other = one._replace(named=b)
        elif miss == "thing":
            other = one._replace(thing=y)
        else:
            other = one._replace(act=s.pick([act for act in ACTS if act != one.act]))
    told = ["", ""]
    while told[0] == told[1]:
        told = [ask(s, one), ask(s, other)]
    return Duplicate(told[0], told[1], label)


def ask(s: Scene, question: Question) -> str:
    """The question in one of the ways to put it."""
    act, named, asked, thing = question
    verb = synonym_of(Fact(act, None, thing), s.pick((0, 1)))
    slots: dict[str, Any] = {"A": named, "T": thing, "V": verb}
    if asked == "giver":
        ways = ["who/PRON V:past A T", "who/PRON V:past T to/ADP A", "by/ADP whom/PRON T:be T V:participle to/ADP A"]
    else:
        ways = ["who/PRON did/AUX A V:base T to/ADP", "to/ADP whom/PRON did/AUX A V:base T"]
        ways.append("to/ADP whom/PRON T:be T V:participle by/ADP A")
    if act in TAKING:
        slots["W"] = synonym_of(Fact(TAKING[act], None, thing), s.pick((0, 1)))
        if asked == "giver":
            ways += ["from/ADP whom/PRON did/AUX A W:base T", "who/PRON did/AUX A W:base T from/ADP"]
        else:
            ways += ["who/PRON W:past T from/ADP A", "by/ADP whom/PRON T:be T W:participle from/ADP A"]
    return text(s.words(s.pick(ways), **slots)[:-1]) + "?"
