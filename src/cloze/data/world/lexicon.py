"""The lexicon as objects: tagged words, nouns, adjectives with polarity, and the topics that group them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from cloze.data.world import words as lists
from cloze.data.world.draws import Table
from cloze.data.world.morphology import Verb, again, ness, plural, verb


class Word(NamedTuple):
    """A word as it stands in a sentence, with its universal part of speech and its entity label ("" = none)."""

    form: str
    tag: str
    entity: str = ""


def phrase(text: str) -> tuple[Word, ...]:
    """`"went/VERB to/ADP"` as words."""
    return tuple(Word(*item.split("/")) for item in text.split())


def several(text: str, tag: str, entity: str = "") -> tuple[Word, ...]:
    """A name or compound of one or several words, all tagged alike."""
    return tuple(Word(part, tag, entity) for part in text.replace("_", " ").split())


class Noun(NamedTuple):
    """What a thing is called: `one` and `many` are its head words, `base` names the sense ("farming:pen")."""

    base: str
    one: tuple[Word, ...]
    many: tuple[Word, ...]
    living: bool


class Adjective(NamedTuple):
    """A word for a quality. `rank` matches good and bad opposites; synonyms share rank and `good`."""

    word: Word
    good: bool
    rank: int
    noun: Word | None = None  # brightness


class Name(NamedTuple):
    word: Word
    female: bool


class Topic(NamedTuple):
    name: str
    roles: Table[Word]
    places: Table[tuple[Word, ...]]
    nouns: Table[Noun]
    verbs: Table[Verb]
    names: Table[Name]
    companies: Table[Word]
    good: Table[Adjective]
    bad: Table[Adjective]


@dataclass(frozen=True)
class Lexicon:
    """All words that one reader or writer may use."""

    topics: tuple[Topic, ...]
    topic_table: Table[Topic]
    towns: Table[tuple[Word, ...]]
    colours: Table[Word]
    happy: Table[Word]
    unhappy: Table[Word]
    numbers: tuple[Word, ...]
    reserved: frozenset[str]
    nouns: tuple[Noun, ...]


def _reserve(forms: Sequence[str], share: float = 0.1) -> frozenset[str]:
    """A tenth of some words, by digest: the same tenth everywhere."""
    ranked = sorted(forms, key=lambda form: hashlib.blake2b(form.encode(), digest_size=8).digest())
    return frozenset(ranked[: round(share * len(forms))])


def _noun(topic: str, item: str) -> Noun:
    base = item.rstrip("*").replace("_", " ")
    return Noun(
        f"{topic}:{base}", several(base, "NOUN", "OBJ"), several(plural(base), "NOUN", "OBJ"), item.endswith("*")
    )


def _pairs(items: Sequence[str], good: bool) -> list[Adjective]:
    found = []
    for rank, item in enumerate(items):
        for form in item.split("/"):
            derived = Word(ness(form), "NOUN") if form in lists.NESS else None
            found.append(Adjective(Word(form, "ADJ"), good, rank, derived))
    return found


def _favoured(adjectives: Sequence[Adjective], shift: int, favourites: int = 4) -> Table[Adjective]:
    """Every topic has its own few favourites among the adjectives; the others stay possible. Synonyms are rarer by half."""
    ranks = max(adjective.rank for adjective in adjectives) + 1
    weights, seen = [], set()
    for adjective in adjectives:
        place = (adjective.rank - shift) % ranks
        weight = 60 // (place + 1) if place < favourites else 1
        weights.append(max(1, weight // 2) if (adjective.rank in seen) else 2 * weight)
        seen.add(adjective.rank)
    return Table(adjectives, weights)


@lru_cache(maxsize=8)
def lexicon(
    topics: int = 48, cast_overlap: float = 0.5, topic_overlap: float = 0.0, without_reserved: bool = False
) -> Lexicon:
    """The words of the first `topics` topics.

    `cast_overlap` is the share of persons named without regard to the topic, `topic_overlap` that of things.
    `without_reserved` leaves out the tenth of nouns, names, towns and adjectives that labelled data never shows.
    """
    rows = [[cell.strip() for cell in line.split("|")] for line in lists.TOPICS.strip().splitlines()][:topics]
    counted: dict[str, int] = {}
    all_rows = [line.split("|") for line in lists.TOPICS.strip().splitlines()]
    for row in all_rows:
        for item in row[3].split():
            counted[item.rstrip("*")] = counted.get(item.rstrip("*"), 0) + 1
    women, men, towns = lists.FEMALE_NAMES.split(), lists.MALE_NAMES.split(), lists.TOWNS.split()
    elsewhere = {company.lower() for company in lists.COMPANIES.split()} | {
        "good",
        "coin",
    }  # said without being drawn from a topic
    elsewhere |= {base for row in all_rows for base in row[4].split()}
    single = [form for form, count in counted.items() if count == 1 and form not in elsewhere]
    adjectives = [form for item in (*lists.GOOD, *lists.BAD) for form in item.split("/") if form not in elsewhere]
    reserved = (
        _reserve(single, 0.1 * len(counted) / len(single))
        | _reserve(women)
        | _reserve(men)
        | _reserve(towns)
        | _reserve(adjectives)
    )
    banned = reserved if without_reserved else frozenset()

    names = [
        Name(Word(form, "PROPN", "PER"), female)
        for pair in zip(women, men, strict=True)
        for form, female in zip(pair, (True, False), strict=True)
    ]
    name_weights = [round(1000 / (rank // 2 + 8)) for rank in range(len(names))]
    good, bad = _pairs(lists.GOOD, True), _pairs(lists.BAD, False)
    nouns = {row[0]: [_noun(row[0], item) for item in row[3].split() if item.rstrip("*") not in banned] for row in rows}
    everything = [noun for row in nouns.values() for noun in row]
    things_shared = round(1000 * topic_overlap)
    names_shared = round(1000 * cast_overlap)

    made = []
    for number, (name, roles, places, things, verbs) in enumerate(rows):
        forms = {item.rstrip("*") for item in things.split()}
        local = {noun.base: 1000 * 12 // (rank + 3) for rank, noun in enumerate(nouns[name])}
        if things_shared:
            shared = things_shared * sum(local.values()) // len(everything)
            pool = everything
            noun_weights = [(1000 - things_shared) * local.get(noun.base, 0) + shared for noun in everything]
        else:
            pool, noun_weights = nouns[name], list(local.values())
        ours = {names[(number * 7 + step * 13) % len(names)].word.form for step in range(8)}
        share = sum(name_weights) // 8
        cast = [
            names_shared * weight + (1000 - names_shared) * (share if item.word.form in ours else 0)
            for item, weight in zip(names, name_weights, strict=True)
        ]
        kept = [
            (item, weight) for item, weight in zip(names, cast, strict=True) if weight and item.word.form not in banned
        ]
        made.append(
            Topic(
                name,
                Table([Word(role.replace("_", " "), "NOUN") for role in roles.split()], (3, 1)),
                Table([several(place, "NOUN", "LOC") for place in places.split()], (3, 2)),
                Table(pool, noun_weights),
                Table([verb(base) for base in verbs.split()], (3, 2, 1)),
                Table([item for item, _ in kept], [weight for _, weight in kept]),
                Table([Word(form, "PROPN", "ORG") for form in _companies(forms, number)], (3, 2, 1)),
                _favoured([item for item in good if item.word.form not in banned], number),
                _favoured([item for item in bad if item.word.form not in banned], number),
            )
        )
    topic_weights = [round(10_000 / (number + 12)) for number in range(len(made))]
    return Lexicon(
        topics=tuple(made),
        topic_table=Table(made, topic_weights),
        towns=Table.zipf([several(town, "PROPN", "LOC") for town in towns if town not in banned], 6),
        colours=Table.zipf([Word(colour, "ADJ") for colour in lists.COLOURS], 3),
        happy=Table([Word(form, "ADJ") for item in lists.HAPPY for form in item.split("/")], (8, 3, 5, 2, 3, 1, 2, 1)),
        unhappy=Table(
            [Word(form, "ADJ") for item in lists.UNHAPPY for form in item.split("/")], (8, 3, 5, 2, 3, 1, 2, 1)
        ),
        numbers=tuple(Word(number, "NUM") for number in lists.NUMBERS),
        reserved=frozenset(
            [part for form in reserved for part in form.split("_")]
            + [plural(form) for form in reserved if form in counted]
        ),
        nouns=tuple(everything),
    )


def _companies(forms: set[str], number: int) -> list[str]:
    """Three companies for a topic, none of them named after a thing of this topic."""
    usable = [form for form in lists.COMPANIES.split() if form.lower() not in forms]
    return [usable[(3 * number + step) % len(usable)] for step in range(3)]


@lru_cache(maxsize=512)
def repeated(forms: Verb) -> Verb:
    """The verb for doing it again: rebake."""
    return again(forms)
