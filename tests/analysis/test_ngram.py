"""Kneser-Ney against a plain account of it in dictionaries, a case worked out by hand, and the sum of all probabilities."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloze.analysis.ngram import KneserNey, _discounts, whole_stream
from cloze.data.base import TokenizedCorpus, Vocabulary
from cloze.errors import Refusal
from tests.objectives.corpora import random_corpus
from tests.objectives.test_clm import stream_of


def plainly(text: list[int], vocabulary: int, order: int, context: tuple[int, ...], word: int) -> float:
    """p(word | context) by the definition, all counts made anew."""
    if len(context) >= order:
        context = context[len(context) - order + 1 :]
    probability = 1 / vocabulary
    for n in range(1, len(context) + 2):
        grams = [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
        counts: Counter[tuple[int, ...]] = Counter(grams)
        if n < order:
            before = defaultdict(set)
            for i in range(1, len(text) - n + 1):
                before[tuple(text[i : i + n])].add(text[i - 1])
            counts = Counter({gram: len(tokens) for gram, tokens in before.items()})
        every = np.array([counts[gram] for gram in set(grams)])
        discounts = _discounts(every)
        history = context[len(context) - n + 1 :]
        behind = {gram[-1]: count for gram, count in counts.items() if gram[:-1] == history}
        total = sum(behind.values())
        if total:
            left = sum(discounts[min(count, 3)] for count in behind.values())
            own = behind.get(word, 0)
            probability = (own - discounts[min(own, 3)]) / total + left / total * probability
    return float(probability)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=5, max_size=40),
    st.lists(st.integers(0, 4), min_size=2, max_size=9),
    st.integers(1, 4),
)
def test_it_is_the_definition(text: list[int], asked: list[int], order: int) -> None:
    nats = KneserNey(np.array(text), 5, order).nats(np.array(asked))
    want = [-math.log(plainly(text, 5, order, tuple(asked[:i]), asked[i])) for i in range(1, len(asked))]
    np.testing.assert_allclose(nats, want, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_sum_to_one(order: int) -> None:
    """After every context of a vocabulary of 4, seen or not; word 3 is never seen."""
    text = np.random.default_rng(0).integers(0, 3, 60)
    model = KneserNey(text, 4, order)
    for context in itertools.product(range(4), repeat=min(order, 4)):
        total = sum(math.exp(-model.nats(np.array([*context, word]))[-1]) for word in range(4))
        assert total == pytest.approx(1, abs=1e-12)


def test_by_hand() -> None:
    """Bigrams of "a b a b a c": after `a`, `b` twice and `c` once."""
    a, b, c = range(3)
    model = KneserNey(np.array([a, b, a, b, a, c]), 4, 2)
    # counts of bigrams: ab 2, ba 2, ac 1: one of them once, two twice, none three times: share = 1 / (1 + 2 * 2) = 0.2
    # discount of 1: 1 - 2 * 0.2 * 2 / 1 = 0.2; of 2: 2 - 3 * 0.2 * 0 / 2 = 2, not below the count: half
    # tokens come after so many different ones: a 1 (b), b 1 (a), c 1 (a): no count of 2, so half is taken of each
    lowest = (1 - 0.5) / 3 + (3 * 0.5) / 3 / 4
    after_a = {b: (2 - 0.5) / 3 + (0.5 + 0.2) / 3 * lowest, c: (1 - 0.2) / 3 + (0.5 + 0.2) / 3 * lowest}
    for word, probability in after_a.items():
        assert math.exp(-model.nats(np.array([a, word]))[0]) == pytest.approx(probability)
    # never seen, and after a context that was never seen: what shorter contexts say
    assert math.exp(-model.nats(np.array([a, 3]))[0]) == pytest.approx((0.5 + 0.2) / 3 * 0.5 / 4)
    assert math.exp(-model.nats(np.array([c, b]))[0]) == pytest.approx(lowest)


def test_discounts_are_those_of_chen_and_goodman() -> None:
    counts = np.repeat([1, 2, 3, 4, 9], [100, 40, 20, 12, 7])
    share = 100 / (100 + 80)
    want = [0, 1 - 2 * share * 40 / 100, 2 - 3 * share * 20 / 40, 3 - 4 * share * 12 / 20]
    np.testing.assert_allclose(_discounts(counts), want)


def test_it_learns_what_there_is_to_learn() -> None:
    """Each word follows from the one before the last, four times in five: two words of context tell it, one does not."""
    generator = np.random.default_rng(1)
    text = generator.integers(0, 8, 20_000)
    for i in range(2, len(text)):
        if generator.random() < 0.8:
            text[i] = (text[i - 2] + 3) % 8
    train, test = text[:15_000], text[15_000:]
    means = [KneserNey(train, 8, order).nats(test).mean() for order in (1, 2, 3, 5)]
    certain = 0.8 + 0.2 / 8
    best = -certain * math.log(certain) - (1 - certain) * math.log(0.2 / 8)
    assert means[0] == pytest.approx(math.log(8), abs=0.01) and means[1] == pytest.approx(math.log(8), abs=0.02)
    assert means[2] == pytest.approx(best, abs=0.05) and means[2] < means[3] < best + 0.3


def test_a_split() -> None:
    corpus = random_corpus(3000)
    corpus = TokenizedCorpus(**{**vars(corpus), "bytes": 9000, "words": 2000})
    vocabulary = Vocabulary(1000, {"eos": 0})
    assert whole_stream(corpus, vocabulary).tolist() == stream_of(corpus)
    model = KneserNey(whole_stream(corpus, vocabulary), 1000, 3)
    found = model.evaluate(corpus, vocabulary)
    nats = model.nats(np.array(stream_of(corpus)))
    assert found.scored == len(corpus.tokens) + len(corpus) == len(nats) and found.nats == pytest.approx(nats.sum())
    assert found.bits_per_byte == pytest.approx(nats.sum() / 9000 / math.log(2))
    assert found.perplexity_per_word == pytest.approx(math.exp(nats.sum() / 2000))


def test_what_it_cannot_be() -> None:
    with pytest.raises(Refusal, match="order=0 must be at least 1"):
        KneserNey(np.arange(5), 5, 0)
    with pytest.raises(Refusal, match="2 tokens has no n-gram of 3"):
        KneserNey(np.arange(2), 5, 3)
