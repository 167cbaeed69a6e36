"""How often a comparison claims a difference: where there is none, and where there is one of a known size.

The run folders are as training leaves them; only their figures are drawn. `benchmarks/calibration.py` does the same with real runs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from benchmarks.calibration import drawn
from cloze.report.comparison import Cell, compare
from cloze.report.judge import difference
from tests.report.folders import write_study

SETS = 200
ACCURACY = {"key": "val/accuracy", "title": "accuracy", "higher_is_better": True}
LOSS = {"key": "val/loss", "title": "loss", "higher_is_better": False}
PLAIN = {"objective.arm": "the same in all"}


def cells(folder: Path, figures: NDArray[np.float64], apart: bool) -> list[Cell]:
    """All that `compare` judges of a study with these figures. `apart`: every arm has seeds of its own."""
    arms, n = figures.shape[:2]
    done = {
        f"arm {arm}": {
            seed + (arm * n if apart else 0): {"val/accuracy": float(a), "val/loss": float(b)}
            for seed, (a, b) in enumerate(figures[arm], start=1)
        }
        for arm in range(arms)
    }
    compared = compare(write_study(folder, done, identities=dict.fromkeys(done, PLAIN), metrics=[ACCURACY, LOSS]))
    return [cell for row in compared.cells.values() for cell in row.values() if cell.difference is not None]


def false_claims(folder: Path, arms: int, n: int, apart: bool) -> int:
    """Of 2 × `SETS` families of comparisons without a difference, in how many any is claimed."""
    rng = np.random.default_rng([arms, n, apart])
    count = 0
    for number in range(SETS):
        found = cells(folder / str(number), drawn(rng, arms, n, paired=not apart), apart)
        for key in ("val/accuracy", "val/loss"):
            count += any(cell.verdict.split(" on ")[0].endswith(("better than arm 0", "worse than arm 0"))
                         for cell in found if cell.metric.key == key)  # fmt: skip
    return count


def test_no_difference_is_seldom_claimed(tmp_path: Path) -> None:
    count = false_claims(tmp_path, arms=2, n=3, apart=False)
    assert count / (2 * SETS) <= 0.07
    assert count / (2 * SETS) >= 0.02  # nor is it a test that never says anything


@pytest.mark.slow
@pytest.mark.parametrize(("arms", "n", "apart"), [(2, 5, False), (2, 10, False), (5, 3, False), (2, 3, True)])
def test_no_difference_is_seldom_claimed_of_more(tmp_path: Path, arms: int, n: int, apart: bool) -> None:
    assert false_claims(tmp_path, arms, n, apart) / (2 * SETS) <= 0.07


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("arms", "n", "apart"), [(5, 5, False), (5, 10, False), (2, 5, True), (2, 10, True), (5, 5, True)]
)
def test_no_difference_is_seldom_claimed_of_many(tmp_path: Path, arms: int, n: int, apart: bool) -> None:
    assert false_claims(tmp_path, arms, n, apart) / (2 * SETS) <= 0.07


@pytest.mark.parametrize(("n", "shift"), [(3, 2.5), (5, 1.5), (5, 2.0), (10, 1.0)])
def test_a_planted_difference_is_found_as_often_as_foretold(n: int, shift: float) -> None:
    bound, centre = stats.t.ppf(0.975, n - 1), shift * np.sqrt(n)
    foretold = stats.nct.sf(bound, n - 1, centre) + stats.nct.cdf(-bound, n - 1, centre)
    assert 0.6 < foretold < 0.98
    found, wrong, sets = 0, 0, 500
    rng = np.random.default_rng(n)
    for _ in range(sets):
        seeds = rng.normal(0, 3, n)  # what both arms share does not count: the comparison is paired
        base = dict(enumerate(0.5 + 0.01 * seeds))
        arm = {seed: value + 0.01 * (shift + rng.normal()) for seed, value in base.items()}
        _, contrast = difference(arm, base)
        assert contrast.p is not None
        found += contrast.p < 0.05
        wrong += contrast.p < 0.05 and contrast.mean < 0
    assert stats.binomtest(found, sets, foretold).pvalue > 0.01
    assert wrong == 0


@pytest.mark.exhaustive
def test_a_planted_difference_is_found_in_run_folders_too(tmp_path: Path) -> None:
    """With five arms, of which one differs: found at least as often as at the level that Holm's first step asks for."""
    n, shift, deviation = 5, 0.06, 0.02 * np.sqrt(2)
    foretold = []
    for level in (0.05, 0.05 / 4):
        bound, centre = stats.t.ppf(1 - level / 2, n - 1), shift / deviation * np.sqrt(n)
        foretold.append(stats.nct.sf(bound, n - 1, centre))
    rng = np.random.default_rng(1)
    found = 0
    for number in range(SETS):
        figures = drawn(rng, 5, n, paired=True)
        figures[1, :, 0] += shift
        every = cells(tmp_path / str(number), figures, apart=False)
        found += any(cell.verdict.startswith("arm 1 is better than arm 0 on accuracy") for cell in every)
    error = 2.6 * np.sqrt(foretold[1] * (1 - foretold[1]) / SETS)
    assert foretold[1] - error <= found / SETS <= foretold[0] + error
