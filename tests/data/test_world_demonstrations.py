"""Lists of solved examples in the corpus: what is right, how many there are, what they cost, and that nothing changes without them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cloze.data.world import World
from cloze.data.world import words as lists
from cloze.data.world.demonstrations import ARROW, RELATIONS, SORTED, list_of, sorting
from cloze.data.world.draws import Draws
from cloze.data.world.lexicon import lexicon
from cloze.data.world.morphology import plural, verb
from cloze.errors import Refusal


def test_the_share_of_lists_and_the_other_documents() -> None:
    plain, mixed = World(), World(demonstrations=0.2)
    listed = 0
    for number in range(600):
        one, other = mixed.annotated(number), plain.annotated(number)
        if one.topic.name in (*RELATIONS, SORTED):
            listed += 1
            assert all((ARROW in sentence.words) == (one.topic.name != SORTED) for sentence in one.sentences)
        else:  # the same story, dearer by saying that it is no list
            assert [s.text for s in one.sentences] == [s.text for s in other.sentences]
            assert one.cost == pytest.approx(other.cost - math.log(0.8))
    assert abs(listed - 120) < 4 * math.sqrt(600 * 0.2 * 0.8)
    assert plain.digest() == World(demonstrations=0.0).digest() != mixed.digest()
    assert World(documents=2, demonstrations=0.2).fingerprint() != World(documents=2).fingerprint()


def test_what_stands_on_the_right_is_right() -> None:
    topics = [[cell.strip() for cell in line.split("|")] for line in lists.TOPICS.strip().splitlines()]
    places = {
        role.replace("_", " "): topic[2].split()[0].replace("_", " ") for topic in topics for role in topic[1].split()
    }
    good, bad = [item.split("/") for item in lists.GOOD], [item.split("/") for item in lists.BAD]
    both = [*zip(good, bad, strict=True), *zip(bad, good, strict=True)]
    contrary = {word: there[at] for here, there in both for at, word in enumerate(here)}
    rule = {"plural": plural, "past": lambda base: verb(base).past, "workplace": places.get, "opposite": contrary.get}
    seen = set()
    for number in range(300):
        document = World(demonstrations=1.0).annotated(number)
        relation = document.topic.name
        seen.add(relation)
        if relation == SORTED:
            continue
        pairs = [sentence.text.removesuffix(".").split(" => ") for sentence in document.sentences]
        assert 4 <= len(pairs) <= 12 and len({left for left, _ in pairs}) == len(pairs)
        for left, right in pairs:
            assert rule[relation](left) == right  # type: ignore[operator]
        assert World(demonstrations=1.0).annotated(number).sentences[0].text == document.sentences[0].text
    assert seen == {*RELATIONS, SORTED}


def test_a_sorted_list_alone_says_which_topic_has_which_colour() -> None:
    colour_of: dict[str, set[str]] = {}
    for number in range(300):
        lines = sorting(lexicon(), Draws(number), 80, topics=3, things=2)
        said = {line.left: line.right for line in lines}
        assert all(said[line.left] == line.right for line in lines), "a thing has one colour in a list"
        assert len(said) == 6 and len(set(said.values())) == 3
        by_colour = {colour: {thing for thing, its in said.items() if its == colour} for colour in said.values()}
        for things in by_colour.values():
            assert any(things <= {noun.one for noun in topic.nouns.items} for topic in lexicon().topics)
        for thing, colour in said.items():
            colour_of.setdefault(thing[-1].form, set()).add(colour[0].form)
    often = [colours for colours in colour_of.values() if len(colours) > 1]
    assert len(often) > 0.8 * len(colour_of), "elsewhere it has another one"


def test_a_world_of_one_topic_sorts_by_one_colour() -> None:
    small = lexicon(1)
    found = [document for key in range(60) if (document := list_of(small, Draws(key))).topic.name == SORTED]
    assert found
    assert all(len({sentence.words[-2] for sentence in document.sentences}) == 1 for document in found)


def test_the_cost_is_that_of_drawing_without_putting_back() -> None:
    for number in range(40):
        document = World(demonstrations=1.0).annotated(number)
        assert sum(sentence.cost for sentence in document.sentences) == pytest.approx(document.cost)
        if document.topic.name == SORTED:
            continue
        size = len(dict(RELATIONS[document.topic.name](lexicon())))
        lines = len(document.sentences)
        expected = math.log(2 * len(RELATIONS)) + math.log(9) + np.log(np.arange(size - lines + 1, size + 1)).sum()
        assert document.cost == pytest.approx(expected)


def test_each_pair_is_a_line_of_the_text() -> None:
    for text in World(10, demonstrations=1.0).records("train"):
        lines = text.text.split("\n")  # type: ignore[attr-defined]
        assert all(line.endswith(".") and (" => " in line) == (" => " in lines[0]) for line in lines)
        assert len(lines) >= 4


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(Refusal, match=r"data\.demonstrations=2"):
        World(demonstrations=2.0)
