"""Lists of solved examples in the corpus, `loaf => loaves`, as text of the web has them: what learning from a context is learnt from.

A list shows one relation: a thing and its plural, a verb and its past, a trade and where it works, a quality and its opposite. Each is
a function: what stands on the left decides what stands on the right.

Or it sorts things by colours, `rose red.`, `spade blue.`: the things of a topic have one colour, and which, is drawn for each list.
Nothing but the list says it, so that whoever wants to know has to look there. Half of the lists are of this kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from cloze.data.world.documents import Document, Style, tell
from cloze.data.world.draws import Draws, Table, chance
from cloze.data.world.grammar import STOP, Sentence
from cloze.data.world.lexicon import Lexicon, Topic, Word

ARROW = Word("=>", "SYM")
LENGTHS = range(4, 13)
SORTED = "sorted"
SORTED_LENGTHS = range(8, 25)
TOPICS = range(2, 5)  # of one sorted list
THINGS = range(1, 4)  # of a topic, so that most come more than once

Phrase = tuple[Word, ...]
Pair = tuple[Phrase, Phrase]


class Line(NamedTuple):
    """What stands on both sides of a line's arrow, and what its choices cost."""

    left: Phrase
    right: Phrase
    cost: float


def tell_or_list(lexicon: Lexicon, key: int, list_key: int, style: Style, share: float) -> Document:
    """Document of a key; in `share` of the cases (to a thousandth) a list in its stead, a function of `list_key`."""
    draws = Draws(list_key)
    if draws.pick(chance(share)):
        return list_of(lexicon, draws)
    document = tell(lexicon, key, style)
    return replace(document, cost=document.cost + draws.cost)


def list_of(lexicon: Lexicon, draws: Draws) -> Document:
    """A list: one line, and one sentence, for each of its pairs; all different on the left, where it is no sorted one."""
    relation = draws.pick(Table((*RELATIONS, SORTED), [1] * len(RELATIONS) + [len(RELATIONS)]))
    if relation == SORTED:
        topics = draws.pick(Table([count for count in TOPICS if count <= len(lexicon.topics)] or [1]))
        things, count = draws.pick(Table(THINGS)), draws.pick(Table(SORTED_LENGTHS))
        lines = sorting(lexicon, draws, count, topics, things)
    else:
        lines = _drawn(dict(RELATIONS[relation](lexicon)), draws)
    return _document(lexicon, relation, lines, draws.cost)


def _drawn(left: dict[Phrase, Phrase], draws: Draws) -> list[Line]:
    """Some of the pairs, in any order."""
    count = draws.pick(Table([length for length in LENGTHS if length <= len(left)] or [len(left)]))
    lines: list[Line] = []
    before = 0.0  # the first line's cost holds all that was drawn before
    for _ in range(count):
        one = draws.pick(Table(tuple(left)))
        lines.append(Line(one, left.pop(one), draws.cost - before))
        before = draws.cost
    return lines


def sorting(lexicon: Lexicon, draws: Draws, count: int, topics: int, things: int) -> list[Line]:
    """`count` lines that sort things of so many topics, so many `things` of each, by as many colours. Each line draws a topic and a thing
    of it anew. The first line's cost holds that of choosing topics, things and colours.
    """
    sides: list[tuple[Table[Phrase], Word]] = []
    drawn: list[Topic] = []
    taken: list[Phrase] = []  # a few things belong to more than one topic
    for _ in range(topics):
        drawn.append(draws.pick(Table(lexicon.topics).without(drawn)))
        chosen: list[Phrase] = []
        for _ in range(things):
            nouns = Table([noun.one for noun in drawn[-1].nouns.items])
            chosen.append(draws.pick(nouns.without([*taken, *chosen])))
        taken += chosen
        sides.append((Table(chosen), draws.pick(lexicon.colours.without([colour for _, colour in sides]))))
    lines: list[Line] = []
    before = 0.0
    for _ in range(count):
        held, colour = draws.pick(Table(sides))
        lines.append(Line(draws.pick(held), (colour,), draws.cost - before))
        before = draws.cost
    return lines


def _document(lexicon: Lexicon, name: str, lines: list[Line], cost: float) -> Document:
    between = [] if name == SORTED else [ARROW]
    sentences = [
        Sentence([*line.left, *between, *line.right, STOP], [], (), line.cost, number, number)
        for number, line in enumerate(lines)
    ]
    return Document(lexicon.topics[0]._replace(name=name), sentences, (), (), (), cost)


def _plurals(lexicon: Lexicon) -> list[Pair]:
    return [(noun.one, noun.many) for noun in lexicon.nouns]


def _pasts(lexicon: Lexicon) -> list[Pair]:
    verbs = {form.base: form for topic in lexicon.topics for form in topic.verbs.items}
    return [((Word(verb.base, "VERB"),), (Word(verb.past, "VERB"),)) for verb in verbs.values()]


def _workplaces(lexicon: Lexicon) -> list[Pair]:
    return [((role,), _first(topic)) for topic in lexicon.topics for role in topic.roles.items]


def _first(topic: Topic) -> tuple[Word, ...]:
    return topic.places.items[0]


def _opposites(lexicon: Lexicon) -> list[Pair]:
    """Of each quality, those of the same rank; a synonym's opposite is the rarer word too, where there is one."""
    tables = lexicon.topics[0].good, lexicon.topics[0].bad
    ranks: list[dict[int, list[Word]]] = [{}, {}]
    for found, table in zip(ranks, tables, strict=True):
        for item in table.items:
            found.setdefault(item.rank, []).append(item.word)
    pairs: list[Pair] = []
    for here, there in (ranks, ranks[::-1]):
        for rank, words in here.items():
            if rank in there:
                pairs += [((word,), (there[rank][min(at, len(there[rank]) - 1)],)) for at, word in enumerate(words)]
    return pairs


RELATIONS: dict[str, Callable[[Lexicon], list[Pair]]] = {
    "plural": _plurals,
    "past": _pasts,
    "workplace": _workplaces,
    "opposite": _opposites,
}
