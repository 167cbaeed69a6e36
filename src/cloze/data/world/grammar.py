"""From meanings to sentences: references that follow the discourse, agreement, articles, voice, and the frames of events.

A *template* is a line of words with tags and slots: `"A wanted/VERB T"`. One capital letter is a slot, bound to a person, a
thing or a place; its ending says in which form: `A:o` him, `A:p` his, `T:be` was or were, `T:do`, `T:n` bare noun, `V:past`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from cloze.data.world.draws import Draws, Table, chance
from cloze.data.world.lexicon import Lexicon, Word, phrase
from cloze.data.world.morphology import Verb, article, verb
from cloze.data.world.state import Fact, Person, Place, State, Thing


class Mention(NamedTuple):
    """Words start..end-1 of a sentence stand for this person, thing or place; `pronoun` says that they do not name it."""

    start: int
    end: int
    entity: Person | Thing | Place
    pronoun: bool


@dataclass(slots=True)
class Sentence:
    """One sentence with all that is known about it. `time` is its place in the order of events, `cost` its -log p in nats."""

    words: list[Word]
    mentions: list[Mention]
    facts: tuple[Fact, ...]
    cost: float = 0.0
    paragraph: int = 0
    time: int = 0

    @property
    def text(self) -> str:
        return surface(self.words)


def surface(words: Sequence[Word]) -> str:
    """Words as running text: punctuation and 's stand close to the word before them."""
    text = " ".join([word.form for word in words])
    return text.replace(" ,", ",").replace(" .", ".").replace(" 's", "'s")


@lru_cache(maxsize=65536)
def capital(word: Word) -> Word:
    return Word(word.form[0].upper() + word.form[1:], word.tag, word.entity)


class Frame(NamedTuple):
    """How an event is said: verbs that mean the same, and what follows them as (preposition, role)."""

    verbs: Table[Verb]
    slots: tuple[tuple[tuple[Word, ...], str], ...]


def _frame(verbs: str, slots: str) -> Frame:
    parts = []
    for slot in slots.split(",") if slots else []:
        *preposition, role = slot.split()
        parts.append((tuple(Word(form, "ADP") for form in preposition), role))
    names = verbs.split()
    return Frame(Table([verb(name) for name in names], [4, 2, 1][: len(names)]), tuple(parts))


FRAMES = {
    "go": _frame("go walk hurry", "to place"),
    "take": _frame("take grab", "thing"),
    "give": _frame("give hand", "thing,to other"),
    "buy": _frame("buy purchase", "thing,from other,for value"),
    "sell": _frame("sell", "thing,to other,for value"),
    "lend": _frame("lend loan", "thing,to other"),
    "borrow": _frame("borrow", "thing,from other"),
    "return": _frame("return", "thing,to other"),
    "show": _frame("show present", "thing,to other"),
    "put": _frame("put place", "thing,in place"),
    "find": _frame("find discover", "thing,in place"),
    "lose": _frame("lose misplace", "thing"),
    "damage": _frame("break smash", "thing"),
    "repair": _frame("repair fix mend", "thing"),
    "clean": _frame("clean wash", "thing"),
    "soil": _frame("soil stain", "thing"),
    "meet": _frame("meet greet", "other,in place"),
    "thank": _frame("thank", "other"),
    "carry": _frame("carry", "thing,to place"),
    "bring": _frame("bring", "thing,to place"),
    "admire": _frame("admire praise", "thing"),
    "wrap": _frame("wrap", "thing"),
    "pack": _frame("pack", "thing"),
    "win": _frame("win", "thing"),
    "want": _frame("want need", "thing"),
    "seek": _frame("seek", "thing"),
    "see": _frame("see notice", "thing,in place"),
    "work": _frame("make", "thing"),
}
LIVING = {"damage": _frame("injure hurt", "thing"), "repair": _frame("heal cure", "thing")}
TRANSFERS = ("give", "show", "lend", "sell")  # "gave Omar the basket" beside "gave the basket to Omar"

PRONOUNS = {
    (female, case): Word(form, "PRON")
    for female, case, form in (
        (True, "s", "she"),
        (True, "o", "her"),
        (True, "p", "her"),
        (False, "s", "he"),
        (False, "o", "him"),
        (False, "p", "his"),
    )
}
IT, THEY, THEM = Word("it", "PRON"), Word("they", "PRON"), Word("them", "PRON")
THE, A, AN, BY = Word("the", "DET"), Word("a", "DET"), Word("an", "DET"), Word("by", "ADP")
WAS, WERE, POSSESSIVE = Word("was", "AUX"), Word("were", "AUX"), Word("'s", "PART")
COMMA, STOP, COINS = Word(",", "PUNCT"), Word(".", "PUNCT"), Word("coins", "NOUN")

HALF, SHOW_COLOUR, REPEAT_COLOUR = chance(0.5), chance(0.5), chance(0.1)


@lru_cache(maxsize=4096)
def _compiled(template: str) -> tuple[tuple[str, str, Word | None], ...]:
    """(slot, form, None) or ("", "", word) for each item."""
    items: list[tuple[str, str, Word | None]] = []
    for item in template.split():
        if "/" in item:
            items.append(("", "", phrase(item)[0]))
        else:
            slot, _, form = item.partition(":")
            items.append((slot, form, None))
    return tuple(items)


@lru_cache(maxsize=4096)
def tagged(form: str, tag: str) -> Word:
    return Word(form, tag)


@dataclass
class Writer:
    """Writes sentences one after the other and remembers what the reader knows: who was named, who `she` and `it` would be."""

    lexicon: Lexicon
    draws: Draws
    anaphora: bool = True  # pronouns, and "a" before "the"
    state: State = field(default_factory=State)
    sentences: list[Sentence] = field(default_factory=list)
    paragraph: int = 0
    opener: tuple[Word, ...] = ()

    def __post_init__(self) -> None:
        self.words: list[Word] = []
        self.mentions: list[Mention] = []
        self.shown: list[Fact] = []  # colours and counts that this sentence shows in passing
        self.known: set[Person | Thing] = set()
        self.last: tuple[Person | Thing, ...] = ()  # who and what the last sentence was about
        self.here: list[Person | Thing] = []
        self._cost = 0.0

    # Sentences

    def say(self, template: str, *facts: Fact, **slots: Any) -> None:
        """One sentence from a template, whose facts hold from now on."""
        self.fill(template, slots)
        self.end(*facts)

    def fill(self, template: str, slots: dict[str, Any]) -> None:
        """The words of a template. A slot bound to a function is drawn when the text comes to it, and bound to the result."""
        words = self.words
        for slot, form, word in _compiled(template):
            if word is not None:
                words.append(word)
                continue
            value = slots[slot]
            if callable(value):
                value = slots[slot] = value()
            if isinstance(value, Person):
                self.person(value, form or "s")
            elif isinstance(value, Thing):
                if form == "be":
                    words.append(self.be(value))
                elif form == "n":
                    words.extend(value.noun.one if value.count == 1 else value.noun.many)
                else:
                    self.thing(value, form or "s")
            elif isinstance(value, Place):
                self.place(value)
            elif isinstance(value, Verb):
                words.append(tagged(getattr(value, form), "VERB"))
            elif isinstance(value, Word):
                if form == "a":
                    words.append(AN if article(value.form) == "an" else A)
                words.append(value)
            else:
                if form == "a":
                    words.append(AN if article(value[0].form) == "an" else A)
                words.extend(value)

    def end(self, *facts: Fact) -> None:
        """Closes the sentence: a capital, a full stop, the opener before it, and its facts applied."""
        words, mentions = self.words, self.mentions
        if self.opener:
            shift = len(self.opener) + 1
            words = [*self.opener, COMMA, *words]
            mentions = [
                Mention(start + shift, stop + shift, entity, pronoun) for start, stop, entity, pronoun in mentions
            ]
            self.opener = ()
        words[0] = capital(words[0])
        words.append(STOP)
        shown = (*self.shown, *facts)
        for fact in shown:
            self.state.apply(fact)
        cost = self.draws.cost
        time = len(self.sentences)
        self.sentences.append(Sentence(words, mentions, shown, cost - self._cost, self.paragraph, time))
        self._cost = cost
        self.last = tuple(self.here)
        self.known.update(self.here)
        self.words, self.mentions, self.shown, self.here = [], [], [], []

    def event(
        self, fact: Fact, passive: bool | None = None, dative: bool | None = None, forms: Verb | None = None
    ) -> None:
        """One sentence that tells of an event. What is None is drawn: the verb, passive voice, "gave him the basket"."""
        self.clause(fact, passive, dative, forms)
        self.end(fact)

    def clause(
        self, fact: Fact, passive: bool | None = None, dative: bool | None = None, forms: Verb | None = None
    ) -> None:
        kind, subject, thing, other, _, value = fact
        frame = FRAMES[kind]
        if thing is not None and thing.noun.living:
            frame = LIVING.get(kind, frame)
        if thing is None or not isinstance(subject, Person):
            passive = False
        elif passive is None:
            passive = self.draws.pick(PASSIVE)
        if forms is None:
            forms = value if kind == "work" else self.draws.pick(frame.verbs)
        if passive:
            assert thing is not None
            self.thing(thing, "s")
            self.words += (self.be(thing), tagged(forms.participle, "VERB"))
        else:
            assert isinstance(subject, Person)
            self.person(subject, "s")
            self.words.append(tagged(forms.past, "VERB"))
        slots = frame.slots
        if not passive and other is not None and kind in TRANSFERS:
            if dative is None:
                dative = self.draws.pick(HALF)
            if dative:
                slots = (((), "other"), ((), "thing"), *slots[2:])
        for preposition, role in slots:
            if role == "thing" and passive:
                continue
            filler = getattr(fact, role)
            if filler is None:
                continue
            self.words += preposition
            if role == "value":
                self.words += (filler, COINS)
            elif isinstance(filler, Place):
                self.place(filler)
            elif isinstance(filler, Person):
                self.person(filler, "o")
            else:
                self.thing(filler, "d" if dative else "o")
        if passive:
            assert isinstance(subject, Person)
            self.words.append(BY)
            self.person(subject, "o")

    # References

    def person(self, who: Person, case: str = "s") -> None:
        """A name, or a pronoun where the person was just spoken of and nobody else could be meant."""
        start = len(self.words)
        pronoun = False
        if self.anaphora and who in self.known and (who in self.last or who in self.here):
            rivals = [
                one
                for one in (*self.last, *self.here)
                if isinstance(one, Person) and one is not who and one.female == who.female
            ]
            pronoun = not rivals
        if pronoun:
            self.words.append(PRONOUNS[who.female, case])
        else:
            self.words.append(who.name.word)
            if case == "p":
                self.words.append(POSSESSIVE)
        self.mentions.append(Mention(start, start + 1, who, pronoun))
        self.here.append(who)
        self.known.add(who)

    def thing(self, what: Thing, case: str = "s") -> None:
        """`a red basket` at first, `the basket` or `it` later; `case` is s or o, or d for a plain definite form."""
        words = self.words
        start = len(words)
        new = what not in self.known
        pronoun = False
        if not new and self.anaphora and case != "d" and what in self.last and what not in self.here:
            rivals = [one for one in (*self.last, *self.here) if isinstance(one, Thing) and one is not what]
            pronoun = not rivals and self.draws.pick(HALF)
        if pronoun:
            words.append(IT if what.count == 1 else THEY if case == "s" else THEM)
        else:
            colour = self.state.colour.get(what)
            if new:
                if colour is None and self.draws.pick(SHOW_COLOUR):
                    colour = self.draws.pick(self.lexicon.colours)
                    self.shown.append(Fact("colour", None, what, value=colour))
            elif colour is not None and not self.draws.pick(REPEAT_COLOUR):
                colour = None
            noun = what.noun.one if what.count == 1 else what.noun.many
            if not (new and self.anaphora):
                words.append(THE)
            elif what.count == 1:
                words.append(AN if article((colour or noun[0]).form) == "an" else A)
            if new and what.count > 1:
                words.append(self.lexicon.numbers[what.count - 2])
                self.shown.append(Fact("count", None, what, value=what.count))
            if colour is not None:
                words.append(colour)
            words.extend(noun)
        self.mentions.append(Mention(start, len(words), what, pronoun))
        self.here.append(what)
        self.known.add(what)

    def place(self, where: Place) -> None:
        start = len(self.words)
        if not where.town:
            self.words.append(THE)
        self.words.extend(where.words)
        self.mentions.append(Mention(start, len(self.words), where, False))

    def be(self, what: Thing) -> Word:
        return WAS if what.count == 1 else WERE


PASSIVE = chance(0.12)
