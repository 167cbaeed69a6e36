"""Metrics of predictions and gold, by the names that `Labels.metrics` uses: fractions from 0 (or -1, of a correlation) to 1.

They are scikit-learn's and scipy's, with an answer where those have none:

- nothing to score, lengths that differ, or a gold value that is not a number: ValueError, for that is a fault of the caller;
- predictions that are all alike: Matthews 0, as scikit-learn says, and Pearson and Spearman 0, where scipy says nan. A model that answers
  the same to everything knows nothing of the order, and a nan would poison every mean that it enters;
- a predicted number that is nan: Pearson and Spearman 0, for the same reason;
- no example predicted positive, or none positive: F1 0.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cloze.errors import Refusal, did_you_mean

Groups = Sequence[Hashable]
Metric = Callable[[NDArray[Any], NDArray[Any], Groups | None], float]


def score(
    names: Iterable[str], predictions: ArrayLike, gold: ArrayLike, groups: Groups | None = None
) -> dict[str, float]:
    """The named metrics of predictions (n,) against gold (n,), as fractions, in the order of `names`.

    Both are class numbers, or floats for Pearson and Spearman. `groups` (n,) says what belongs together, for metrics of whole groups
    (MultiRC's answers by question). Raises Refusal for a name that is not there and ValueError for arrays that cannot be scored.
    """
    predicted, right = np.asarray(predictions), np.asarray(gold)
    if predicted.shape != right.shape or right.ndim != 1:
        raise ValueError(f"predictions {predicted.shape} and gold {right.shape} must be rows of the same length")
    if len(right) == 0:
        raise ValueError("there is nothing to score")
    if groups is not None and len(groups) != len(right):
        raise ValueError(f"{len(groups)} groups for {len(right)} examples")
    found = {}
    for name in names:
        if name not in METRICS:
            raise Refusal(f"{name} is not a metric{did_you_mean(name, METRICS)}")
        found[name] = float(METRICS[name](predicted, right, groups))
    return found


def _classes(predictions: NDArray[Any], gold: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    whole = []
    for array in (predictions, gold):
        numbers = array.astype(np.float64)
        if not np.array_equal(numbers, np.trunc(numbers)):
            raise ValueError("classes are whole numbers")
        whole.append(numbers.astype(np.int64))
    return whole[0], whole[1]


def accuracy(predictions: NDArray[Any], gold: NDArray[Any], groups: Groups | None = None) -> float:
    """Share of examples whose class is right."""
    predicted, right = _classes(predictions, gold)
    return float((predicted == right).mean())


def f1(predictions: NDArray[Any], gold: NDArray[Any], groups: Groups | None = None) -> float:
    """Harmonic mean of precision and recall of class 1: GLUE's, and over all answers of all questions MultiRC's F1a."""
    from sklearn.metrics import f1_score

    predicted, right = _classes(predictions, gold)
    return float(f1_score(right == 1, predicted == 1, zero_division=0.0))


def f1_macro(predictions: NDArray[Any], gold: NDArray[Any], groups: Groups | None = None) -> float:
    """F1 of each class that is predicted or right somewhere, averaged without weights: CommitmentBank's."""
    from sklearn.metrics import f1_score

    predicted, right = _classes(predictions, gold)
    return float(f1_score(right, predicted, average="macro", zero_division=0.0))


def matthews(predictions: NDArray[Any], gold: NDArray[Any], groups: Groups | None = None) -> float:
    """Matthews correlation, for two classes or more. https://doi.org/10.1016/0005-2795(75)90109-9"""
    from sklearn.metrics import matthews_corrcoef

    predicted, right = _classes(predictions, gold)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that only one class was seen
        return float(matthews_corrcoef(right, predicted))


def _correlation(name: str, predictions: NDArray[Any], gold: NDArray[Any]) -> float:
    from scipy import stats

    if not np.isfinite(gold.astype(np.float64)).all():
        raise ValueError("a gold value is not a number")
    if len(gold) < 2:
        return 0.0  # scipy refuses one example; one point has no slope
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # that an input is constant: answered below
        found = getattr(stats, name)(predictions.astype(np.float64), gold.astype(np.float64)).statistic
    return 0.0 if math.isnan(found) else float(found)


def pearson(predictions: NDArray[Any], gold: NDArray[Any], groups: Groups | None = None) -> float:
    """Linear correlation; 0 where it is not defined (see the module)."""
    return _correlation("pearsonr", predictions, gold)


def spearman(predictions: NDArray[Any], gold: NDArray[Any], groups: Groups | None = None) -> float:
    """Correlation of the ranks, ties sharing the mean of their ranks; 0 where it is not defined (see the module)."""
    return _correlation("spearmanr", predictions, gold)


def exact_match(predictions: NDArray[Any], gold: NDArray[Any], groups: Groups | None = None) -> float:
    """Share of groups whose every example is right: MultiRC's exact match, a group being a question."""
    if groups is None:
        raise ValueError("exact_match is of groups of examples, and there are no groups")
    predicted, right = _classes(predictions, gold)
    whole: dict[Hashable, bool] = defaultdict(lambda: True)
    for group, same in zip(groups, predicted == right, strict=True):
        whole[group] &= bool(same)
    return sum(whole.values()) / len(whole)


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "f1": f1,
    "f1_macro": f1_macro,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
    "f1_a": f1,
    "exact_match": exact_match,
}
