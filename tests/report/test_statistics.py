"""Statistics over seeds, held against closed forms, brute force, simulation and statsmodels."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from cloze.report import statistics

A = [0.71, 0.74, 0.69, 0.75, 0.73]
B = [0.70, 0.71, 0.69, 0.70, 0.72]


def test_a_spread_is_students() -> None:
    found = statistics.spread(A)
    mean, deviation = sum(A) / 5, math.sqrt(sum((x - sum(A) / 5) ** 2 for x in A) / 4)
    assert found.mean == pytest.approx(mean) and found.deviation == pytest.approx(deviation)
    half = (
        2.7764451051977987 * deviation / math.sqrt(5)
    )  # t's 97.5 % point at 4 degrees of freedom, from a printed table
    assert (found.low, found.high) == (pytest.approx(mean - half), pytest.approx(mean + half))
    one = statistics.spread([0.5])
    assert (one.n, one.mean, one.deviation, one.low, one.high) == (1, 0.5, None, None, None)


def test_paired_differences_are_a_t_test_of_one_sample() -> None:
    found = statistics.paired(A, B)
    d = np.subtract(A, B)
    t = d.mean() / (d.std(ddof=1) / math.sqrt(5))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), 4))
    half = 2.7764451051977987 * d.std(ddof=1) / math.sqrt(5)
    assert (found.low, found.high) == (pytest.approx(d.mean() - half), pytest.approx(d.mean() + half))
    assert found.mean == pytest.approx(d.mean()) and found.deviation == pytest.approx(d.std(ddof=1))
    factor = math.gamma(2) / (math.sqrt(2) * math.gamma(1.5))
    assert found.effect == pytest.approx(factor * d.mean() / d.std(ddof=1))


def test_unpaired_is_welchs() -> None:
    a, b = A, B[:3]
    va, vb = np.var(a, ddof=1) / 5, np.var(b, ddof=1) / 3
    freedom = (va + vb) ** 2 / (va**2 / 4 + vb**2 / 2)
    error = math.sqrt(va + vb)
    t = (np.mean(a) - np.mean(b)) / error
    found = statistics.unpaired(a, b)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), freedom))
    assert found.freedom == pytest.approx(freedom) and found.error == pytest.approx(error)
    assert found.high == pytest.approx(found.mean + stats.t.ppf(0.975, freedom) * error)
    assert found.n == 3


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_the_permutation_test_is_all_sign_flips(n: int) -> None:
    a, b = np.random.default_rng(n).normal([[0.4], [0.0]], 1, (2, n))
    d = a - b
    sums = [sum(s * x for s, x in zip(signs, d, strict=True)) for signs in itertools.product((1, -1), repeat=n)]
    more = sum(each >= d.sum() - 1e-12 for each in sums)
    less = sum(each <= d.sum() + 1e-12 for each in sums)
    found = statistics.paired(a, b)
    assert found.p_permutation == pytest.approx(min(1.0, 2 * min(more, less) / 2**n))
    assert found.p_reachable == 2 / 2**n


def test_what_few_seeds_can_reach() -> None:
    found = statistics.paired([1.0, 1.1, 1.3], [0.0, 0.05, 0.1])
    assert found.p_permutation == found.p_reachable == 0.25
    apart = statistics.unpaired([1.0, 1.1, 1.3], [0.0, 0.05, 0.1])
    assert apart.p_permutation == pytest.approx(2 / 20) and apart.p_reachable == pytest.approx(2 / 20)


def test_the_bootstrap_resamples_the_differences_and_is_the_same_every_time() -> None:
    found = statistics.paired(A[:4], B[:4]).bootstrap
    assert found == statistics.paired(A[:4], B[:4]).bootstrap and found is not None
    d = np.subtract(A[:4], B[:4])
    means = np.sort([np.mean(each) for each in itertools.product(d, repeat=4)])  # all 256 resamples
    low, high = np.quantile(means, [0.025, 0.975])
    assert found[0] == pytest.approx(low, abs=0.004) and found[1] == pytest.approx(high, abs=0.004)
    assert d.min() <= found[0] < d.mean() < found[1] <= d.max()


def test_the_bootstrap_corrects_its_bias_from_five_on() -> None:
    d = np.asarray([0.1, 0.2, 0.2, 0.3, 2.0, 0.1])
    ours = statistics.paired(d, np.zeros(6)).bootstrap
    percentile = stats.bootstrap((d,), np.mean, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    assert ours is not None and ours[1] > percentile.high + 0.05  # skewed: the corrected interval reaches further


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_holm_is_statsmodels(n: int) -> None:
    p = [*np.random.default_rng(n).uniform(0, 0.2, n), 0.01, 0.01]  # with ties
    np.testing.assert_allclose(statistics.holm(p), multipletests(p, method="holm")[1], atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
@pytest.mark.parametrize("effect", [0.3, 1.0, 2.0])
def test_power_is_statsmodels(n: int, effect: float) -> None:
    theirs = TTestPower().power(effect, n, 0.05)
    assert statistics.power(effect, 1 / math.sqrt(n), n - 1) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize(("n", "level"), [(2, 0.0125), (3, 0.05), (3, 0.005), (5, 0.05), (10, 0.0125)])
def test_the_detectable_difference_is_found_so_often(n: int, level: float) -> None:
    found = statistics.detectable(2 / math.sqrt(n), n - 1, level)
    draws = np.random.default_rng(n).normal(found, 2, (40_000, n))
    claimed = np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < level)
    assert claimed == pytest.approx(0.8, abs=0.008)  # four standard errors
    assert statistics.power(found, 2 / math.sqrt(n), n - 1, level) == pytest.approx(0.8)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_effect_is_unbiased(n: int) -> None:
    draws = np.random.default_rng(n).normal(0.8, 1, (200_000, n))
    standardised = draws.mean(axis=1) / draws.std(axis=1, ddof=1)
    corrected = statistics.small_sample(n - 1) * standardised
    assert corrected.mean() == pytest.approx(0.8, abs=0.03 if n == 3 else 0.01)
    assert abs(standardised.mean() - 0.8) > abs(corrected.mean() - 0.8)
    assert statistics.small_sample(50) == pytest.approx(1 - 3 / (4 * 50 - 1), abs=1e-4)  # the usual approximation


def test_many_seeds_are_flipped_at_random() -> None:
    d = np.random.default_rng(0).normal(3, 1, 20)
    found = statistics.paired(d, np.zeros(20))
    assert found.p_permutation == found.p_reachable == pytest.approx(2 / 10_000)


def test_two_seeds_have_no_effect_size() -> None:
    found = statistics.paired([0.7, 0.8], [0.5, 0.5])
    assert found.effect is None and found.p is not None


def test_one_seed_has_no_test() -> None:
    for found in (statistics.paired([0.7], [0.5]), statistics.unpaired([0.7], [0.5, 0.6])):
        assert found.n == 1 and found.p is None and found.low is None and found.bootstrap is None


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_values_that_do_not_vary_have_no_test(shift: float) -> None:
    base = [0.1, 0.2, 0.3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for found in (
            statistics.paired([x + shift for x in base], base),  # differs by rounding: 0.1 + 0.1 - 0.1 and so on
            statistics.unpaired([0.3 + shift] * 3, [0.3] * 3),
        ):
            assert found.mean == pytest.approx(shift) and found.deviation == 0.0
            assert (found.mean == 0.0) == (shift == 0.0)
            assert found.p is None and found.effect is None and found.low is None
        assert statistics.spread([0.3, 0.3, 0.1 + 0.2]).deviation == 0.0


@given(st.integers(2, 6).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 20), min_size=n, max_size=n)] * 2)))
def test_no_figures_break_it(lists: tuple[list[int], list[int]]) -> None:
    a, b = ([x / 20 for x in each] for each in lists)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for found in (statistics.paired(a, b), statistics.unpaired(a, b)):
            assert math.isfinite(found.mean)
            if found.p is not None:
                assert 0 <= found.p <= 1 and found.low is not None and found.high is not None
                assert found.low <= found.mean <= found.high
                assert found.p_permutation is not None and found.p_reachable is not None
                assert found.p_permutation >= min(1.0, found.p_reachable) - 1e-12
                # the interval leaves nothing out exactly where the test says so
                assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


@pytest.mark.parametrize("test", [statistics.paired, statistics.unpaired])
def test_numbers_too_large_to_square_have_no_test(test: Any) -> None:
    found = test([1e200, 3e200, 2e200], [1e199, 4e200, 1e200])
    assert found.deviation == math.inf and found.p is None and found.low is None
    spread = statistics.spread([1e200, 3e200])
    assert spread.mean == 2e200 and spread.deviation is None and spread.low is None
