"""Shaped like MNLI: does the premise entail, contradict or leave open the hypothesis?

Which kind of hypothesis it is (colour, place, price, possession, event) and whether it is negated is drawn without regard to
the label, so that a hypothesis alone says nothing about it. A thing has one colour, one price and one holder; a person is in
one place at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from cloze.data.world.lexicon import Word
from cloze.data.world.state import Fact
from cloze.data.world.tasks.scene import Fold, Scene, scene, text

Label = Literal["entailment", "neutral", "contradiction"]
LABELS: tuple[Label, ...] = ("entailment", "neutral", "contradiction")
FAMILIES = ("colour", "place", "price", "possession", "event")


class Inference(NamedTuple):
    premise: str
    hypothesis: str
    label: Label
    topic: str
    family: str
    negated: bool
    told: tuple[Fact, ...]  # what the premise says
    asked: Fact  # what the hypothesis says, or denies if `negated`
    words: tuple[Sequence[Word], Sequence[Word]]  # of premise and hypothesis


def example(fold: Fold, number: int, seed: int = 1, task: str = "inference") -> Inference:
    """`task`: another name, other examples."""
    s = scene(task, fold, number, seed)
    return made_from(s, s.pick(LABELS))


def made_from(s: Scene, label: Label) -> Inference:
    """An example with this label: about the scene's first thing and its first two people."""
    family = s.pick(FAMILIES)
    negated = s.pick((False, True))
    agrees = (label == "entailment") != negated  # the premise says what the hypothesis (without its negation) says
    return _FAMILIES[family](s, label, negated, agrees)


def _made(
    s: Scene,
    premise: list[Word],
    hypothesis: list[Word],
    label: Label,
    family: str,
    negated: bool,
    told: tuple[Fact, ...],
    asked: Fact,
) -> Inference:
    both = premise, hypothesis
    return Inference(text(premise), text(hypothesis), label, s.topic.name, family, negated, told, asked, both)


def _colour(s: Scene, label: Label, negated: bool, agrees: bool) -> Inference:
    a, x = s.people[0], s.things[0]
    event = Fact(s.pick(("buy", "take", "find", "lose", "repair")), a, x)
    shows = label != "neutral"
    premise = s.event(
        event,
        s.pick((False, True)),
        synonym=s.pick((0, 1)),
        coloured=(x,) if shows else (),
        numbered=() if shows or x.count == 1 else (x,),
    )
    told = (event, *((Fact("colour", None, x, value=s.colours[x]),) if shows else ()))
    colour = s.colours[x] if agrees else s.pick([word for word in s.lexicon.colours.items if word != s.colours[x]])
    hypothesis = s.words("T T:be not/PART C" if negated else "T T:be C", T=x, C=colour)
    return _made(s, premise, hypothesis, label, "colour", negated, told, Fact("colour", None, x, value=colour))


def _place(s: Scene, label: Label, negated: bool, agrees: bool) -> Inference:
    a, b, _ = s.people
    x = s.things[0]
    here, there = s.places if s.pick((False, True)) else s.places[::-1]
    who = a if label != "neutral" else b
    event = Fact(s.pick(("bring", "carry")), a, x, place=here)
    premise = s.event(event, s.pick((False, True)), synonym=s.pick((0, 1)), coloured=s.pick(((), (x,))))
    where = here if agrees or (label == "neutral" and s.pick((False, True))) else there
    hypothesis = s.words("A was/AUX not/PART in/ADP P" if negated else "A was/AUX in/ADP P", A=who, P=where)
    return _made(s, premise, hypothesis, label, "place", negated, (event,), Fact("at", who, place=where))


def _price(s: Scene, label: Label, negated: bool, agrees: bool) -> Inference:
    a, b, _ = s.people
    x = s.things[0]
    price = s.pick(s.lexicon.numbers)
    tells = label != "neutral"
    event = Fact(s.pick(("buy", "sell")), a, x, b, value=price if tells else None)
    premise = s.event(event, s.pick((False, True)), s.pick((False, True)), coloured=s.pick(((), (x,))))
    asked = price if agrees else s.pick([number for number in s.lexicon.numbers if number != price])
    template = "T did/AUX not/PART cost/VERB N coins/NOUN" if negated else "T cost/VERB N coins/NOUN"
    hypothesis = s.words(template, T=x, N=asked)
    return _made(s, premise, hypothesis, label, "price", negated, (event,), Fact("price", None, x, value=asked))


def _possession(s: Scene, label: Label, negated: bool, agrees: bool) -> Inference:
    a, b, _ = s.people
    x = s.things[0]
    if label == "neutral":
        premise = s.words("A asked/VERB B about/ADP T", coloured=s.pick(((), (x,))), A=a, B=b, T=x)
        told, holder = Fact("want", a, None, b), s.pick((a, b))
    else:
        told = Fact(s.pick(("give", "sell", "buy", "lend", "borrow")), a, x, b)
        receiver, giver = (a, b) if told.kind in ("buy", "borrow") else (b, a)
        premise = s.event(
            told, s.pick((False, True)), s.pick((False, True)), s.pick((0, 1)), coloured=s.pick(((), (x,)))
        )
        holder = receiver if agrees else giver
    template = "A did/AUX not/PART have/VERB T" if negated else "A had/VERB T"
    hypothesis = s.words(template, A=holder, T=x)
    return _made(s, premise, hypothesis, label, "possession", negated, (told,), Fact("has", holder, x))


def _event(s: Scene, label: Label, negated: bool, agrees: bool) -> Inference:
    """Selling and buying, lending and borrowing; left open where the premise tells only of a wish."""
    a, b, _ = s.people
    x = s.things[0]
    kind = s.pick(("sell", "lend"))
    event = Fact(kind, a, x, b)
    if label == "neutral":
        verb = Word("buy" if kind == "sell" else "borrow", "VERB")
        premise = s.words("B wanted/VERB to/PART V T from/ADP A:o", coloured=s.pick(((), (x,))), A=a, B=b, T=x, V=verb)
        told: tuple[Fact, ...] = (Fact("want", b, x, a),)
    else:
        event_told = event if agrees else Fact(kind, b, x, a)
        converse = Fact("buy" if kind == "sell" else "borrow", event_told.other, x, event_told.subject)
        way = s.pick((event_told, converse))
        premise = s.event(
            way, s.pick((False, True)), s.pick((False, True)), s.pick((0, 1)), coloured=s.pick(((), (x,)))
        )
        told = (event_told,)
    converse = Fact("buy" if kind == "sell" else "borrow", b, x, a)
    asked = s.pick((event, converse))
    hypothesis = s.event(asked, s.pick((False, True)), negated=negated)
    return _made(s, premise, hypothesis, label, "event", negated, told, event)


_FAMILIES = {"colour": _colour, "place": _place, "price": _price, "possession": _possession, "event": _event}
