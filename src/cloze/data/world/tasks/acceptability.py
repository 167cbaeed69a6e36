"""Shaped like CoLA: is this a sentence of the language? Three levels: word order, agreement and form, selection.

Every unacceptable sentence is an acceptable one with a single fault that keeps its words' number; both kinds are drawn from the
same sentences, so length, words and topic say nothing. `twin` is the acceptable sentence.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from cloze.data.world.grammar import AN, WAS, WERE, A, capital
from cloze.data.world.lexicon import Word
from cloze.data.world.state import Fact, Thing
from cloze.data.world.tasks.scene import Fold, Scene, scene, synonym_of, text

LEVELS = ("order", "agreement", "selection")


class Acceptability(NamedTuple):
    sentence: str
    label: int  # 1 = acceptable
    level: str
    twin: str


def example(fold: Fold, number: int, seed: int = 1) -> Acceptability:
    s = scene("acceptability", fold, number, seed)
    level = s.pick(LEVELS)
    good, bad, _ = _twins(s, level)
    label = s.pick((0, 1))
    return Acceptability(text(good if label else bad), label, level, text(good))


class MinimalPair(NamedTuple):
    good: str
    bad: str
    paradigm: str  # order, selection, or agreement_ and what must agree


def minimal_pair(level: str, number: int, seed: int = 1) -> MinimalPair:
    """Shaped like BLiMP: an acceptable sentence and its twin with a single fault, with every word of the language."""
    good, bad, paradigm = _twins(scene(f"minimal pairs {level}", "test", number, seed), level)
    return MinimalPair(text(good), text(bad), paradigm)


Twins = tuple[list[Word], list[Word], str]  # the acceptable sentence, its twin with a fault, the paradigm


def _twins(s: Scene, level: str) -> Twins:
    return {"order": _order, "agreement": _agreement, "selection": _selection}[level](s)


def _order(s: Scene) -> Twins:
    """The article or the auxiliary changes places with the word after it."""
    good = _statement(s)
    lower = [Word(good[0].form.lower(), *good[0][1:]) if good[0].tag == "DET" else good[0], *good[1:]]
    places = [
        at
        for at, (one, after) in enumerate(pairwise(lower))
        if one.tag in ("DET", "ADP") and after.tag in ("NOUN", "ADJ", "PROPN", "DET", "NUM")
    ]
    at = s.pick(places)
    bad = list(lower)
    bad[at], bad[at + 1] = bad[at + 1], bad[at]
    bad[0] = capital(bad[0])
    return good, bad, "order"


def _statement(s: Scene) -> list[Word]:
    a, b, _ = s.people
    x = s.things[0]
    kind = s.pick(("give", "show", "find", "repair", "carry", "buy"))
    fact = {
        "give": Fact("give", a, x, b),
        "show": Fact("show", a, x, b),
        "find": Fact("find", a, x, place=s.pick(s.places)),
        "repair": Fact("repair", a, x),
        "carry": Fact("carry", a, x, place=s.pick(s.places)),
        "buy": Fact("buy", a, x, b),
    }[kind]
    return s.event(fact, passive=s.pick((False, True)), synonym=s.pick((0, 1)), coloured=s.pick(((), (x,))))


def _agreement(s: Scene) -> Twins:
    """The verb with its noun (perhaps across another one), the article with the sound after it, or a verb with `did` or `to`."""
    a = s.people[0]
    x, y, _ = s.things
    adjective = s.pick((*s.topic.good.items, *s.topic.bad.items)).word
    form = s.pick(("be", "near", "article", "did", "to"))
    if form in ("be", "near"):
        template = "T T:be Q" if form == "be" else "T near/ADP U T:be Q"
        good = s.words(template, T=x, U=y, Q=adjective)
        bad = [WERE if word == WAS else WAS if word == WERE else word for word in good]
        return good, bad, "agreement_number" if form == "be" else "agreement_across_noun"
    if form == "article":
        one = Thing(x.noun, 1)
        good = s.words("A had/VERB Q:a T:n", A=a, Q=adjective, T=one)
        return good, [AN if word == A else A if word == AN else word for word in good], "agreement_article"
    forms = synonym_of(Fact(s.pick(("take", "give", "find")), a, x), 0)
    if form == "did":
        good = s.words("A did/AUX not/PART V:base T", A=a, T=x, V=forms)
    else:
        good = s.words("A wanted/VERB to/PART V:base T", A=a, T=x, V=forms)
    bad = [Word(forms.past, "VERB") if word.form == forms.base else word for word in good]
    return good, bad, "agreement_bare_verb"


def _selection(s: Scene) -> Twins:
    """Things and places do not act: in the bad twin they do, with the same words."""
    a = s.people[0]
    dead = [thing for thing in s.things if not thing.noun.living]
    if not dead:  # an animal might well act, a place does not
        x, place = s.pick(s.things), s.pick(s.places)
        slots = {"A": a, "T": x, "P": place, "V": synonym_of(Fact("find", a, x), s.pick((0, 1)))}
        return s.words("A V:past T in/ADP P", **slots), s.words("P V:past T in/ADP A:o", **slots), "selection"
    x = s.pick(dead)
    fact = Fact(s.pick(("take", "buy", "find", "repair", "lose", "clean")), a, x)
    verb = synonym_of(fact, s.pick((0, 1)))
    if s.pick((False, True)):
        return s.words("A V:past T", A=a, T=x, V=verb), s.words("T V:past A:o", A=a, T=x, V=verb), "selection"
    good = s.words("T T:be V:participle by/ADP A:o", A=a, T=x, V=verb)
    return good, s.words("A was/AUX V:participle by/ADP T:o", A=a, T=x, V=verb), "selection"
