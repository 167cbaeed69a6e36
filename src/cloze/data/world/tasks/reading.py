"""Shaped like RACE: questions about a short text with four options each.

Four events, each with a person, an act, a thing and a colour that no other has. A question names one of the four and asks for another;
its options are all that the text has of that sort, so that they and the question alone say nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from cloze.data.world.state import Fact, Kind, Person, Thing
from cloze.data.world.tasks.scene import Fold, Scene, scene, synonym_of, text

ACTS: tuple[Kind, ...] = ("find", "clean", "lose", "take", "buy", "see")
# (what is given, what is asked)
FORMS = (
    ("thing", "person"),
    ("act", "person"),
    ("person", "thing"),
    ("colour", "thing"),
    ("thing", "colour"),
    ("person", "colour"),
)


class Ask(NamedTuple):
    text: str
    options: tuple[str, str, str, str]
    label: int
    given: str
    asked: str


class Reading(NamedTuple):
    article: str
    questions: tuple[Ask, ...]


def article(fold: Fold, number: int, seed: int = 1) -> Reading:
    """A text and one question of each form."""
    s = scene("reading", fold, number, seed, people=4, things=4)
    acts: list[Kind] = _some(s, ACTS, 4)
    colours = _some(s, s.lexicon.colours.items, 4)
    told = []
    things = [Thing(thing.noun) for thing in s.things]  # one of each: was and were would give things away
    for act, person, thing, colour in zip(acts, s.people, things, colours, strict=True):
        s.colours[thing] = colour
        told.append(text(s.event(Fact(act, person, thing), s.pick((False, True)), coloured=(thing,))))
    events = [
        {"act": act, "person": person, "thing": thing, "colour": colour}
        for act, person, thing, colour in zip(acts, s.people, things, colours, strict=True)
    ]
    asks = []
    for given, asked in FORMS:
        which = s.pick((0, 1, 2, 3))
        order = _some(s, (0, 1, 2, 3), 4)
        options = tuple(_said(events[at][asked]) for at in order)
        asks.append(Ask(_question(s, given, asked, events[which]), options, order.index(which), given, asked))  # type: ignore[arg-type]
    return Reading(" ".join(told), tuple(asks))


def _question(s: Scene, given: str, asked: str, event: dict[str, Any]) -> str:
    verb = synonym_of(Fact(event["act"], None, event["thing"]), 0)
    template = {
        ("thing", "person"): "who/PRON V:past T",
        ("act", "person"): "who/PRON V:past something/PRON",
        ("person", "thing"): "what/PRON did/AUX A V:base",
        ("colour", "thing"): "which/DET of/ADP them/PRON was/AUX C",
        ("thing", "colour"): "what/DET colour/NOUN T:be T",
        ("person", "colour"): "what/DET colour/NOUN was/AUX what/PRON A V:past",
    }[given, asked]
    slots = {"A": event["person"], "T": event["thing"], "V": verb, "C": event["colour"]}
    return text(s.words(template, **slots)[:-1]) + "?"


def _said(what: Any) -> str:
    if isinstance(what, Person):
        return what.name.word.form
    if isinstance(what, Thing):
        return "the " + " ".join(word.form for word in what.noun.one)
    return str(what.form)


def _some(s: Scene, items: Any, count: int) -> list[Any]:
    """`count` of the items, in an order by lot."""
    left = list(items)
    kept: list[Any] = []
    while len(kept) < count:
        kept.append(left.pop(s.pick(range(len(left)))))
    return kept
