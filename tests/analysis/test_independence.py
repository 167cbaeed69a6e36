"""Two words that depend on each other: a permutation language model says how probable they are together, no product can."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cloze.analysis.independence import FIRSTS, NAMES, SECONDS, WORDS, Lesson, measure, table, text


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    return measure()


def entropy(shares: list[float]) -> float:
    return -sum(p * math.log(p) for p in shares if p)


def test_the_text_is_what_is_said_of_it() -> None:
    corpus = text(20_000, seed=3)
    rows = corpus.tokens.reshape(-1, 7)
    words = [(WORDS[a], WORDS[b]) for a, b in rows[:, 3:5]]
    for pair, share in NAMES.items():
        assert words.count(pair) / len(words) == pytest.approx(share, abs=0.02)
    assert set(words) == set(NAMES)


def test_the_permutation_model_knows_both_words_together_in_either_order(lesson: Lesson) -> None:
    for joint in (lesson.forward, lesson.backward):
        for pair, share in lesson.truth.items():
            assert joint[pair] == pytest.approx(share, abs=0.1), pair
        assert lesson.nats(joint) <= entropy(list(NAMES.values())) + 0.08
        # p(new, york) is not p(new) * p(york)
        new = sum(joint["new", second] for second in SECONDS)
        york = sum(joint[first, "york"] for first in FIRSTS)
        assert joint["new", "york"] > 1.5 * new * york


def test_the_masked_model_cannot_though_it_knows_one_word_from_the_other(lesson: Lesson) -> None:
    assert lesson.conditional["new", "york"] == pytest.approx(0.7, abs=0.1)
    assert lesson.conditional["new", "francisco"] < 0.03
    for pair, share in lesson.product.items():
        assert lesson.masked[pair] == pytest.approx(share, abs=0.1), pair
    assert lesson.masked["new", "francisco"] > 0.08 and lesson.truth["new", "francisco"] == 0
    # what it misses is the information that the words have of each other
    shared = lesson.nats(lesson.product) - entropy(list(NAMES.values()))
    assert shared == pytest.approx(entropy([0.5, 0.5]), abs=1e-9)
    assert lesson.nats(lesson.masked) >= lesson.nats(lesson.product) - 1e-3
    assert lesson.nats(lesson.masked) - lesson.nats(lesson.forward) >= shared - 0.1


def test_no_product_is_better_than_that_of_the_texts_own_words(lesson: Lesson) -> None:
    generator = np.random.default_rng(0)
    for _ in range(500):
        first = dict(zip(FIRSTS, generator.dirichlet([3.0] * len(FIRSTS)), strict=True))
        second = dict(zip(SECONDS, generator.dirichlet([3.0] * len(SECONDS)), strict=True))
        joint = {(a, b): first[a] * second[b] for a in FIRSTS for b in SECONDS}
        assert lesson.nats(joint) >= lesson.nats(lesson.product)


def test_the_table_has_every_pair(lesson: Lesson) -> None:
    made = table(lesson)
    assert made.row_count == len(FIRSTS) * len(SECONDS) + 1
    assert "san francisco" in list(made.columns[0].cells)
