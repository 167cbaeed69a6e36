"""What is selected and what replaces it: counts, shares and distributions, against brute force and chi-square tests."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from cloze.data import keyed
from cloze.objectives import corruption

UNITS: list[corruption.Unit] = ["token", "whole_word", "ngram", "span"]
DISTRIBUTIONS = {"ngram": corruption.ngram_distribution(), "span": corruption.span_distribution()}


class Batch:
    """Random sequences with a candidate-free token at both ends and here and there inside, as special tokens are."""

    def __init__(self, count: int, longest: int, seed: int = 0, shortest: int = 3) -> None:
        generator = np.random.default_rng(seed)
        self.lengths = generator.integers(shortest, longest + 1, count)
        total = int(self.lengths.sum())
        self.starts = corruption.beginnings(self.lengths)
        self.candidates = generator.random(total) > 0.02
        self.candidates[self.starts] = False
        self.candidates[self.starts + self.lengths - 1] = False
        self.word_starts = generator.random(total) < 0.7
        self.keys = keyed.keys(keyed.key(seed, "test"), np.arange(count))

    def select(self, unit: corruption.Unit, counts: NDArray[np.int64]) -> corruption.Selection:
        return corruption.select(
            unit, self.candidates, self.word_starts, self.lengths, counts, self.keys, DISTRIBUTIONS.get(unit)
        )

    def part(self, which: NDArray[np.int64]) -> Batch:
        """Some of the sequences, in another order."""
        part = object.__new__(Batch)
        places = corruption.ranges(self.starts[which], self.lengths[which])
        part.lengths, part.keys = self.lengths[which], self.keys[which]
        part.starts = corruption.beginnings(part.lengths)
        part.candidates, part.word_starts = self.candidates[places], self.word_starts[places]
        return part

    def words(self, sequence: int) -> list[list[int]]:
        """The places of each word's tokens in a sequence, by a plain loop."""
        found: list[list[int]] = []
        start = int(self.starts[sequence])
        for place in range(start, start + int(self.lengths[sequence])):
            if not self.candidates[place]:
                continue
            if place == start or self.word_starts[place] or not self.candidates[place - 1]:
                found.append([])
            found[-1].append(place)
        return found


def chosen_by_sequence(batch: Batch, selection: corruption.Selection) -> list[NDArray[np.int64]]:
    edges = np.searchsorted(selection.at, batch.starts[1:])
    return np.split(selection.at, edges)


def test_counts_are_berts() -> None:
    lengths = np.arange(1, 513)
    for ratio in (0.15, 0.3, 0.5, 1.0):
        expected = [min(20, max(1, round(n * ratio))) for n in lengths.tolist()]
        assert corruption.target_counts(lengths, ratio, max_predictions=20).tolist() == expected


def test_stochastic_rounding_has_the_exact_mean_and_one_of_two_values() -> None:
    lengths = np.full(40_000, 21)
    keys = keyed.keys(3, np.arange(len(lengths)))
    counts = corruption.target_counts(lengths, 0.15, rounding="stochastic", keys=keys)
    assert set(counts.tolist()) == {3, 4}
    assert stats.binomtest(int((counts == 4).sum()), len(counts), 0.15).pvalue > 1e-3


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("ratio", [0.15, 0.6, 1.0])
def test_candidates_only_and_never_too_many(unit: corruption.Unit, ratio: float) -> None:
    batch = Batch(300, 90)
    counts = corruption.target_counts(batch.lengths, ratio)
    selection = batch.select(unit, counts)
    assert batch.candidates[selection.at].all()
    assert (np.diff(selection.at) > 0).all()
    for sequence, (places, count) in enumerate(zip(chosen_by_sequence(batch, selection), counts.tolist(), strict=True)):
        words = batch.words(sequence)
        available = sum(map(len, words))
        if unit == "token":
            assert len(places) == min(count, available)
        else:
            taken = set(places.tolist())
            assert all(taken.isdisjoint(word) or taken.issuperset(word) for word in words), "part of a word"
            free = [len(word) for word in words if taken.isdisjoint(word)]
            assert len(places) <= count
            assert not free or min(free) > count - len(places), "another word would fit"
        assert selection.left[sequence] == count - len(places)


def test_each_token_is_as_likely_as_any_other() -> None:
    count, length, wanted = 20_000, 12, 3
    lengths = np.full(count, length)
    candidates = np.ones(count * length, bool)
    keys = keyed.keys(11, np.arange(count))
    at = corruption.select_tokens(candidates, lengths, np.full(count, wanted), keys).at
    singles = np.bincount(at % length, minlength=length)
    assert stats.chisquare(singles).pvalue > 1e-3
    rows = (at % length).reshape(count, wanted)
    subsets = np.bincount(rows @ np.array([length**2, length, 1]))
    subsets = subsets[subsets > 0]
    assert len(subsets) == 220  # 12 over 3
    assert stats.chisquare(subsets).pvalue > 1e-3


def test_whole_words_follow_berts_rule_in_the_drawn_order() -> None:
    batch = Batch(200, 60)
    counts = corruption.target_counts(batch.lengths, 0.25)
    selection = batch.select("whole_word", counts)
    chance = keyed.stream(batch.keys, "select")
    for sequence, places in enumerate(chosen_by_sequence(batch, selection)):
        start = int(batch.starts[sequence])
        order = sorted(
            batch.words(sequence),
            key=lambda word: (int(keyed.bits(chance[[sequence]], np.array([word[0] - start]))[0]) >> 36, word[0]),
        )
        expected: list[int] = []
        for word in order:
            if len(expected) + len(word) <= counts[sequence]:
                expected += word
        assert sorted(expected) == places.tolist()


@pytest.mark.parametrize("unit", ["ngram", "span"])
def test_lengths_of_ngrams_and_spans(unit: corruption.Unit) -> None:
    batch = Batch(4000, 200, shortest=100)
    selection = batch.select(unit, corruption.target_counts(batch.lengths, 0.15))
    distribution = DISTRIBUTIONS[unit]
    seen = np.bincount(selection.drawn, minlength=len(distribution) + 1)[1:]
    assert stats.chisquare(seen, distribution * seen.sum()).pvalue > 1e-3


def test_a_span_is_the_words_that_were_drawn() -> None:
    """All words of one token and one span an input: what is selected is exactly as long as what was drawn."""
    count, length = 2000, 80
    lengths = np.full(count, length)
    candidates = np.ones(count * length, bool)
    for unit in ("ngram", "span"):
        keys = keyed.keys(keyed.key(unit), np.arange(count))
        selection = corruption.select(
            unit, candidates, candidates, lengths, np.full(count, 30), keys, DISTRIBUTIONS[unit]
        )
        first = {}
        for place, leader in zip(selection.at.tolist(), selection.leaders.tolist(), strict=True):
            first.setdefault(leader, []).append(place)
        assert all(places == list(range(leader, leader + len(places))) for leader, places in first.items())
        sizes = np.array([len(places) for places in first.values()])
        # only the last span of an input is cut
        assert (sizes.sum(), len(sizes)) == (30 * count, len(selection.drawn))
        whole = np.bincount(selection.drawn, minlength=11) - np.bincount(sizes, minlength=11)
        assert np.abs(whole).sum() <= 2 * count


def test_the_published_distributions() -> None:
    assert np.allclose(corruption.ngram_distribution(), [0.5455, 0.2727, 0.1818], atol=5e-5)
    assert round(float(corruption.ngram_distribution() @ np.arange(1, 4)), 3) == 1.636
    assert round(float(corruption.span_distribution() @ np.arange(1, 11)), 1) == 3.8  # SpanBERT's mean


@pytest.mark.parametrize("unit", UNITS)
def test_a_sequence_does_not_depend_on_its_batch(unit: corruption.Unit) -> None:
    batch = Batch(64, 120)
    counts = corruption.target_counts(batch.lengths, 0.2)
    whole = chosen_by_sequence(batch, batch.select(unit, counts))
    which = np.random.default_rng(1).permutation(64)[:40]
    part = batch.part(which)
    some = chosen_by_sequence(part, part.select(unit, counts[which]))
    for place, sequence in enumerate(which.tolist()):
        assert (some[place] - part.starts[place]).tolist() == (whole[sequence] - batch.starts[sequence]).tolist()
    one = batch.part(np.array([7]))
    assert one.select(unit, counts[[7]]).at.tolist() == (whole[7] - batch.starts[7]).tolist()


def test_batches_too_large_for_one_number_a_token_are_ordered_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch(50, 60)
    counts = corruption.target_counts(batch.lengths, 0.2)
    usual = [batch.select(unit, counts).at.tolist() for unit in UNITS]
    monkeypatch.setattr(corruption, "_SEQUENCE_BITS", 0)
    assert [batch.select(unit, counts).at.tolist() for unit in UNITS] == usual


def all_of(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], corruption.Selection, keyed.Keys]:
    """`count` sequences of ten tokens, all selected."""
    lengths = np.full(count, 10)
    at = np.arange(10 * count)
    selection = corruption.Selection(at, at, np.empty(0, np.int64), np.zeros(count, np.int64))
    return np.full(10 * count, 7), lengths, selection, keyed.keys(5, np.arange(count))


@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.1), (1.0, 0.0, 0.0), (0.0, 0.2, 0.8), (0.0, 0.0, 1.0)])
def test_shares_of_what_replaces_a_token(shares: tuple[float, float, float]) -> None:
    tokens, lengths, selection, keys = all_of(20_000)
    changed, actions = corruption.corrupt(tokens, lengths, selection, keys, 4, shares[0], shares[1], 50)
    seen = np.bincount(actions, minlength=3)
    possible = np.array(shares) > 0
    assert (seen[~possible] == 0).all()
    if possible.sum() > 1:
        assert stats.chisquare(seen[possible], np.array(shares)[possible] * len(tokens)).pvalue > 1e-3
    assert (changed[actions == corruption.MASKED] == 4).all()
    assert (changed[actions == corruption.KEPT] == 7).all()
    assert (tokens == 7).all(), "the given tokens were changed"


def test_random_tokens_are_uniform_over_what_they_are_drawn_from() -> None:
    tokens, lengths, selection, keys = all_of(20_000)
    whole, actions = corruption.corrupt(tokens, lengths, selection, keys, 4, 0.0, 1.0, 50)
    assert (actions == corruption.REPLACED).all()
    assert stats.chisquare(np.bincount(whole, minlength=50)).pvalue > 1e-3
    some, _ = corruption.corrupt(tokens, lengths, selection, keys, 4, 0.0, 1.0, np.arange(5, 50))
    assert some.min() == 5
    assert stats.chisquare(np.bincount(some, minlength=50)[5:]).pvalue > 1e-3


def test_the_tokens_of_a_span_share_their_fate() -> None:
    batch = Batch(200, 120)
    selection = batch.select("span", corruption.target_counts(batch.lengths, 0.3))
    tokens = np.full(int(batch.lengths.sum()), 7)
    _, actions = corruption.corrupt(tokens, batch.lengths, selection, batch.keys, 4, 0.5, 0.3, 50, together=True)
    of_leader = dict(zip(selection.at.tolist(), actions.tolist(), strict=True))
    assert [of_leader[leader] for leader in selection.leaders.tolist()] == actions.tolist()
    assert set(actions.tolist()) == {0, 1, 2}
    _, apart = corruption.corrupt(tokens, batch.lengths, selection, batch.keys, 4, 0.5, 0.3, 50)
    assert [of_leader[leader] for leader in selection.leaders.tolist()] != apart.tolist()
