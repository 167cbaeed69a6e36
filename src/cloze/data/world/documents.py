"""A document: an introduction and a few scripts about the same people, told in a topic's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from cloze.data.world import words as lists
from cloze.data.world.draws import Draws, Table, chance
from cloze.data.world.grammar import Sentence, Writer, capital
from cloze.data.world.lexicon import Adjective, Lexicon, Topic, Word, several
from cloze.data.world.morphology import Verb
from cloze.data.world.scripts import SCRIPTS, table_of
from cloze.data.world.state import Fact, Person, Place, State, Thing

OrderCue = Literal["local", "global", "both", "none"]

COUNTS = Table((1, 2, 3, 4, 5, 6), (70, 8, 8, 6, 5, 3))
PRICES = Table([Word(number, "NUM") for number in lists.NUMBERS], (6, 8, 6, 5, 8, 2, 2, 2, 1, 6, 1))
CONTAINERS = Table(("box", "shelf", "rack"), (3, 2, 1))
MORE = (chance(1.0), chance(1.0), chance(0.7), chance(0.3), chance(0.0))  # another paragraph, after so many
YES_65, YES_40, YES_30, HALF = chance(0.65), chance(0.4), chance(0.3), chance(0.5)
FIRST_SLOT = Table(tuple(range(9)), (9, 4, 4, 6, 3, 3, 4, 2, 2))
NEXT_SLOT = Table((1, 2, 3), (5, 2, 3))
LINKS = Table(
    tuple(several(link, "ADV") for link in ("later", "then", "after_that", "soon", "some_time_later")), (5, 4, 3, 2, 2)
)
ON, IN, THE = Word("on", "ADP"), Word("in", "ADP"), Word("the", "DET")
WEEKDAYS = tuple(Word(day, "PROPN", "TIME") for day in lists.WEEKDAYS)
TIMES = tuple(Word(time, "NOUN", "TIME") for time in lists.TIMES)
FORMS = ("plain", "not", "because", "that", "thought", "near", "and", "ness", "quantity")
FORM_WEIGHTS = (12, 3, 4, 3, 3, 3, 2, 2, 4)


@dataclass(frozen=True)
class Style:
    """How documents of a corpus are told."""

    order_cue: OrderCue = "both"
    noise: float = 0.03


@dataclass(frozen=True)
class Document:
    """A document with its gold: every sentence's words, tags, mentions and facts, and who and what it is about."""

    topic: Topic
    sentences: list[Sentence]
    people: tuple[Person, ...]
    things: tuple[Thing, ...]
    places: tuple[Place, ...]
    cost: float  # -log p of every choice that its text shows, in nats

    def state_after(self, time: int) -> State:
        """What holds once the first `time` events of the story have been told."""
        state = State()
        for sentence in sorted(self.sentences, key=lambda sentence: sentence.time)[:time]:
            for fact in sentence.facts:
                state.apply(fact)
        return state


class Story(Writer):
    """Tells one document."""

    def __init__(self, lexicon: Lexicon, draws: Draws, style: Style) -> None:
        super().__init__(lexicon, draws, anaphora=style.order_cue in ("local", "both"))
        self.cue = style.order_cue
        self.noise = chance(style.noise)
        self.topic = draws.pick(lexicon.topic_table)
        self.people: list[Person] = []
        self.things: list[Thing] = []
        self.places: list[Place] = [Place(words) for words in self.topic.places.items]
        self.slot = 0

    # What scripts draw

    def new_person(self) -> Person:
        taken = [person.name for person in self.people]
        table = self.topic.names.without(taken) if taken else self.topic.names
        person = Person(self.draws.pick(table))
        self.people.append(person)
        return person

    def new_thing(self) -> Thing:
        """A thing of the topic that the document has not spoken of yet, or one or several."""
        taken = [thing.noun for thing in self.things]
        table = self.topic.nouns.without(taken) if 0 < len(taken) < len(self.topic.nouns.items) else self.topic.nouns
        count = self.draws.pick(COUNTS)
        thing = Thing(self.draws.pick(table), count)
        self.things.append(thing)
        return thing

    def holdings(self, who: Person, damaged: bool | None = None) -> list[Thing]:
        """What someone has and has not lost, in the order in which it came up."""
        state = self.state
        return [
            thing
            for thing in self.things
            if state.holder.get(thing) is who
            and not state.lost.get(thing, False)
            and (damaged is None or state.damaged.get(thing, False) == damaged)
        ]

    def held(self, who: Person, damaged: bool | None = None) -> Thing:
        """One of the things that someone has, the latest most probably."""
        things = self.holdings(who, damaged)[::-1]
        return self.draws.pick(Table(things, [6, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1][: len(things)]))

    def somewhere(self, which: int) -> Place:
        """The topic's first or second place, the other one now and then."""
        return self.places[which if self.draws.pick(USUAL_PLACE) else 1 - which]

    def town(self) -> Place:
        taken = [place.words for place in self.places if place.town]
        place = Place(self.draws.pick(self.lexicon.towns.without(taken)), town=True)
        self.places.append(place)
        return place

    def price(self) -> Word:
        return self.draws.pick(PRICES)

    def colour(self, other_than: Word | None) -> Word:
        colours = self.lexicon.colours
        return self.draws.pick(colours if other_than is None else colours.without([other_than]))

    def container(self, thing: Thing) -> Word:
        """A compound for where things of a kind are kept: trainbox, ropeshelf."""
        return Word(thing.noun.one[-1].form + self.draws.pick(CONTAINERS), "NOUN")

    def act(self, other_than: Verb | None = None) -> Verb:
        verbs = self.topic.verbs
        return self.draws.pick(verbs if other_than is None else verbs.without([other_than]))

    # What scripts say

    def end(self, *facts: Fact) -> None:
        if self.cue == "global" and self.paragraph and not self.opener and self.draws.pick(HALF):
            self.opener = self.clock(full=True)
        super().end(*facts)
        if self.noise.weights[1] and self.draws.pick(self.noise):
            self.distraction()

    def distraction(self) -> None:
        """A sentence about something else altogether."""
        other = self.draws.pick(self.lexicon.topic_table)
        thing, place = Thing(self.draws.pick(other.nouns)), Place(self.draws.pick(other.places))
        about = self.last
        self.fill("T stood/VERB in/ADP P", {"T": thing, "P": place})
        super().end(Fact("at", thing, place=place))
        self.last = tuple(one for one in about if isinstance(one, Person))

    def work(self, who: Person, thing: Thing, other_than: Verb | None = None) -> Verb:
        act = self.act(other_than)
        self.event(Fact("work", who, thing, value=act))
        return act

    def happy(self, who: Person) -> None:
        if self.draws.pick(YES_40):
            self.feel(who, self.draws.pick(self.lexicon.happy))

    def unhappy(self, who: Person) -> None:
        if self.draws.pick(YES_65):
            self.feel(who, self.draws.pick(self.lexicon.unhappy))

    def feel(self, who: Person, mood: Word) -> None:
        self.say("A was/AUX M", Fact("mood", who, value=mood), A=who, M=mood)

    def judge(self, who: Person, thing: Thing) -> None:
        """Now and then, what someone thinks of a thing, with the reason."""
        if self.draws.pick(HALF):
            self.evaluate(thing, None, who)

    def evaluate(self, thing: Thing, good: bool | None, who: Person | None = None) -> None:
        """Says that a thing is good or bad (drawn where that is open), in one of the forms that fit."""
        known = self.state.good.get(thing)
        if known is not None:
            good = known
        elif good is None:
            good = self.draws.pick(YES_65)
        others = [other for other in self.things if other is not thing and other in self.known]
        weights = list(FORM_WEIGHTS)
        if who is None:
            weights[2] = weights[4] = weights[7] = 0
        if not self.state.done.get(thing) or who is None:
            weights[3] = 0
        if not others or thing not in self.known:
            weights[5] = weights[6] = 0
        if thing.count < 3:
            weights[8] = 0
        form = self.draws.pick(Table(FORMS, weights))
        table, contrary = (self.topic.good, self.topic.bad) if good else (self.topic.bad, self.topic.good)
        slots: dict[str, object] = {"T": thing, "A": who}
        if form == "not":
            adjective = self.draws.pick(contrary)
            slots["Q"] = adjective.word
            self.say("T T:be not/PART Q", Fact("quality", None, thing, value=opposite(adjective, table)), **slots)
            return
        if form == "ness":
            nouns = [item for item in table.items if item.noun is not None]
            adjective = self.draws.pick(Table(nouns))
            slots["Q"] = adjective.noun
            template = "A liked/VERB the/DET Q of/ADP T:d" if good else "A disliked/VERB the/DET Q of/ADP T:d"
            self.say(template, Fact("quality", None, thing, value=adjective), **slots)
            return
        if form == "that":
            assert who is not None
            act = self.state.done[thing][-1]
            slots["V"] = act
            self.fill("T:d that/PRON had/AUX been/AUX V:participle T:be", slots)
        elif form == "because":
            verb = "liked/VERB" if good else "disliked/VERB"
            pronoun = "it/PRON" if thing.count == 1 else "they/PRON"
            self.fill(f"A {verb} T:d because/SCONJ {pronoun} T:be", slots)
        elif form == "thought":
            self.fill("A thought/VERB that/SCONJ T T:be", slots)
        elif form in ("near", "and"):
            slots["U"] = self.draws.pick(Table(others))
            self.fill("T:d near/ADP U:d T:be" if form == "near" else "T:d ,/PUNCT like/ADP U:d ,/PUNCT T:be", slots)
        elif form == "quantity":
            self.fill("all/DET of/ADP T:d were/AUX" if good else "none/PRON of/ADP T:d were/AUX", slots)
            if not good:
                adjective = self.draws.pick(contrary)
                self.words.append(adjective.word)
                self.end(Fact("quality", None, thing, value=opposite(adjective, table)))
                return
        else:
            self.fill("T T:be", slots)
        adjective = self.draws.pick(table)
        self.words.append(adjective.word)
        self.end(Fact("quality", None, thing, value=adjective))

    # The whole

    def clock(self, full: bool) -> tuple[Word, ...]:
        day, time = divmod(self.slot, len(TIMES))
        return (ON, WEEKDAYS[day % 7], TIMES[time]) if full else (IN, THE, TIMES[time])

    def introduce(self, a: Person) -> Person:
        """Who it is about, where, and what they have; then a friend."""
        draws = self.draws
        slots: dict[str, Any] = {"A": a, "R": lambda: draws.pick(self.topic.roles), "P": self.town}
        self.fill(draws.pick(INTRODUCTIONS), slots)
        a.role = slots["R"]
        self.end(Fact("role", a, value=a.role), Fact("lives", a, place=slots["P"]))
        if draws.pick(YES_30):
            company = draws.pick(self.topic.companies)
            self.say("A worked/VERB for/ADP C", Fact("employer", a, value=company), A=a, C=company)
        else:
            where = self.somewhere(0)
            self.say("A works/VERB in/ADP P every/DET day/NOUN", Fact("at", a, place=where), A=a, P=where)
        thing = self.new_thing()
        self.say("A had/VERB T", Fact("has", a, thing), A=a, T=thing)
        b = self.new_person()
        slots = {"A": a, "B": b, "R": lambda: draws.pick(self.topic.roles)}
        self.fill("A:p friend/NOUN B was/AUX R:a", slots)
        b.role = slots["R"]
        self.end(Fact("friend", a, other=b), Fact("role", b, value=b.role))
        return b

    def tell(self) -> Document:
        """The document."""
        a = self.new_person()
        b = self.introduce(a)
        used: list[object] = []
        while self.draws.pick(MORE[self.paragraph]):
            index = self.paragraph
            self.paragraph += 1
            self.last = ()
            if self.cue in ("both", "global"):
                before = self.slot
                self.slot = self.draws.pick(FIRST_SLOT) if index == 0 else self.slot + self.draws.pick(NEXT_SLOT)
                self.opener = self.clock(full=index == 0 or self.slot // 3 != before // 3)
            elif self.cue == "local" and index:
                self.opener = self.draws.pick(LINKS)
            possible = tuple(script for script in SCRIPTS if script not in used and script.possible(self, a))
            script = self.draws.pick(table_of(possible))
            used.append(script)
            script.tell(self, a, b)
        sentences = self.ordered()
        return Document(
            self.topic, sentences, tuple(self.people), tuple(self.things), tuple(self.places), self.draws.cost
        )

    def ordered(self) -> list[Sentence]:
        """The sentences as the text shows them: in order, or shuffled in their paragraph or in the document."""
        if self.anaphora:
            return self.sentences
        groups: dict[int, list[Sentence]] = {}
        for sentence in self.sentences:
            groups.setdefault(sentence.paragraph if self.cue == "global" else 0, []).append(sentence)
        sizes = [sentence.paragraph for sentence in self.sentences]
        shuffled = [sentence for group in groups.values() for sentence in self.shuffle(group)]
        for sentence, paragraph in zip(shuffled, sizes, strict=True):
            sentence.paragraph = paragraph
        return shuffled

    def shuffle(self, sentences: list[Sentence]) -> list[Sentence]:
        order = list(sentences)
        for last in range(len(order) - 1, 0, -1):
            other = self.draws.pick(Table(tuple(range(last + 1))))
            order[last], order[other] = order[other], order[last]
        return order


def opposite(adjective: Adjective, table: Table[Adjective]) -> Adjective:
    """The first adjective of the other polarity with the same rank (any of that polarity where it is reserved)."""
    return next((item for item in table.items if item.rank == adjective.rank), table.items[0])


USUAL_PLACE = chance(0.8)
INTRODUCTIONS = Table(
    (
        "A was/AUX R:a in/ADP P",
        "A ,/PUNCT R:a ,/PUNCT lived/VERB in/ADP P",
        "there/PRON was/AUX R:a called/VERB A in/ADP P",
        "A ,/PUNCT who/PRON was/AUX R:a ,/PUNCT lived/VERB in/ADP P",
    ),
    (4, 3, 2, 2),
)


def tell(lexicon: Lexicon, key: int, style: Style) -> Document:
    """Document of a key: a pure function of its arguments."""
    return Story(lexicon, Draws(key), style).tell()


__all__ = ["Document", "Story", "Style", "capital", "opposite", "tell"]
