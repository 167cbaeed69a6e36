"""Shaped like QNLI: does the sentence answer the question?

The sentence tells an event: a sale with its price, or one with its place; in passing it may show a colour. Whether or not it answers,
the question is of one of four kinds. Where it does not, the sentence either tells this of another thing or tells something else of
this one, so that neither of the two alone says anything about the label.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from cloze.data.world.morphology import Verb
from cloze.data.world.state import Fact, Kind, Thing
from cloze.data.world.tasks.scene import Fold, Scene, scene, synonym_of, text

Asked = Literal["who", "colour", "price", "where"]
ASKED: tuple[Asked, ...] = ("who", "colour", "price", "where")
SALES: tuple[Kind, ...] = ("buy", "sell")
PLACED: tuple[Kind, ...] = ("find", "put", "see")


class Answering(NamedTuple):
    question: str
    sentence: str
    label: Literal["entailment", "not_entailment"]
    asked: Asked


def example(fold: Fold, number: int, seed: int = 1) -> Answering:
    s = scene("answering", fold, number, seed)
    a, b, _ = s.people
    x, y, _ = s.things
    asked: Asked = s.pick(ASKED)
    answers = s.pick((False, True))
    elsewhere = s.pick((False, True))  # a miss tells it of another thing; else it tells something else
    other_fact = not answers and not elsewhere
    placed = {"price": False, "where": True}.get(asked, s.pick((False, True)))  # what it is asked of
    doing: Kind = s.pick(PLACED if placed else SALES)
    told_placed = (
        placed != other_fact
    )  # what tells something else is of the other sort, so both sorts stay equally frequent
    kind = doing if told_placed == placed else s.pick(PLACED if told_placed else SALES)
    thing = y if elsewhere and not answers else x
    if told_placed:
        fact = Fact(kind, a, thing, place=s.pick(s.places))
    else:
        fact = Fact(kind, a, thing, b, value=s.pick(s.lexicon.numbers))
    # over all kinds of questions, colours are shown equally often with an answer and without one
    shows = not other_fact if asked == "colour" else s.pick((True,) * 5 + (False,)) if other_fact else s.pick((0, 1))
    told = s.event(fact, s.pick((False, True)), synonym=s.pick((0, 1)), coloured=(thing,) if shows else ())
    label = "entailment" if answers else "not_entailment"
    return Answering(question(s, asked, x, doing), text(told), label, asked)  # type: ignore[arg-type]


def question(s: Scene, asked: Asked, about: Thing, kind: Kind) -> str:
    """A question about a thing; `kind` is what was done to it, where that is asked after."""
    verb: Verb = synonym_of(Fact(kind, None, about), 0)
    if asked == "who":
        words = s.words("who/PRON V:past T", T=about, V=verb)
    elif asked == "colour":
        words = s.words("what/DET colour/NOUN T:be T", T=about)
    elif asked == "price":
        words = s.words("how/ADV many/ADJ coins/NOUN did/AUX T cost/VERB", T=about)
    else:
        words = s.words("where/ADV T:be T V:participle", T=about, V=verb)
    return text(words[:-1]) + "?"
