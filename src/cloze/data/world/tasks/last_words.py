"""Shaped like LAMBADA: the last word of a passage, which the sentence alone does not tell and the passage does.

Taken from documents as they are: a lost or lent thing is returned to its owner, a traded one is traded for what the other has. The
word was said before, and the last sentence has another candidate of its sort, or names none.
"""

from __future__ import annotations

from typing import NamedTuple

from cloze.data.world.grammar import Sentence
from cloze.data.world.state import Person, Thing
from cloze.data.world.tasks.tagging import document

_STEPS = 8  # sentences before the last one that a passage has at most


class LastWord(NamedTuple):
    passage: str  # without the last word
    word: str


def example(number: int, seed: int = 1) -> LastWord:
    """Passage `number`: from the first document of its own that has one."""
    for attempt in range(1000):
        made = document("test", 1000 * number + attempt, seed, "last words")
        for at, sentence in enumerate(made.sentences):
            word = _decided(sentence, made.sentences[max(0, at - _STEPS) : at])
            if word is not None:
                told = [one.text for one in made.sentences[max(0, at - _STEPS) : at]]
                told.append(sentence.text.removesuffix(f" {word}."))
                return LastWord(" ".join(told), word)
    raise AssertionError("no document of a thousand ends a sentence in a word that the text decides")


def _decided(sentence: Sentence, before: list[Sentence]) -> str | None:
    """The sentence's last word, where the state of the world decides it and `before` names it."""
    last = sentence.words[-2].form
    mention = next((one for one in sentence.mentions if one.end == len(sentence.words) - 1), None)
    if mention is None or mention.pronoun or not any(last in [w.form for w in one.words] for one in before):
        return None
    returned = any(fact.kind == "return" and fact.other is mention.entity for fact in sentence.facts)
    traded = isinstance(mention.entity, Thing) and any(word.form == "trade" for word in sentence.words)
    return last if (returned and isinstance(mention.entity, Person)) or traded else None
