"""What is true: persons, things, places, and how events change who has what, where, and in which condition."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from cloze.data.world.lexicon import Adjective, Name, Noun, Word
from cloze.data.world.morphology import Verb


@dataclass(eq=False, slots=True)
class Person:
    name: Name
    role: Word | None = None

    @property
    def female(self) -> bool:
        return self.name.female


@dataclass(eq=False, slots=True)
class Thing:
    """One thing or, with `count` above 1, several of a kind that are told of together."""

    noun: Noun
    count: int = 1


@dataclass(eq=False, slots=True)
class Place:
    words: tuple[Word, ...]
    town: bool = False


Kind = Literal[
    "go",
    "take",
    "give",
    "buy",
    "sell",
    "lend",
    "borrow",
    "return",
    "show",
    "put",
    "find",
    "lose",
    "damage",
    "repair",
    "clean",
    "soil",
    "paint",
    "work",
    "want",
    "meet",
    "thank",
    "carry",
    "bring",
    "seek",
    "admire",
    "wrap",
    "pack",
    "win",
    "see",
    "at",
    "has",
    "colour",
    "quality",
    "damaged",
    "whole",
    "dirty",
    "price",
    "role",
    "lives",
    "employer",
    "mood",
    "count",
    "friend",
]


class Fact(NamedTuple):
    """Something that happened (`go`, `buy`, …) or that holds (`at`, `has`, `quality`, …)."""

    kind: Kind
    subject: Person | Thing | None
    thing: Thing | None = None
    other: Person | Thing | None = None
    place: Place | None = None
    value: Any = None  # a colour, a price, a count, an adjective, a verb


@dataclass(slots=True)
class State:
    """All that holds now, as far as it was told.

    `holder` is who has a thing, be it lent or owned. A thing without an entry in `damaged` is whole.
    """

    at: dict[Person | Thing, Place] = field(default_factory=dict)
    holder: dict[Thing, Person] = field(default_factory=dict)
    colour: dict[Thing, Word] = field(default_factory=dict)
    damaged: dict[Thing, bool] = field(default_factory=dict)
    dirty: dict[Thing, bool] = field(default_factory=dict)
    price: dict[Thing, Word] = field(default_factory=dict)
    good: dict[Thing, bool] = field(default_factory=dict)
    qualities: dict[Thing, list[Adjective]] = field(default_factory=dict)
    moods: dict[Person, Word] = field(default_factory=dict)
    lost: dict[Thing, bool] = field(default_factory=dict)
    done: dict[Thing, list[Verb]] = field(default_factory=dict)

    def apply(self, fact: Fact) -> None:
        """What follows from an event, or from being told that something holds."""
        kind, subject, thing, other, place, value = fact
        if kind == "go":
            assert isinstance(subject, Person) and place is not None
            self.at[subject] = place
            return
        if kind in ("at", "lives"):
            if kind == "at" and place is not None and subject is not None:
                self.at[subject] = place
            return
        if kind == "mood":
            assert isinstance(subject, Person)
            self.moods[subject] = value
            return
        if thing is None:
            return
        if kind in ("take", "buy", "borrow", "has", "find", "win"):
            assert isinstance(subject, Person)
            if kind != "find":
                self.holder[thing] = subject
            if kind == "buy" and value is not None:
                self.price[thing] = value
            self.lost[thing] = False
        elif kind in ("give", "sell", "lend", "return"):
            assert isinstance(other, Person)
            self.holder[thing] = other
            if kind == "sell" and value is not None:
                self.price[thing] = value
        elif kind == "lose":
            self.lost[thing] = True
        elif kind == "damage":
            self.damaged[thing] = True
        elif kind == "repair":
            self.damaged[thing] = False
        elif kind == "soil":
            self.dirty[thing] = True
        elif kind == "clean":
            self.dirty[thing] = False
        elif kind in ("paint", "colour"):
            self.colour[thing] = value
        elif kind == "quality":
            self.qualities.setdefault(thing, []).append(value)
            self.good[thing] = value.good
        elif kind == "price":
            self.price[thing] = value
        elif kind == "work":
            self.done.setdefault(thing, []).append(value)
        if kind in ("put", "carry", "bring") and place is not None:
            self.at[thing] = place
            if kind != "put" and isinstance(subject, Person):
                self.at[subject] = place

    def holds(self, fact: Fact) -> bool:
        """Whether a stative fact is true now. Raises ValueError for one that this world cannot decide."""
        kind, subject, thing, _, place, value = fact
        if kind == "at" and subject is not None and not isinstance(subject, str):
            return self.at.get(subject) is place
        if thing is None:
            raise ValueError(f"{kind} is not decided by the state")
        if kind == "has":
            return self.holder.get(thing) is subject
        if kind == "colour":
            return bool(self.colour.get(thing) == value)
        if kind == "damaged":
            return self.damaged.get(thing, False)
        if kind == "whole":
            return not self.damaged.get(thing, False)
        if kind == "dirty":
            return self.dirty.get(thing, False)
        if kind == "price":
            return bool(self.price.get(thing) == value)
        if kind == "count":
            return bool(thing.count == value)
        if kind == "quality":
            return value in self.qualities.get(thing, [])
        raise ValueError(f"{kind} is not decided by the state")
