"""Shaped like WNLI: whom or what does the pronoun stand for? The second sentence says it again with a name in the pronoun's place.

Gender or number decides: there is one candidate that the pronoun can mean. Which of the two is named first, which is meant and which
is put in its place are drawn apart.
"""

from __future__ import annotations

from typing import NamedTuple

from cloze.data.world.lexicon import Word
from cloze.data.world.state import Fact, Kind, Person, Thing
from cloze.data.world.tasks.scene import Fold, Scene, scene, synonym_of, text

MEETINGS: tuple[Kind, ...] = ("meet", "give", "sell", "lend", "show", "borrow")


class Pronoun(NamedTuple):
    text: str
    claim: str
    label: int  # 1 = the claim says what the pronoun says
    pronoun: str
    meant: str
    named: str


def example(fold: Fold, number: int, seed: int = 1) -> Pronoun:
    s = scene("pronouns", fold, number, seed)
    return _of_people(s) if s.pick((True, True, False)) else _of_things(s)


def _of_people(s: Scene) -> Pronoun:
    a = s.people[0]
    same = [name for name in s.topic.names.items if name.female == a.female]
    pair = [a, Person(s.draws.pick(s.topic.names.without(same)))]
    if s.pick((False, True)):
        pair.reverse()
    first, second = pair
    kind: Kind = s.pick(MEETINGS)
    thing = s.things[0]
    fact = Fact(kind, first, None if kind == "meet" else thing, second, s.pick(s.places) if kind == "meet" else None)
    told = s.event(fact, passive=kind != "meet" and s.pick((False, True)), dative=s.pick((False, True)))
    meant, named = s.pick(pair), s.pick(pair)
    pronoun = Word("she" if meant.female else "he", "PRON")
    if s.pick((False, True)):
        mood = s.pick((*s.lexicon.happy.items, *s.lexicon.unhappy.items))
        after = s.words("S was/AUX M", S=pronoun, M=mood)
        claim = s.words("A was/AUX M", A=named, M=mood)
    else:
        verb = synonym_of(Fact(s.pick(("lose", "find", "clean", "take")), None, s.things[1]), s.pick((0, 1)))
        after = s.words("S V:past T", S=pronoun, V=verb, T=s.things[1])
        claim = s.words("A V:past T", A=named, V=verb, T=s.things[1])
    words = [pronoun.form, meant.name.word.form, named.name.word.form]
    return Pronoun(f"{text(told)} {text(after)}", text(claim), int(meant is named), *words)


def _of_things(s: Scene) -> Pronoun:
    one, many = Thing(s.things[0].noun, 1), Thing(s.things[1].noun, s.pick((2, 3, 4)))
    pair = [one, many]
    if s.pick((False, True)):
        pair.reverse()
    a = s.people[0]
    kind = s.pick(("put", "see"))
    verb = synonym_of(Fact(kind, a, pair[0]), s.pick((0, 1)))
    told = s.words("A V:past T near/ADP U", A=a, V=verb, T=pair[0], U=pair[1])
    meant, named = s.pick(pair), s.pick(pair)
    pronoun = Word("it" if meant is one else "they", "PRON")
    if s.pick((False, True)):  # verbs without was and were, whose number would give the answer away
        said, slots = "cost/VERB N coins/NOUN", {"N": s.pick(s.lexicon.numbers)}
    else:
        said, slots = "stood/VERB in/ADP P", {"P": s.pick(s.places)}
    after = s.words(f"S {said}", S=pronoun, **slots)
    claim = s.words(f"T {said}", T=named, **slots)
    nouns = [" ".join(w.form for w in (t.noun.one if t is one else t.noun.many)) for t in (meant, named)]
    return Pronoun(f"{text(told)} {text(after)}", text(claim), int(meant is named), pronoun.form, *nouns)
