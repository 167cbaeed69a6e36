"""Semantic roles as tags: who did what to what, for whom, where. One predicate a sentence, in IOB2 with the names of CoNLL-2005.

V is the verb, A0 who acts, A1 what it is done to, A2 who else takes part (receiver or source), AM-LOC the place, AM-EXT the price. In
the passive the roles stay and the places change, so position does not tell them.
"""

from __future__ import annotations

from typing import NamedTuple

from cloze.data.world.grammar import FRAMES
from cloze.data.world.state import Fact, Kind
from cloze.data.world.tasks.scene import Fold, scene, synonym_of
from cloze.data.world.tasks.tagging import plain

KINDS: tuple[Kind, ...] = (
    "give",
    "show",
    "lend",
    "sell",
    "buy",
    "borrow",
    "return",
    "put",
    "find",
    "see",
    "carry",
    "bring",
)
_LABELS = {"subject": "A0", "thing": "A1", "other": "A2", "place": "AM-LOC", "value": "AM-EXT"}
TAGS = ("O", "B-V", "I-V", *(f"{mark}-{label}" for label in _LABELS.values() for mark in "BI"))


class Roles(NamedTuple):
    words: tuple[str, ...]
    tags: tuple[str, ...]
    fact: Fact


def example(fold: Fold, number: int, seed: int = 1) -> Roles:
    s = scene("roles", fold, number, seed)
    a, b, _ = s.people
    x = s.things[0]
    kind: Kind = s.pick(KINDS)
    roles = {role for _, role in FRAMES[kind].slots}
    fact = Fact(
        kind,
        a,
        x,
        b if "other" in roles else None,
        s.pick(s.places) if "place" in roles else None,
        s.pick((None, s.pick(s.lexicon.numbers))) if "value" in roles else None,
    )
    way = s.pick((False, True)), s.pick((False, True)), s.pick((0, 1))
    sentence = s.event_sentence(fact, *way, coloured=s.pick(((), (x,))))
    verb = synonym_of(fact, way[2])
    tags = ["O"] * len(sentence.words)
    for mention in sentence.mentions:
        role = next(name for name in _LABELS if getattr(fact, name) is mention.entity)
        for at in range(mention.start, mention.end):
            tags[at] = f"{'B' if at == mention.start else 'I'}-{_LABELS[role]}"
    for at, word in enumerate(sentence.words):
        if word.tag == "VERB" and word.form in (verb.past, verb.participle):
            tags[at] = "B-V"
        if word.form == "coins" and tags[at] == "O":
            tags[at - 1], tags[at] = f"B-{_LABELS['value']}", f"I-{_LABELS['value']}"
    return Roles(plain(sentence), tuple(tags), fact)
