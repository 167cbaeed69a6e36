"""Shaped like SQuAD: questions about a document whose answer is a stretch of it, and twins that it does not answer.

A question is asked only where the document's facts give exactly one answer. Its twin in version 2.0 is the same question about
another thing or person of the document, which no fact of the document answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from cloze.data.world.documents import Document
from cloze.data.world.draws import Draws, Table
from cloze.data.world.grammar import Mention, Sentence, surface
from cloze.data.world.lexicon import Word
from cloze.data.world.state import Fact, Person, Place, Thing
from cloze.data.world.tasks.scene import Fold, synonym_of
from cloze.data.world.tasks.tagging import document
from cloze.data.world.words import NUMBERS

WHO = ("repair", "find", "damage", "lose", "buy", "clean", "win", "wrap", "paint", "borrow")


class Question(NamedTuple):
    text: str
    answer: str  # "" where the document has none
    start: int  # character in the context, -1 where there is no answer
    kind: str  # who, colour, cost, count, where, role, home
    about: Thing | Person


def context_of(document: Document) -> tuple[str, list[int]]:
    """The document as one line of text, and where each sentence begins in it."""
    starts, text = [], ""
    for sentence in document.sentences:
        text += " " if text else ""
        starts.append(len(text))
        text += sentence.text
    return text, starts


def _offset(sentence: Sentence, at: int) -> int:
    """Character at which word `at` begins in its sentence."""
    before = surface(sentence.words[:at])
    return len(before) + (1 if at else 0)


def named(what: Thing) -> str:
    return "the " + surface(what.noun.one if what.count == 1 else what.noun.many)


def be(what: Thing) -> str:
    return "was" if what.count == 1 else "were"


class Asker:
    """Questions about one document. `answers` maps (kind, what it is about) to all facts that answer it, with their sentence."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.context, self.starts = context_of(document)
        self.answers: dict[tuple[str, Thing | Person], list[tuple[Any, int]]] = {}
        for index, sentence in enumerate(document.sentences):
            for fact in sentence.facts:
                for kind, about, answer in _asked(fact):
                    self.answers.setdefault((kind, about), []).append((answer, index))
        mentioned = {mention.entity for sentence in document.sentences for mention in sentence.mentions}
        nouns = [entity.noun.one for entity in mentioned if isinstance(entity, Thing)]
        self.things = [thing for thing in document.things if thing in mentioned and nouns.count(thing.noun.one) == 1]
        self.people = [person for person in document.people if person in mentioned]

    def questions(self) -> Iterator[Question]:
        """All that the document answers in one way."""
        for (kind, about), found in self.answers.items():
            if isinstance(about, Thing) and about not in self.things:
                continue
            if len({id(answer) if isinstance(answer, Person | Place) else answer for answer, _ in found}) != 1:
                continue
            answer, index = found[0]
            place = self._find(kind, answer, index)
            if place is None:
                continue
            text, start = place
            yield Question(self._text(kind, about), text, start, kind, about)

    def unanswerable(self) -> Iterator[Question]:
        """Questions of the same kinds that no fact answers."""
        kinds = [
            kind for kind in dict.fromkeys(kind for kind, _ in self.answers) if kind != "count"
        ]  # "a" tells that it is one
        for kind in kinds:
            pool: list[Thing] | list[Person] = self.people if kind in ("role", "home", "where") else self.things
            for about in pool:
                if (kind, about) not in self.answers:
                    yield Question(self._text(kind, about), "", -1, kind, about)

    def _find(self, kind: str, answer: Any, index: int) -> tuple[str, int] | None:
        """The words that give the answer: in the fact's own sentence, or where the entity was last named before it."""
        sentence = self.document.sentences[index]
        if isinstance(answer, Word):
            for at, word in enumerate(sentence.words):
                if word.form == answer.form and (kind == "cost") == (sentence.words[at + 1].form == "coins"):
                    return answer.form, self.starts[index] + _offset(sentence, at)
            return None
        for back in range(index, -1, -1):
            sentence = self.document.sentences[back]
            for mention in sentence.mentions:
                if mention.entity is answer and not mention.pronoun:
                    return self._span(back, mention)
        return None

    def _span(self, index: int, mention: Mention) -> tuple[str, int]:
        sentence = self.document.sentences[index]
        first = mention.start + (sentence.words[mention.start].tag == "DET")
        text = surface(sentence.words[first : mention.end])
        return text, self.starts[index] + _offset(sentence, first)

    @staticmethod
    def _text(kind: str, about: Thing | Person) -> str:
        if isinstance(about, Person):
            name = about.name.word.form
            return {
                "role": f"What was {name} by trade?",
                "home": f"In which town was the home of {name}?",
                "where": f"Which town did {name} travel to?",
            }[kind]
        if kind.startswith("who "):
            verb = kind.split()[1]
            forms = synonym_of(Fact(verb, None, about), 0) if verb != "paint" else None  # type: ignore[arg-type]
            return f"Who {forms.past if forms else 'painted'} {named(about)}?"
        many = surface(about.noun.many)
        return {
            "colour": f"What colour {be(about)} {named(about)} at first?",
            "cost": f"How many coins did {named(about)} cost?",
            "count": f"How many {many} were there?",
        }[kind]


class Article(NamedTuple):
    title: str
    context: str
    questions: list[tuple[str, Question]]  # each with its id


def articles(fold: Fold, size: int, version: str, seed: int = 1) -> Iterator[Article]:
    """Documents with `size` questions in all, up to four (2.0: eight) of each; version 2.0 has as many without an answer as with one."""
    asked, number = 0, 0
    while asked < size:
        made = document(fold, number, seed, "questions")
        asker = Asker(made)
        found = list(asker.questions())
        draws = Draws(number)
        if version == "2.0":  # as many of a kind with an answer as without one
            twins = _some(list(asker.unanswerable()), 4, draws)
            chosen = []
            for twin in twins:
                same = [question for question in found if question.kind == twin.kind and question not in chosen]
                if same:
                    chosen += [*_some(same, 1, draws), twin]
        else:
            chosen = _some(found, 4, draws)
        kept = [(f"{fold}-{number}-{which}", question) for which, question in enumerate(chosen[: size - asked])]
        asked += len(kept)
        if kept:
            yield Article(f"{made.topic.name}_{number}", asker.context, kept)
        number += 1


def _some(items: list[Question], count: int, draws: Draws) -> list[Question]:
    """Up to `count` of the items, drawn without looking at them."""
    left = list(items)
    kept: list[Question] = []
    while left and len(kept) < count:
        kept.append(left.pop(draws.pick(Table(range(len(left))))))
    return kept


def _asked(fact: Fact) -> Iterator[tuple[str, Thing | Person, Any]]:
    """(kind of question, what it is about, answer) for all questions that a fact answers."""
    kind, subject, thing, other, place, value = fact
    if kind in WHO and isinstance(subject, Person) and thing is not None:
        yield f"who {kind}", thing, subject
    if kind in ("sell", "lend") and isinstance(other, Person) and thing is not None:
        yield ("who buy" if kind == "sell" else "who borrow"), thing, other
    if kind == "colour" and thing is not None:
        yield "colour", thing, value
    if kind in ("price", "buy") and thing is not None and isinstance(value, Word):
        yield "cost", thing, value
    if kind == "count" and thing is not None:
        yield "count", thing, Word(NUMBERS[value - 2], "NUM")
    if isinstance(subject, Person):
        if kind == "role":
            yield "role", subject, value
        if kind == "lives":
            yield "home", subject, place
        if kind == "go" and place is not None and place.town:
            yield "where", subject, place
