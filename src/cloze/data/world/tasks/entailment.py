"""Shaped like RTE: does a text of a few sentences entail the hypothesis? Few examples, and two classes.

One sentence of the text decides (or leaves open) the hypothesis as in the task shaped like MNLI; the others tell of other things
and of another person.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from cloze.data.world.state import Fact, Kind
from cloze.data.world.tasks import inference
from cloze.data.world.tasks.scene import Fold, scene, text

ASIDE: tuple[Kind, ...] = ("repair", "clean", "find", "lose", "carry")


class Entailment(NamedTuple):
    text: str
    hypothesis: str
    label: Literal["entailment", "not_entailment"]
    told: tuple[Fact, ...]
    asked: Fact
    negated: bool


def example(fold: Fold, number: int, seed: int = 1) -> Entailment:
    s = scene("entailment", fold, number, seed)
    label = s.pick(("entailment", "not_entailment"))
    made = inference.made_from(s, label if label == "entailment" else s.pick(("neutral", "contradiction")))
    stranger = s.people[2]
    asides = []
    for thing in s.things[1:]:
        kind = s.pick(ASIDE)
        asides.append(Fact(kind, stranger, thing, place=s.pick(s.places) if kind == "carry" else None))
    sentences = [text(s.event(fact, s.pick((False, True)), synonym=s.pick((0, 1)))) for fact in asides]
    sentences.insert(s.pick((0, 1, 2)), made.premise)
    return Entailment(" ".join(sentences), made.hypothesis, label, (*asides, *made.told), made.asked, made.negated)
