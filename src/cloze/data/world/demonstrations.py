"""Lists of solved examples in the corpus, `loaf => loaves`, as text of the web has them: what learning from a context is learnt from.

A list shows one relation: a thing and its plural, a verb and its past, a trade and where it works, a quality and its opposite. Each is
a function: what stands on the left decides what stands on the right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cloze.data.world.documents import Document, Style, tell
from cloze.data.world.draws import Draws, Table, chance
from cloze.data.world.grammar import STOP, Sentence
from cloze.data.world.lexicon import Lexicon, Topic, Word

ARROW = Word("=>", "SYM")
LENGTHS = range(4, 13)

Pair = tuple[tuple[Word, ...], tuple[Word, ...]]


def tell_or_list(lexicon: Lexicon, key: int, list_key: int, style: Style, share: float) -> Document:
    """Document of a key; in `share` of the cases (to a thousandth) a list in its stead, a function of `list_key`."""
    draws = Draws(list_key)
    if draws.pick(chance(share)):
        return list_of(lexicon, draws)
    document = tell(lexicon, key, style)
    return replace(document, cost=document.cost + draws.cost)


def list_of(lexicon: Lexicon, draws: Draws) -> Document:
    """A list: one line, and one sentence, for each of its pairs, all different on the left."""
    relation = draws.pick(Table(tuple(RELATIONS)))
    left = dict(RELATIONS[relation](lexicon))
    count = draws.pick(Table([length for length in LENGTHS if length <= len(left)] or [len(left)]))
    sentences: list[Sentence] = []
    before = 0.0
    for line in range(count):
        one = draws.pick(Table(tuple(left)))
        sentences.append(Sentence([*one, ARROW, *left.pop(one), STOP], [], (), draws.cost - before, line, line))
        before = draws.cost
    return Document(lexicon.topics[0]._replace(name=relation), sentences, (), (), (), draws.cost)


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
