"""How figures read."""

from __future__ import annotations

import math

import pytest

from cloze.report import words
from cloze.report.comparison import Absent, Arm, Metric, Summary
from cloze.report.metrics import described


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.8124, 3, "0.812"), (-0.3, 1, "−0.3"), (-0.0004, 2, "0.00"), (12345.6, 0, "12,346"), (None, 2, "–"),
        (math.nan, 2, "–"), (math.inf, 2, "–"), (-4.2e12, 3, "−4.20e12"), (1.5e-9, 6, "1.50e-9"), (1.5e-9, 2, "0.00"), (0.0, 6, "0.000000"),
    ],
)  # fmt: skip
def test_numbers(value: float | None, digits: int, text: str) -> None:
    assert words.number(value, digits) == text


@pytest.mark.parametrize(
    ("sizes", "digits"),
    [([0.0123], 3), ([0.1], 2), ([0.12, 0.0034], 4), ([1.4], 1), ([57.0], 0), ([None, 0.0], 3), ([1e-12], 6)],
)
def test_digits_go_by_what_is_uncertain(sizes: list[float | None], digits: int) -> None:
    assert words.decimals(*sizes) == digits


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0004, "p<0.001"), (0.001, "p=0.001"), (0.0341, "p=0.034"), (0.584, "p=0.58"), (1.0, "p=1.00"), (None, "–")],
)
def test_p_values(p: float | None, text: str) -> None:
    assert words.p_value(p) == text


def test_a_p_never_reads_as_if_it_were_on_the_other_side_of_the_level() -> None:
    assert words.p_value(0.0499) == "p=0.0499" and words.p_value(0.0501) == "p=0.0501"
    assert words.p_value(0.0494) == "p=0.049"
    assert words.p_value(0.049999) == "p=0.049999" and words.p_value(0.05004) == "p=0.05004"


def test_signs_and_spreads() -> None:
    assert [words.signed(x, 1) for x in (0.21, -0.21, 0.0)] == ["+0.2", "−0.2", "+0.0"]
    assert words.figure(Summary({1: 0.8123}, 0.8123, None, None, None)) == "0.812"
    assert words.figure(Summary({1: 0.8, 2: 0.82}, 0.81, 0.0141, 0.7, 0.9)) == "0.810 ± 0.014"
    assert words.figure(Summary({1: 2.0, 2: 2.0002}, 2.0001, 0.00014, 1.9, 2.1), 2) == "2.00 ± 0.0001"
    assert words.figure(None) == words.change(None) == "–"


def test_absences_of_one_reason_are_one_sentence() -> None:
    arm = Arm("sop", [], {}, [Absent(1, "failed", "killed"), Absent(2, "failed", "killed"), Absent(3, "missing")])
    assert words.absences([arm]) == ["sop, seeds 1, 2: failed (killed)", "sop, seed 3: missing"]


@pytest.mark.parametrize(
    ("key", "title", "higher"),
    [
        ("val/loss", "validation loss", False), ("val/loss_mlm", "validation loss (mlm)", False),
        ("val/bits_per_byte", "validation bits per byte", False), ("val/pair_accuracy", "validation pair accuracy", True),
        ("val/accuracy_left_to_right", "validation accuracy left to right", True), ("judge/sop_head_accuracy", "sop head accuracy", True),
        ("mrpc:score/validation/f1", "mrpc validation F1", True), ("train/gradient_norm", "training gradient norm", None),
        ("val/perplexity_per_word", "validation perplexity per word", False), ("val/oddity", "validation oddity", None),
    ],
)  # fmt: skip
def test_what_figures_are_called(key: str, title: str, higher: bool | None) -> None:
    metric = described(key)
    assert (metric.key, metric.title, metric.higher_is_better) == (key, title, higher)


def test_a_metric_without_a_good_side_is_higher_or_lower() -> None:
    assert words.direction(Metric("k", "k", None), 1.0) == "higher"
    assert words.direction(Metric("k", "k", None), -1.0) == "lower"
    assert words.direction(Metric("k", "k", False), -1.0) == "better"
