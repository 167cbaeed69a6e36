"""Metrics of classes and numbers: by their formulas, by scikit-learn and scipy, and where those have no answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
from scipy import stats

from cloze.errors import Refusal
from cloze.scoring import METRICS, score


def draws(seed: int, classes: int, size: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Gold classes, and predictions that are right about half of the time."""
    random = np.random.default_rng(seed)
    gold = random.integers(0, classes, size)
    return np.where(random.random(size) < 0.5, gold, random.integers(0, classes, size)), gold


@pytest.mark.parametrize("seed", range(5))
def test_metrics_of_classes_follow_their_formulas_and_scikit_learn(seed: int) -> None:
    predictions, gold = draws(seed, 2)
    pairs = list(zip(predictions.tolist(), gold.tolist(), strict=True))
    tp, tn, fp, fn = (pairs.count(pair) for pair in ((1, 1), (0, 0), (1, 0), (0, 1)))
    found = score(("accuracy", "f1", "f1_a", "matthews", "f1_macro"), predictions, gold)
    assert list(found) == ["accuracy", "f1", "f1_a", "matthews", "f1_macro"]
    positive, negative = 2 * tp / (2 * tp + fp + fn), 2 * tn / (2 * tn + fp + fn)
    assert found["accuracy"] == pytest.approx((tp + tn) / 60)
    assert found["f1"] == found["f1_a"] == pytest.approx(positive)
    assert found["f1_macro"] == pytest.approx((positive + negative) / 2)
    root = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert found["matthews"] == pytest.approx((tp * tn - fp * fn) / root)

    predictions, gold = draws(seed, 3)
    found = score(("accuracy", "matthews", "f1_macro"), predictions, gold)
    assert found == {
        "accuracy": pytest.approx(sklearn.metrics.accuracy_score(gold, predictions)),
        "matthews": pytest.approx(sklearn.metrics.matthews_corrcoef(gold, predictions)),
        "f1_macro": pytest.approx(sklearn.metrics.f1_score(gold, predictions, average="macro")),
    }


@pytest.mark.parametrize("seed", range(5))
def test_correlations_are_scipys_and_ties_share_their_ranks(seed: int) -> None:
    random = np.random.default_rng(seed)
    gold = random.integers(0, 6, 50).astype(float)  # STS-B has many ties
    predictions = np.round(gold + random.normal(size=50), 1)
    found = score(("pearson", "spearman"), predictions, gold)
    assert found["pearson"] == pytest.approx(np.corrcoef(predictions, gold)[0, 1])
    ranks = [stats.rankdata(each) for each in (predictions, gold)]
    assert found["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert found["spearman"] == pytest.approx(stats.spearmanr(predictions, gold).statistic)


def test_a_question_counts_when_all_its_answers_are_right() -> None:
    gold = [1, 0, 1, 1, 0, 0]
    predictions = [1, 0, 1, 0, 0, 0]
    groups = ["q1", "q1", "q2", "q2", "q3", "q1"]  # groups need not lie together
    found = score(("exact_match", "f1_a"), predictions, gold, groups)
    assert found == {"exact_match": pytest.approx(2 / 3), "f1_a": pytest.approx(2 * 2 / (2 * 2 + 1))}
    with pytest.raises(ValueError, match="no groups"):
        score(("exact_match",), predictions, gold)


@pytest.mark.parametrize("predictions", ([3.0, 3.0, 3.0, 3.0], [1.0, math.nan, 2.0, 3.0]))
def test_correlation_is_0_where_it_is_not_defined(predictions: list[float]) -> None:
    assert score(("pearson", "spearman"), predictions, [1.0, 2.0, 3.0, 5.0]) == {"pearson": 0.0, "spearman": 0.0}


def test_what_is_constant_or_never_positive_scores_0() -> None:
    assert score(("matthews", "f1"), [0, 0, 0], [0, 1, 0]) == {"matthews": 0.0, "f1": 0.0}
    assert score(("matthews", "f1"), [0, 0, 0], [0, 0, 0]) == {"matthews": 0.0, "f1": 0.0}
    assert score(("matthews",), [1, 1, 1], [0, 1, 0]) == {"matthews": 0.0}
    assert score(("pearson", "spearman"), [1.0], [2.0]) == {"pearson": 0.0, "spearman": 0.0}


def test_what_cannot_be_scored_is_told() -> None:
    with pytest.raises(
        Refusal, match=r"acuracy is not a metric; did you mean accuracy\? Accepted: accuracy, exact_match"
    ):
        score(("acuracy",), [1], [1])
    for predictions, gold in (([], []), ([1], [1, 0]), ([0.5], [1])):
        with pytest.raises(ValueError, match=r"nothing|same length|whole"):
            score(("accuracy",), predictions, gold)
    with pytest.raises(ValueError, match="gold value"):
        score(("pearson",), [1.0, 2.0], [1.0, math.nan])


def test_right_predictions_score_1_by_every_metric() -> None:
    gold = [0, 1, 1, 0]
    assert score(METRICS, gold, gold, groups="aabb") == {name: pytest.approx(1.0) for name in METRICS}
