"""Shaped like LAMA: facts of the language itself, which no text beside the question tells. Only pre-training can have taught them.

Four relations: where someone of a trade works, what someone of a trade would have, the second half of a town's name, and which
pronoun goes with a name. Each fact is asked for once, by a blank in a sentence of a kind that the language has. The wrong options
(three; one for pronouns) stand in the same relation to others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cloze.data import keyed
from cloze.data.world.draws import Draws, Table
from cloze.data.world.lexicon import Lexicon, Topic, lexicon
from cloze.data.world.morphology import article

BLANK = "[MASK]"
RELATIONS = ("workplace", "belongings", "town", "pronoun")


class Knowledge(NamedTuple):
    relation: str
    subject: str
    answer: str
    sentence: str  # with BLANK where the answer belongs
    options: tuple[str, ...]
    label: int


def facts(seed: int = 1) -> Iterator[Knowledge]:
    """All facts of all relations, in a fixed order; the options of each and the names in it are drawn."""
    words = lexicon()
    for number, (relation, subject, answer, sentence, others) in enumerate(_facts(words)):
        draws = Draws(keyed.key(seed, "world tasks", "knowledge", number))
        options = [answer]
        while len(options) < min(4, len(set(others)) + 1):
            options.append(draws.pick(Table([other for other in others if other not in options])))
        order: list[str] = []
        while len(order) < len(options):
            order.append(draws.pick(Table([option for option in options if option not in order])))
        said = sentence.replace("NAME", draws.pick(words.topics[0].names).word.form)
        said = said.replace("TOWN", " ".join(word.form for word in draws.pick(words.towns)))
        yield Knowledge(relation, subject, answer, said, tuple(order), order.index(answer))


def _facts(words: Lexicon) -> Iterator[tuple[str, str, str, str, list[str]]]:
    """(relation, subject, answer, sentence, answers of others)"""
    for topic in words.topics:
        for role in topic.roles.items:
            person = f"NAME was {article(role.form)} {role.form} in TOWN."
            own = _places(topic)
            elsewhere = [place for other in words.topics for place in _places(other) if place not in own]
            for place in own[:1]:
                yield "workplace", role.form, place, f"{person} NAME works in the {BLANK} every day.", elsewhere
            own = _things(topic)
            elsewhere = [thing for other in words.topics for thing in _things(other)[:3] if thing not in own]
            consonants = [thing for thing in elsewhere if article(thing) == "a"]
            for thing in [thing for thing in own if article(thing) == "a"][:1]:
                yield "belongings", role.form, thing, f"{person} NAME had a {BLANK}.", consonants
    for town in words.towns.items:
        first, second = (word.form for word in town)
        seconds = [other[1].form for other in words.towns.items if other is not town]
        yield "town", first, second, f"NAME lived in {first} {BLANK}.", seconds
    for name in sorted({name for topic in words.topics for name in topic.names.items}):
        pronoun, other = ("she", "he") if name.female else ("he", "she")
        said = f"{name.word.form} was a baker in TOWN. Every day {BLANK} works in the bakery."
        yield "pronoun", name.word.form, pronoun, said, [other]


def _places(topic: Topic) -> list[str]:
    """Its places of one word."""
    return [place[0].form for place in topic.places.items if len(place) == 1]


def _things(topic: Topic) -> list[str]:
    """Its things of one word that no other topic has, most frequent first."""
    senses = [noun.one[0].form for other in lexicon().topics for noun in other.nouns.items if len(noun.one) == 1]
    found = [noun.one[0].form for noun in topic.nouns.items if len(noun.one) == 1]
    return [form for form in found if senses.count(form) == 1]
