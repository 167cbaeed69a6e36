"""How words change: plurals, verb forms, derivations, a and an. Pure functions on strings."""

from __future__ import annotations

from typing import NamedTuple

from cloze.data.world.words import DOUBLED, IRREGULAR_PLURALS, IRREGULAR_VERBS

_VOWELS = "aeiou"


class Verb(NamedTuple):
    """All forms of a verb: bake bakes baked baked baking."""

    base: str
    third: str
    past: str
    participle: str
    gerund: str


def plural(noun: str) -> str:
    """loaf -> loaves; of several words the last one changes."""
    *before, head = noun.split()
    if head in IRREGULAR_PLURALS:
        head = IRREGULAR_PLURALS[head]
    elif head.endswith("y") and head[-2] not in _VOWELS:
        head = head[:-1] + "ies"
    elif head.endswith(("s", "x", "z", "ch", "sh")) or head in ("potato", "tomato", "domino"):
        head += "es"
    else:
        head += "s"
    return " ".join([*before, head])


def verb(base: str) -> Verb:
    """The forms of a verb from its base, which may carry `re-`."""
    stem = base
    if base.endswith("e"):
        regular, gerund = base + "d", base[:-1] + "ing"
    elif base.endswith("y") and base[-2] not in _VOWELS:
        regular, gerund = base[:-1] + "ied", base + "ing"
    else:
        if base in DOUBLED:
            stem = base + base[-1]
        regular, gerund = stem + "ed", stem + "ing"
    if base == "tie":
        gerund = "tying"
    past, participle = IRREGULAR_VERBS.get(base, (regular, regular))
    if base.endswith("y") and base[-2] not in _VOWELS:
        third = base[:-1] + "ies"
    elif base.endswith(("s", "x", "z", "ch", "sh", "o")):
        third = base + "es"
    else:
        third = base + "s"
    return Verb(base, third, past, participle, gerund)


def again(forms: Verb) -> Verb:
    """Bake -> rebake, in every form."""
    return Verb(*("re" + form for form in forms))


def ness(adjective: str) -> str:
    """Bright -> brightness, ugly -> ugliness."""
    return (adjective[:-1] + "i" if adjective.endswith("y") else adjective) + "ness"


def article(following: str) -> str:
    """`a` or `an`, by the sound that the following word begins with."""
    return "an" if following[0].lower() in _VOWELS and not following.startswith(("use", "uni", "eu")) else "a"
