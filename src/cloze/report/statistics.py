"""Statistics over seeds, on plain arrays: nothing here knows of runs. Tests and distributions are scipy's.

docs/statistics.md says for every number what it means. All tests are two-sided, all intervals cover 95 %.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special
from scipy import stats as _stats

from cloze.report import LEVEL

stats: Any = _stats  # it has types for a part of its names only

POWER = 0.8  # that `detectable` speaks of
RESAMPLES = 9_999  # of the bootstrap, and of a permutation test that has more than these
BCA_FROM = 5  # fewer values have too few distinct resamples for the bias correction

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Values of several seeds: mean, sample deviation (n - 1), Student's interval of the mean; None where n is 1."""

    n: int
    mean: float
    deviation: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Contrast:
    """What tells two sets of values apart. `error` is the standard error of `mean` with `freedom` degrees of freedom, `unit` the deviation
    that `effect` is in. None of the tests is there (all None) where n is 1, the values do not vary or `deviation` is infinite."""

    n: int
    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    p: float | None
    freedom: float | None
    error: float | None
    effect: float | None
    bootstrap: tuple[float, float] | None
    p_permutation: float | None
    p_reachable: float | None


def spread(values: Sequence[float]) -> Spread:
    """One arm's figure over its seeds."""
    x = np.asarray(values, float)
    n, mean = len(x), float(x.mean())
    if n < 2:
        return Spread(n, mean, None, None, None)
    with np.errstate(over="ignore"):
        deviation = 0.0 if constant(x) else float(x.std(ddof=1))
    if not math.isfinite(deviation):  # the square of a perplexity of 1e200
        return Spread(n, mean, None, None, None)
    half = float(stats.t.isf(0.025, n - 1)) * deviation / math.sqrt(n)
    return Spread(n, mean, deviation, mean - half, mean + half)


def constant(values: Array, scale: float | None = None) -> bool:
    """Whether values differ by no more than rounding. `scale`: the size of the numbers whose differences they are."""
    largest = float(np.abs(values).max()) if scale is None else scale
    return float(np.ptp(values)) <= 1e-12 * max(largest, 1e-300)


def paired(arm: Sequence[float], baseline: Sequence[float]) -> Contrast:
    """Arm less baseline where value i of both is of the same seed: Student's t-test of the differences.

    It takes the differences as draws of one normal distribution. The bootstrap interval and the exact sign-flip test do not, but with few
    seeds the first is too narrow and the second cannot come below 2 / 2^n; they are shown and nothing is claimed by them.
    """
    a, b = np.asarray(arm, float), np.asarray(baseline, float)
    d = a - b
    n, mean = len(d), float(d.mean())
    if n < 2:
        return Contrast(n, mean, *[None] * 10)
    scale = float(max(np.abs(a).max(), np.abs(b).max()))
    if constant(d, scale):
        mean = 0.0 if abs(mean) <= 1e-12 * scale else mean
        return Contrast(n, mean, 0.0, *[None] * 9)
    with np.errstate(over="ignore"):
        deviation = float(d.std(ddof=1))
    if not math.isfinite(deviation):
        return Contrast(n, mean, math.inf, *[None] * 9)
    found = stats.ttest_1samp(d, 0.0)
    interval = found.confidence_interval(0.95)
    return Contrast(
        n=n,
        mean=mean,
        deviation=deviation,
        low=float(interval.low),
        high=float(interval.high),
        p=float(found.pvalue),
        freedom=n - 1.0,
        error=deviation / math.sqrt(n),
        effect=_standardised(mean, deviation, n - 1),
        bootstrap=_bootstrap((d,)),
        p_permutation=_permutation((d,), 2**n),
        p_reachable=_reachable(2**n),
    )


def unpaired(arm: Sequence[float], baseline: Sequence[float]) -> Contrast:
    """Arm less baseline where the seeds are others: Welch's t-test, which takes both as normal and lets their deviations differ.

    `deviation`, the unit of `effect` (Hedges' g), is the root of the two variances' mean weighted by their degrees of freedom; n is the
    smaller of the two.
    """
    a, b = np.asarray(arm, float), np.asarray(baseline, float)
    n, mean = min(len(a), len(b)), float(a.mean() - b.mean())
    if n < 2:
        return Contrast(n, mean, *[None] * 10)
    if constant(a) and constant(b):
        mean = 0.0 if abs(mean) <= 1e-12 * max(abs(a[0]), abs(b[0])) else mean
        return Contrast(n, mean, 0.0, *[None] * 9)
    both = len(a) + len(b) - 2
    with np.errstate(over="ignore"):
        pooled = math.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / both)
    if not math.isfinite(pooled):
        return Contrast(n, mean, math.inf, *[None] * 9)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Precision loss"
        )  # where one of them does not vary, which Welch's test allows
        found = stats.ttest_ind(a, b, equal_var=False)
    interval = found.confidence_interval(0.95)
    ways = math.comb(len(a) + len(b), len(a))
    return Contrast(
        n=n,
        mean=mean,
        deviation=pooled,
        low=float(interval.low),
        high=float(interval.high),
        p=float(found.pvalue),
        freedom=float(found.df),
        error=math.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)),
        effect=_standardised(mean, pooled, both),
        bootstrap=_bootstrap((a, b)),
        p_permutation=_permutation((a, b), ways),
        p_reachable=_reachable(ways),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (https://www.jstor.org/stable/4615733) over a family of comparisons, in the order given: the chance that
    any of them without a true difference comes below a level is at most that level."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return [float(each) for each in corrected]


def small_sample(freedom: float) -> float:
    """Hedges' exact factor, which takes away the bias of a standardised difference
    (https://doi.org/10.3102/10769986006002107, equation 6e). It is defined from two degrees of freedom on."""
    return math.exp(special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2) - 0.5 * math.log(freedom / 2))


def power(difference: float, error: float, freedom: float, level: float = LEVEL) -> float:
    """How often a t-test claims a true `difference` whose estimate has the standard error `error`: from the noncentral t distribution."""
    bound = stats.t.isf(level / 2, freedom)
    shift = abs(difference) / error
    # scipy's lower tail is nan where it is too small to tell from nothing
    return float(stats.nct.sf(bound, freedom, shift) + np.nan_to_num(stats.nct.cdf(-bound, freedom, shift)))


def detectable(error: float, freedom: float, level: float = LEVEL, wanted: float = POWER) -> float:
    """The smallest true difference that is claimed at `level` with the power `wanted`. statsmodels' `solve_power` stops short where n is 2
    or 3 and the level small, so the root is found here."""
    return error * _detectable(freedom, level, wanted)


@lru_cache(maxsize=1024)
def _detectable(freedom: float, level: float, wanted: float) -> float:
    """In standard errors: the same for all figures over so many seeds."""
    upper = 1.0
    while power(upper, 1.0, freedom, level) < wanted:
        upper *= 2
    return float(optimize.brentq(lambda shift: power(shift, 1.0, freedom, level) - wanted, 0.0, upper))  # type: ignore[no-untyped-call]


def _standardised(mean: float, deviation: float, freedom: float) -> float | None:
    """None of two seeds: there the expectation of a standardised difference does not exist."""
    return small_sample(freedom) * mean / deviation if freedom >= 2 else None


def _reachable(ways: int) -> float:
    """The smallest p of a two-sided permutation test with so many permutations, of which `RESAMPLES` at most are looked at."""
    return min(1.0, 2 / ways if ways <= RESAMPLES else 2 / (RESAMPLES + 1))


def _mean_difference(*samples: Array, axis: int = -1) -> Array:
    means = [each.mean(axis=axis) for each in samples]
    return np.asarray(means[0] - means[1] if len(means) == 2 else means[0])


def _bootstrap(samples: tuple[Array, ...]) -> tuple[float, float] | None:
    """The interval of the mean, or of the difference of two means. The resamples are always the same ones."""
    method = "BCa" if min(len(each) for each in samples) >= BCA_FROM else "percentile"
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # degenerate resamples: the nan that they give is dealt with here
        for each in dict.fromkeys((method, "percentile")):
            found = stats.bootstrap(
                samples, _mean_difference, n_resamples=RESAMPLES, method=each, rng=np.random.default_rng(0)
            ).confidence_interval
            if math.isfinite(found.low) and math.isfinite(found.high):
                return float(found.low), float(found.high)
    return None


def _permutation(samples: tuple[Array, ...], ways: int) -> float:
    """Sign flips of one sample, or exchanges between two: all where there are no more than `RESAMPLES`, else so many drawn ones."""
    found = stats.permutation_test(
        samples,
        _mean_difference,
        permutation_type="samples" if len(samples) == 1 else "independent",
        vectorized=True,
        n_resamples=np.inf if ways <= RESAMPLES else RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)
