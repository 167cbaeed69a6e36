"""The benchmark of false claims: which runs make a study, and what counts as a claim."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import calibration
from tests.report.folders import write_run


def test_studies_that_share_no_run() -> None:
    runs = np.arange(26.0).reshape(13, 2)
    found = list(calibration.studies(runs, arms=2, n=3, at_random=0))
    assert [each.shape for each in found] == [(2, 3, 2)] * 2
    assert len(np.unique(np.stack(found))) == 24
    divided = list(calibration.studies(runs, arms=2, n=3, at_random=5))
    assert len(divided) == 5 and all(len(np.unique(each)) == 12 for each in divided)
    assert list(calibration.studies(runs, arms=5, n=3, at_random=5)) == []


@pytest.mark.parametrize("paired", [True, False])
def test_a_claim_is_the_verdicts(paired: bool) -> None:
    figures = calibration.drawn(np.random.default_rng(1), arms=5, n=5, paired=paired)
    assert calibration.claims(figures, paired) == [False, False]
    figures[3, :, 0] += 0.5
    assert calibration.claims(figures, paired) == [True, False]
    figures[:, :, 1] = 2.0  # the same in every run
    assert calibration.claims(figures, paired) == [True, False]


def test_runs_are_read_by_seed_and_others_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "FOLDER", tmp_path)
    for seed in (10, 2):
        figures = {"val/accuracy": seed / 10, "val/loss": 1.0}
        write_run(tmp_path / f"seed-{seed}", seed, figures, words=calibration.WORDS)
    np.testing.assert_allclose(calibration.real(), [[0.2, 1.0], [1.0, 1.0]])
    assert calibration._is_done(2) and not calibration._is_done(3)
    record = json.loads((tmp_path / "seed-2" / "run.json").read_text(encoding="utf-8"))
    (tmp_path / "seed-2" / "run.json").write_text(json.dumps(record | {"provenance": {"words": ["model.layers=2"]}}))
    with pytest.raises(SystemExit, match="is a run of other words"):
        calibration._is_done(2)
