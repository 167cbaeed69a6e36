"""What the tasks are made from: a few people, things and places of one topic, and sentences that say exactly what is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cloze.data import keyed
from cloze.data.world.draws import Draws, Table
from cloze.data.world.grammar import FRAMES, LIVING, THE, Mention, Sentence, Writer, surface
from cloze.data.world.lexicon import Lexicon, Topic, Word, lexicon
from cloze.data.world.morphology import Verb
from cloze.data.world.state import Fact, Person, Place, Thing

Fold = Literal["train", "dev", "test", "mismatched"]  # mismatched: of topics that no other fold has
HELD_OUT = 6  # every sixth topic is kept for `mismatched`


class PlainWriter(Writer):
    """Names instead of pronouns, `the` everywhere, and a colour or a number only where it is asked for."""

    numbered: Sequence[Thing] = ()
    coloured: Sequence[Thing] = ()

    def thing(self, what: Thing, case: str = "s") -> None:
        start = len(self.words)
        self.words.append(THE)
        if what in self.numbered:
            self.words.append(self.lexicon.numbers[what.count - 2])
        if what in self.coloured:
            self.words.append(self.state.colour[what])
        self.words.extend(what.noun.one if what.count == 1 else what.noun.many)
        self.mentions.append(Mention(start, len(self.words), what, False))


@dataclass
class Scene:
    """The people, things and places of one example, all different."""

    lexicon: Lexicon
    draws: Draws
    topic: Topic
    people: list[Person]
    things: list[Thing]
    places: list[Place]
    colours: dict[Thing, Word]

    def pick(self, items: Sequence[Any]) -> Any:
        return self.draws.pick(Table(items))

    def words(
        self, template: str, numbered: Sequence[Thing] = (), coloured: Sequence[Thing] = (), **slots: Any
    ) -> list[Word]:
        """One sentence from a template."""
        writer = self._writer(numbered, coloured)
        writer.say(template, **slots)
        return writer.sentences[0].words

    def event(
        self,
        fact: Fact,
        passive: bool = False,
        dative: bool = False,
        synonym: int = 0,
        numbered: Sequence[Thing] = (),
        coloured: Sequence[Thing] = (),
        negated: bool = False,
    ) -> list[Word]:
        """One sentence that tells an event in the way that is asked for; `synonym` counts within the frame's verbs."""
        return self.event_sentence(fact, passive, dative, synonym, numbered, coloured, negated).words

    def event_sentence(
        self,
        fact: Fact,
        passive: bool = False,
        dative: bool = False,
        synonym: int = 0,
        numbered: Sequence[Thing] = (),
        coloured: Sequence[Thing] = (),
        negated: bool = False,
    ) -> Sentence:
        """The same with its gold (of a negated one the mentions do not fit)."""
        writer = self._writer(numbered, coloured)
        forms = None if fact.kind == "work" else synonym_of(fact, synonym)
        writer.clause(fact, passive, dative, forms)
        if negated:
            writer.words = negate(writer.words, forms or fact.value)
        writer.end()
        return writer.sentences[0]

    def _writer(self, numbered: Sequence[Thing], coloured: Sequence[Thing]) -> PlainWriter:
        writer = PlainWriter(self.lexicon, self.draws, anaphora=False)
        writer.numbered, writer.coloured = numbered, coloured
        writer.state.colour.update(self.colours)
        return writer


def synonym_of(fact: Fact, which: int) -> Verb:
    frame = LIVING.get(fact.kind) if fact.thing is not None and fact.thing.noun.living else None
    verbs = (frame or FRAMES[fact.kind]).verbs.items
    return verbs[which % len(verbs)]


def negate(words: list[Word], forms: Verb) -> list[Word]:
    """Did not, was not: of a clause whose verb is `forms`."""
    made: list[Word] = []
    for word in words:
        if word.tag == "AUX" and word.form in ("was", "were"):
            made += (word, Word("not", "PART"))
        elif word.tag == "VERB" and word.form == forms.past and not any(one.tag == "AUX" for one in made):
            made += (Word("did", "AUX"), Word("not", "PART"), Word(forms.base, "VERB"))
        else:
            made.append(word)
    return made


def scene(
    task: str, fold: Fold, number: int, seed: int = 1, people: int = 3, things: int = 3, many: bool = False
) -> Scene:
    """The scene of example `number`: a function of its arguments alone. Training scenes have no reserved word.

    `many`: every thing comes in several (two to six); else one in two does.
    """
    words = lexicon(cast_overlap=0.5, without_reserved=fold == "train")
    draws = Draws(keyed.key(seed, "world tasks", task, fold, number))
    topics = [
        topic
        for index, topic in enumerate(words.topics)
        if (index % HELD_OUT == HELD_OUT - 1) == (fold == "mismatched")
    ]
    topic = draws.pick(Table(topics))
    cast: list[Person] = []
    for _ in range(people):
        cast.append(Person(draws.pick(topic.names.without([person.name for person in cast]))))
    kept: list[Thing] = []
    for _ in range(things):
        noun = draws.pick(Table(topic.nouns.without([thing.noun for thing in kept]).items))
        several = many or draws.pick(Table((False, True)))
        kept.append(Thing(noun, draws.pick(Table((2, 3, 4, 5, 6))) if several else 1))
    colours = {thing: draws.pick(Table(words.colours.items)) for thing in kept}
    return Scene(words, draws, topic, cast, kept, [Place(place) for place in topic.places.items], colours)


def text(words: Sequence[Word]) -> str:
    return surface(words)
