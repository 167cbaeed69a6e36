"""The reported entropy against exhaustive enumeration: every derivation of a document's text is found by search."""

from __future__ import annotations

import math
from typing import TypeVar

import pytest

from cloze.data.world import World
from cloze.data.world.documents import OrderCue, Story
from cloze.data.world.draws import Draws, Table
from cloze.data.world.grammar import COMMA, capital
from cloze.data.world.lexicon import Word

T = TypeVar("T")


class Pending(Exception):
    """The script of choices is used up, and this table is to be drawn from."""


class Scripted(Draws):
    """Draws what it is told, and stops where nothing is told."""

    def __init__(self, choices: tuple[int, ...]) -> None:
        super().__init__(0)
        self.choices = list(choices)
        self.table: Table[object] | None = None

    def pick(self, table: Table[T]) -> T:
        if table.total in table.weights:
            return table.items[table.weights.index(table.total)]
        if not self.choices:
            self.table = table  # type: ignore[assignment]
            raise Pending
        which = self.choices.pop(0)
        self.cost += table.cost(which)
        return table.items[which]


def so_far(story: Story) -> list[Word]:
    words = [word for sentence in story.sentences for word in sentence.words]
    current = list(story.words)
    if current and story.opener:
        current = [*story.opener, COMMA, *current]
    if current:
        current[0] = capital(current[0])
    return words + current


def derivations(world: World, target: list[Word]) -> list[float]:
    """The costs of all choices of the generator that end in exactly these words, depth first, cut where the words differ."""
    found: list[float] = []
    forms = [word.form for word in target]
    stack: list[tuple[int, ...]] = [()]
    while stack:
        choices = stack.pop()
        draws = Scripted(choices)
        story = None
        try:
            story = Story.__new__(Story)
            story.__init__(world.lexicon, draws, world.style)  # type: ignore[misc]
            document = story.tell()
        except Pending:
            made = [word.form for word in so_far(story)] if hasattr(story, "words") else []
            if made == forms[: len(made)]:
                assert draws.table is not None
                stack += [(*choices, which) for which, weight in enumerate(draws.table.weights) if weight]
            continue
        if [word.form for sentence in document.sentences for word in sentence.words] == forms:
            found.append(document.cost)
    return found


@pytest.mark.parametrize("cue", ["both", "local"])
def test_a_text_has_one_derivation_and_its_cost_is_the_entropy(cue: OrderCue) -> None:
    world = World(topics=3, order_cue=cue)
    documents = sorted((world.annotated(number) for number in range(40)), key=lambda document: len(document.sentences))
    for document in documents[:1]:
        costs = derivations(world, [word for sentence in document.sentences for word in sentence.words])
        assert len(costs) == 1
        assert costs[0] == pytest.approx(document.cost)


def test_entropy_is_the_sum_over_documents_and_over_sentences() -> None:
    world = World(validation_documents=7)
    documents = [world.annotated(number, "validation") for number in range(7)]
    assert world.entropy("validation") == pytest.approx(sum(document.cost for document in documents))
    for document in documents:
        assert sum(sentence.cost for sentence in document.sentences) == pytest.approx(document.cost, abs=3)


def test_costs_are_minus_log_of_the_frequencies() -> None:
    """By drawing: the mean cost of a table is its entropy, and its items come as often as its weights say."""
    table = Table(("x", "y", "z"), (5, 3, 2))
    draws = Draws(7)
    drawn = [draws.pick(table) for _ in range(20_000)]
    for item, weight in zip(table.items, table.weights, strict=True):
        share = weight / 10
        assert abs(drawn.count(item) / 20_000 - share) < 4 * math.sqrt(share * (1 - share) / 20_000)
    assert draws.cost / 20_000 == pytest.approx(-sum(w / 10 * math.log(w / 10) for w in table.weights), abs=0.02)
