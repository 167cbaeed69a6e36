"""Tagging words that were never seen with a label: what a model knows of a word that only pre-training has shown it.

Eight classes of words. Half of the words of each are *held out*: training sentences give no tag for them, and development and test
sentences for nothing else, so that accuracy is accuracy on words without a single labelled example. A model that starts from
scratch can go by the place in the sentence alone, which does not tell a woman's name from a man's. NO_TAG stands for none: such words
are neither learnt from nor scored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from cloze.data.base import NO_TAG
from cloze.data.world.documents import Document
from cloze.data.world.draws import Draws, Table
from cloze.data.world.grammar import FRAMES, LIVING, Sentence, surface
from cloze.data.world.lexicon import Word, lexicon, repeated
from cloze.data.world.state import Thing
from cloze.data.world.tasks.scene import Fold
from cloze.data.world.tasks.tagging import document

CLASSES = ("WOMAN", "MAN", "PLACE", "THING", "TRADE", "COLOUR", "QUALITY", "DEED")


class UnseenWords(NamedTuple):
    sentence: str
    words: tuple[str, ...]
    tags: tuple[str, ...]  # one of CLASSES or NO_TAG
    topic: str


def example(fold: Fold, number: int, seed: int = 1) -> UnseenWords:
    """One sentence of a document of its own, with at least one tag."""
    draws = Draws(number)
    for attempt in range(100):
        made = document(fold, 100 * number + attempt, seed, "unseen words")
        usable = [tagged for tagged in _tagged(made, fold) if set(tagged[1]) != {NO_TAG}]
        if usable:
            sentence, tags = draws.pick(Table(usable))
            words = tuple(word.form for word in sentence.words)
            return UnseenWords(surface(sentence.words), words, tags, made.topic.name)
    raise AssertionError("no document of a hundred has a sentence with a tag")


def _tagged(made: Document, fold: Fold) -> Iterator[tuple[Sentence, tuple[str, ...]]]:
    held = held_out()
    for sentence in made.sentences:
        singular = {
            at: word.form
            for mention in sentence.mentions
            if isinstance(mention.entity, Thing) and not mention.pronoun
            for at, word in enumerate(mention.entity.noun.one, mention.end - len(mention.entity.noun.one))
        }
        tags = []
        for at, word in enumerate(sentence.words):
            lemma, name = classified(word, singular.get(at))
            tags.append(name if name != NO_TAG and (lemma in held) == (fold != "train") else NO_TAG)
        yield sentence, tuple(tags)


def classified(word: Word, singular: str | None = None) -> tuple[str, str]:
    """(lemma, class) of a word as it stands in a sentence; `singular`: what it is called as one, where it names a thing."""
    form, tables = word.form.lower(), _tables()
    if word.entity == "PER":
        return form, "WOMAN" if form in tables["WOMAN"] else "MAN"
    if word.entity == "LOC":
        return form, "PLACE"
    if word.entity == "OBJ":
        return singular or form, "THING"
    if word.entity:
        return form, NO_TAG
    if word.tag == "NOUN" and form in tables["TRADE"]:
        return form, "TRADE"
    if word.tag == "VERB" and form in tables["DEED"]:
        return tables["DEED"][form], "DEED"
    for name in ("COLOUR", "QUALITY"):
        if word.tag == "ADJ" and form in tables[name]:
            return form, name
    return form, NO_TAG


@lru_cache(maxsize=1)
def _tables() -> dict[str, dict[str, str]]:
    """Form -> lemma, of the classes that the text's own labels do not tell."""
    words = lexicon()
    verbs = [verb for topic in words.topics for verb in topic.verbs.items]
    verbs += [repeated(verb) for verb in verbs]
    verbs += [verb for frame in (*FRAMES.values(), *LIVING.values()) for verb in frame.verbs.items]
    again = {repeated(verb).base: verb.base for topic in words.topics for verb in topic.verbs.items}
    names = {name for topic in words.topics for name in topic.names.items}
    return {
        "WOMAN": {name.word.form.lower(): name.word.form.lower() for name in names if name.female},
        "MAN": {name.word.form.lower(): name.word.form.lower() for name in names if not name.female},
        "TRADE": {word.form: word.form for topic in words.topics for word in topic.roles.items},
        "COLOUR": {word.form: word.form for word in words.colours.items},
        "QUALITY": {
            item.word.form: item.word.form for topic in words.topics for item in (*topic.good.items, *topic.bad.items)
        },
        "DEED": {form: again.get(verb.base, verb.base) for verb in verbs for form in verb},
    }


@lru_cache(maxsize=1)
def held_out() -> frozenset[str]:
    """Lemmas without labels: half of those of each class, by digest, and the reserved tenth among them.

    A lemma of two classes ("drill" is a thing and a deed) is in or out in both.
    """
    words, tables = lexicon(), _tables()
    classes = [
        {part.form.lower() for town in words.towns.items for part in town},
        {part.form for topic in words.topics for place in topic.places.items for part in place},
        {part.form for noun in words.nouns for part in noun.one},
        *(set(tables[name].values()) for name in ("WOMAN", "MAN", "TRADE", "COLOUR", "QUALITY", "DEED")),
    ]
    reserved = {form.lower() for form in words.reserved}
    out: set[str] = set()
    decided: set[str] = set()
    for lemmas in classes:
        left = sorted(lemmas - decided, key=lambda lemma: (lemma not in reserved, _digest(lemma)))
        out |= set(left[: len(left) // 2])
        decided |= lemmas
    return frozenset(out)


def _digest(lemma: str) -> bytes:
    return hashlib.blake2b(lemma.encode(), digest_size=8).digest()
