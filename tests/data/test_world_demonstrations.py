"""Lists of solved examples in the corpus: what is right, how many there are, what they cost, and that nothing changes without them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cloze.data.world import World
from cloze.data.world import words as lists
from cloze.data.world.demonstrations import ARROW, RELATIONS
from cloze.data.world.lexicon import lexicon
from cloze.data.world.morphology import plural, verb
from cloze.errors import Refusal


def test_the_share_of_lists_and_the_other_documents() -> None:
    plain, mixed = World(), World(demonstrations=0.2)
    listed = 0
    for number in range(600):
        one, other = mixed.annotated(number), plain.annotated(number)
        if one.topic.name in RELATIONS:
            listed += 1
            assert all(ARROW in sentence.words for sentence in one.sentences)
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
        pairs = [sentence.text.removesuffix(".").split(" => ") for sentence in document.sentences]
        assert 4 <= len(pairs) <= 12 and len({left for left, _ in pairs}) == len(pairs)
        for left, right in pairs:
            assert rule[relation](left) == right  # type: ignore[operator]
        assert World(demonstrations=1.0).annotated(number).sentences[0].text == document.sentences[0].text
    assert seen == set(RELATIONS)


def test_the_cost_is_that_of_drawing_without_putting_back() -> None:
    for number in range(40):
        document = World(demonstrations=1.0).annotated(number)
        size = len(dict(RELATIONS[document.topic.name](lexicon())))
        lines = len(document.sentences)
        expected = math.log(len(RELATIONS)) + math.log(9) + np.log(np.arange(size - lines + 1, size + 1)).sum()
        assert document.cost == pytest.approx(expected)
        assert sum(sentence.cost for sentence in document.sentences) == pytest.approx(document.cost)


def test_each_pair_is_a_line_of_the_text() -> None:
    text = next(iter(World(1, demonstrations=1.0).records("train"))).text  # type: ignore[attr-defined]
    assert all(" => " in line and line.endswith(".") for line in text.split("\n"))


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(Refusal, match=r"data\.demonstrations=2"):
        World(demonstrations=2.0)
