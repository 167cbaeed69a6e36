"""What tends to happen: scripts, each a few steps in a fixed order with a precondition on the state of the world.

`a` is whom the document is about, `b` is another person. A script writes one paragraph through a `Story` (documents.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from cloze.data.world.draws import Table, chance
from cloze.data.world.lexicon import repeated
from cloze.data.world.state import Fact, Person

if TYPE_CHECKING:
    from cloze.data.world.documents import Story

OFTEN, EVEN, SELDOM = chance(0.7), chance(0.5), chance(0.3)


def shopping(t: Story, a: Person, b: Person) -> None:
    shop = t.somewhere(0)
    thing = t.new_thing()
    t.event(Fact("want", a, thing), passive=False)
    t.event(Fact("go", a, place=shop))
    if t.draws.pick(EVEN):
        t.say("B was/AUX in/ADP P too/ADV", Fact("at", b, place=shop), B=b, P=shop)
    price = t.price()
    if t.draws.pick(EVEN):
        t.say("T cost/VERB N coins/NOUN", Fact("price", None, thing, value=price), T=thing, N=price)
        t.event(Fact("buy", a, thing, b))
    else:
        t.event(Fact("buy", a, thing, b, value=price))
    t.judge(a, thing)


def repairing(t: Story, a: Person, b: Person) -> None:
    thing = t.held(a, damaged=False)
    t.event(Fact("damage", a, thing))
    t.unhappy(a)
    workshop = t.somewhere(1)
    t.event(Fact("bring", a, thing, place=workshop))
    t.event(Fact("repair", b, thing))
    t.happy(a)
    t.event(Fact("thank", a, other=b))


def giving(t: Story, a: Person, b: Person) -> None:
    t.say("it/PRON was/AUX B:p birthday/NOUN", B=b)
    thing = t.new_thing()
    t.say("A chose/VERB T:o for/ADP B:o", Fact("take", a, thing), A=a, T=thing, B=b)
    if t.draws.pick(EVEN):
        t.event(Fact("wrap", a, thing))
    t.event(Fact("give", a, thing, b))
    t.happy(b)
    t.judge(b, thing)


def losing(t: Story, a: Person, b: Person) -> None:
    thing = t.held(a)
    t.event(Fact("lose", a, thing))
    first = t.somewhere(0)
    t.say("A looked/VERB for/ADP T:o in/ADP P", Fact("seek", a, thing, place=first), A=a, T=thing, P=first)
    t.say("T T:be not/PART there/ADV", T=thing)
    if t.draws.pick(EVEN):
        t.say("A asked/VERB B:o for/ADP help/NOUN", A=a, B=b)
    t.event(Fact("find", b, thing, place=t.somewhere(1)))
    t.event(Fact("return", b, thing, a))
    t.happy(a)


def lending(t: Story, a: Person, b: Person) -> None:
    thing = t.held(a, damaged=False)
    t.say("B asked/VERB A:o for/ADP T:o", Fact("want", b, thing), A=a, B=b, T=thing)
    if t.draws.pick(EVEN):
        t.event(Fact("lend", a, thing, b))
    else:
        t.event(Fact("borrow", b, thing, a))
    t.work(b, thing)
    t.event(Fact("return", b, thing, a))
    t.event(Fact("thank", b, other=a))


def making(t: Story, a: Person, b: Person) -> None:
    thing = t.new_thing()
    room = t.somewhere(0)
    t.say("A found/VERB T:o in/ADP P", Fact("find", a, thing, place=room), Fact("take", a, thing), A=a, T=thing, P=room)
    first = t.work(a, thing)
    t.work(a, thing, other_than=first)
    t.say("T T:be ready/ADJ", T=thing)
    t.event(Fact("show", a, thing, b))
    t.judge(b, thing)


def cleaning(t: Story, a: Person, b: Person) -> None:
    thing = t.held(a)
    if t.draws.pick(EVEN):
        t.event(Fact("soil", b, thing))
    t.say("T T:be very/ADV dirty/ADJ", Fact("dirty", None, thing), Fact("soil", None, thing), T=thing)
    t.event(Fact("clean", a, thing))
    if t.draws.pick(EVEN):
        t.event(Fact("put", a, thing, place=t.somewhere(1)))
    else:
        t.say("A put/VERB T:o back/ADV into/ADP the/DET K", A=a, T=thing, K=t.container(thing))


def painting(t: Story, a: Person, b: Person) -> None:
    thing = t.held(a)
    old = t.state.colour.get(thing)
    if old is not None:
        t.say("A did/AUX not/PART like/VERB the/DET C colour/NOUN of/ADP T:o", A=a, T=thing, C=old)
    else:
        t.say("A did/AUX not/PART like/VERB the/DET colour/NOUN of/ADP T:o", A=a, T=thing)
    fresh = t.colour(old)
    t.say("A painted/VERB T:o C", Fact("paint", a, thing, value=fresh), A=a, T=thing, C=fresh)
    t.say("B liked/VERB the/DET new/ADJ colour/NOUN", B=b)
    t.happy(a)


def contest(t: Story, a: Person, b: Person) -> None:
    hall = t.somewhere(1)
    t.say("there/PRON was/AUX a/DET contest/NOUN in/ADP P", P=hall)
    mine = t.new_thing()
    t.event(Fact("bring", a, mine, place=hall), passive=False)
    yours = t.new_thing()
    t.say("B brought/VERB T:o", Fact("bring", b, yours, place=hall), B=b, T=yours)
    t.evaluate(mine, True)
    t.evaluate(yours, False)
    t.say("A won/VERB the/DET prize/NOUN", A=a)
    t.happy(a)


def journey(t: Story, a: Person, b: Person) -> None:
    town = t.town()
    t.say(
        "A travelled/VERB to/ADP P with/ADP B:o", Fact("go", a, place=town), Fact("go", b, place=town), A=a, B=b, P=town
    )
    days = t.price()
    t.say("they/PRON stayed/VERB there/ADV for/ADP N days/NOUN", N=days) if t.anaphora else t.say(
        "A and/CCONJ B stayed/VERB in/ADP P for/ADP N days/NOUN", A=a, B=b, P=town, N=days
    )
    thing = t.new_thing()
    t.event(Fact("see", a, thing, place=t.somewhere(1)))
    t.say("A took/VERB T:o home/ADV", Fact("take", a, thing), A=a, T=thing)


def lesson(t: Story, a: Person, b: Person) -> None:
    thing = t.new_thing()
    act = t.act()
    t.say("A wanted/VERB to/PART V:base T:o", A=a, V=act, T=thing)
    t.say("B showed/VERB A:o how/ADV to/PART do/VERB it/PRON", B=b, A=a)
    t.event(Fact("work", a, thing, value=act), passive=False)
    t.say("the/DET result/NOUN was/AUX not/PART good/ADJ")
    t.say("so/ADV A V:past T:o again/ADV", Fact("work", a, thing, value=repeated(act)), A=a, V=repeated(act), T=thing)
    t.happy(a)


def trading(t: Story, a: Person, b: Person) -> None:
    mine, yours = t.held(a), t.new_thing()
    t.say("B had/VERB T:o", Fact("has", b, yours), B=b, T=yours)
    t.say("A wanted/VERB to/PART trade/VERB T:d for/ADP U:d", A=a, T=mine, U=yours)
    t.say("B agreed/VERB", B=b)
    t.event(Fact("give", b, yours, a))
    t.event(Fact("give", a, mine, b))
    t.judge(a, yours)


def hiding(t: Story, a: Person, b: Person) -> None:
    thing = t.held(a)
    place = t.somewhere(1)
    t.say("A hid/VERB T:o in/ADP P", Fact("put", a, thing, place=place), A=a, T=thing, P=place)
    t.say("B did/AUX not/PART know/VERB where/ADV T:d T:be", B=b, T=thing)
    t.event(Fact("go", b, place=place))
    t.event(Fact("find", b, thing))
    t.unhappy(a)
    t.event(Fact("take", a, thing))


def selling(t: Story, a: Person, b: Person) -> None:
    thing = t.held(a)
    market = t.somewhere(0)
    t.event(Fact("carry", a, thing, place=market))
    price = t.price()
    t.say("A asked/VERB for/ADP N coins/NOUN", Fact("price", None, thing, value=price), A=a, N=price)
    if t.draws.pick(SELDOM):
        t.say("nobody/PRON wanted/VERB T:o", T=thing)
        t.unhappy(a)
    else:
        t.event(Fact("sell", a, thing, b))
        t.judge(b, thing)


class Script(NamedTuple):
    """`needs` is the precondition: whether the first person must hold something, and whole."""

    tell: Callable[[Story, Person, Person], None]
    holds: bool
    whole: bool
    weight: int

    def possible(self, t: Story, a: Person) -> bool:
        if not self.holds:
            return True
        return bool(t.holdings(a, damaged=False if self.whole else None))


SCRIPTS = (
    Script(shopping, False, False, 6),
    Script(making, False, False, 6),
    Script(losing, True, False, 5),
    Script(repairing, True, True, 5),
    Script(giving, False, False, 4),
    Script(lending, True, True, 4),
    Script(cleaning, True, False, 3),
    Script(trading, True, False, 3),
    Script(painting, True, False, 3),
    Script(journey, False, False, 3),
    Script(lesson, False, False, 3),
    Script(selling, True, False, 2),
    Script(hiding, True, False, 2),
    Script(contest, False, False, 2),
)
TABLES: dict[tuple[Script, ...], Table[Script]] = {}


def table_of(scripts: tuple[Script, ...]) -> Table[Script]:
    if scripts not in TABLES:
        TABLES[scripts] = Table(scripts, [script.weight for script in scripts])
    return TABLES[scripts]
