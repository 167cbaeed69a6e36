"""A comparison's numbers against an independent computation from metrics.jsonl, and its sentences."""

from __future__ import annotations

import json
import math
import statistics as standard
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cloze.errors import Refusal
from cloze.report.comparison import Cell, Comparison, Metric, compare
from tests.report.folders import job, write_run, write_study

ACCURACY = {"key": "val/accuracy", "title": "accuracy", "higher_is_better": True}


def by_hand(files: Mapping[int, Path], key: str) -> dict[int, float]:
    """{seed: the last number of a metric in metrics.jsonl}, without any code of ours."""
    found = {}
    for seed, file in files.items():
        for line in file.read_text(encoding="utf-8").splitlines():
            value = json.loads(line).get(key)
            if isinstance(value, float):
                found[seed] = value
    return found


def agrees(comparison: Comparison, key: str, files: Mapping[str, Mapping[int, Path]]) -> None:
    """Every number of one metric's cells is what the files say."""
    values = {arm: by_hand(of_arm, key) for arm, of_arm in files.items()}
    base = values[str(comparison.baseline)]
    raw: dict[str, float] = {}
    for arm, mine in values.items():
        cell = comparison.cells[key][arm]
        assert cell.summary is not None and cell.summary.values == mine
        assert cell.summary.mean == pytest.approx(standard.fmean(mine.values()), rel=1e-12)
        deviation = standard.stdev(mine.values())
        assert cell.summary.deviation == pytest.approx(deviation, rel=1e-9)
        half = stats.t.ppf(0.975, len(mine) - 1) * deviation / math.sqrt(len(mine))
        assert cell.summary.high == pytest.approx(standard.fmean(mine.values()) + half, rel=1e-12)
        if arm == comparison.baseline:
            assert cell.difference is None
            continue
        both = sorted(mine.keys() & base.keys())
        d = np.asarray([mine[seed] - base[seed] for seed in both])
        error = np.std(d, ddof=1) / math.sqrt(len(d))
        raw[arm] = 2 * stats.t.sf(abs(d.mean() / error), len(d) - 1)
        found = cell.difference
        assert found is not None and found.seeds == tuple(both) and found.paired
        assert found.mean == pytest.approx(d.mean(), rel=1e-9) and found.p == pytest.approx(raw[arm], rel=1e-9)
        half = stats.t.ppf(0.975, len(d) - 1) * error
        assert (found.low, found.high) == (pytest.approx(d.mean() - half), pytest.approx(d.mean() + half))
    ordered = sorted(raw, key=lambda arm: raw[arm])
    running = 0.0
    for rank, arm in enumerate(ordered):
        running = max(running, raw[arm] * (len(ordered) - rank))
        found = comparison.cells[key][arm].difference
        assert found is not None and found.p_holm == pytest.approx(min(1.0, running), rel=1e-9)
        assert found.claimed == (running < 0.05)


def test_the_numbers_are_those_of_the_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    files: dict[str, dict[int, Path]] = {}
    for arm, shift in (("a", 0.0), ("b", 0.02), ("c", -0.3)):
        for seed in (1, 2, 3, 4, 5):
            folder = tmp_path / "study" / "runs" / f"{arm}-{seed}"
            losses = (3 - shift + seed / 50 + rng.normal(0, 0.05, 4)).tolist()
            points = [{"step": n, "tokens": n, "seconds": n, "val/loss": x} for n, x in enumerate(losses)]
            points[-1]["val/accuracy"] = None if (arm, seed) == ("b", 2) else 0.5 + shift + float(rng.normal(0, 0.01))
            last = {key: points[-1][key] for key in ("val/loss", "val/accuracy")}
            write_run(folder, seed, last, identity={"objective.arm": arm}, points=points)
            files.setdefault(arm, {})[seed] = folder / "metrics.jsonl"
    loss = {"key": "val/loss", "title": "loss", "higher_is_better": False}
    jobs = [job(arm, seed) for arm in files for seed in files[arm]]
    folder = write_study(tmp_path / "study", {}, jobs=jobs, arms={arm: [] for arm in files}, seeds=[1, 2, 3, 4, 5],
                         baseline="a", metrics=[ACCURACY, loss])  # fmt: skip
    comparison = compare(folder)
    for key in ("val/accuracy", "val/loss"):
        agrees(comparison, key, files)
    assert comparison.cells["val/accuracy"]["b"].summary.n == 4  # type: ignore[union-attr]
    assert "b, seed 2: no figure of accuracy" in comparison.remarks


@pytest.mark.slow
def test_the_numbers_of_real_runs_are_those_of_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cloze import cli

    monkeypatch.chdir(tmp_path)
    words = ["budget.steps=3", "validation.every=1", "validation.examples=16", "tracking=none", "hardware.threads=1",
             "data.documents=200", "data.validation_documents=20", "data.test_documents=5", "model.layers=1"]  # fmt: skip
    files: dict[str, dict[int, Path]] = {}
    for rate in ("0.15", "0.3"):
        for seed in (1, 2, 3):
            folder = Path(f"runs/{rate}-{seed}")
            said = [*words, f"objective.mask_ratio={rate}", f"seed={seed}", f"output_dir={folder}"]
            assert cli._guarded(cli._train, said) == 0
            files.setdefault(f"objective.mask_ratio={rate}", {})[seed] = folder / "metrics.jsonl"
    comparison = compare(Path("runs"))
    assert [arm.name for arm in comparison.arms] == list(files)
    assert [arm.differs for arm in comparison.arms] == [{"objective.mask_ratio": 0.15}, {"objective.mask_ratio": 0.3}]
    assert [metric.key for metric in comparison.metrics][:2] == ["val/loss", "val/loss_mlm"]
    for metric in comparison.metrics:
        agrees(comparison, metric.key, files)


def two(tmp_path: Path, a: list[float], b: list[float], **facts: object) -> Cell:
    """The cell of b where a is the baseline, by accuracy; seeds from 1."""
    arms = {name: {n: {"val/accuracy": x} for n, x in enumerate(xs, 1)} for name, xs in (("nsp", a), ("sop", b))}
    return compare(write_study(tmp_path / "study", arms, **facts)).cells["val/accuracy"]["sop"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("b", "better", "verdict"),
    [
        ([0.71, 0.72, 0.70, 0.73, 0.71], True, "sop is better than nsp on accuracy (+0.208 ± 0.022, 5 seeds, p<0.001)"),
        ([0.71, 0.72, 0.70, 0.73, 0.71], False, "sop is worse than nsp on accuracy (+0.208 ± 0.022, 5 seeds, p<0.001)"),
        ([0.29, 0.28, 0.33, 0.27, 0.30], True, "sop is worse than nsp on accuracy (−0.212 ± 0.022, 5 seeds, p<0.001)"),
        (
            [0.50, 0.49, 0.54, 0.50, 0.51], True,
            "no difference could be shown on accuracy (+0.002 ± 0.018, 5 seeds, p=0.78; smallest detectable 0.025)",
        ),
        (
            [0.50, 0.51, 0.52, 0.50, 0.50], True,
            "no verdict on accuracy (+0.000, 5 seeds): the figure is the same in every seed, so there is no deviation to judge by",
        ),
        (
            [0.60, 0.61, 0.62, 0.60, 0.60], True,
            "no verdict on accuracy (+0.10, 5 seeds): the difference is the same in every seed, so there is no deviation to judge by",
        ),
    ],
)  # fmt: skip
def test_verdicts(tmp_path: Path, b: list[float], better: bool, verdict: str) -> None:
    cell = two(tmp_path, [0.50, 0.51, 0.52, 0.50, 0.50], b, metrics=[{**ACCURACY, "higher_is_better": better}])
    assert cell.verdict == verdict


def test_one_seed_has_no_verdict(tmp_path: Path) -> None:
    cell = two(tmp_path, [0.5], [0.6])
    assert cell.verdict == "no verdict on accuracy (+0.10, 1 seed): one seed cannot tell a difference from chance"
    assert cell.difference is not None and cell.difference.mean == pytest.approx(0.1) and not cell.difference.claimed


def test_a_small_p_that_holms_correction_takes_back_is_told(tmp_path: Path) -> None:
    values = {"a": [0.50, 0.51, 0.52], "b": [0.515, 0.54, 0.545], "c": [0.5, 0.52, 0.51], "d": [0.51, 0.5, 0.53]}
    arms = {arm: {n: {"val/accuracy": x} for n, x in enumerate(xs, 1)} for arm, xs in values.items()}
    cell = compare(write_study(tmp_path / "s", arms)).cells["val/accuracy"]["b"]
    assert cell.difference is not None and cell.difference.p is not None and cell.difference.p_holm is not None
    assert cell.difference.p < 0.05 < cell.difference.p_holm == pytest.approx(3 * cell.difference.p)
    assert "no difference could be shown" in cell.verdict and "before Holm's correction for 3 arms" in cell.verdict
    alone = compare(tmp_path / "s", baseline="b").cells["val/accuracy"]["a"].difference
    assert alone is not None and alone.mean == pytest.approx(-cell.difference.mean)


def test_every_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    arms = {
        "a": {n: {"val/accuracy": 0.5 + n / 100} for n in (1, 2, 3)},
        "b": {1: {"val/accuracy": 0.6}, 2: {"val/accuracy": 0.63}},
    }
    jobs = [
        job("b", 3, status="failed", reason="killed by signal 9", exit_code=-9),
        job("b", 4, status="waiting"),
        job("a", 5, status="running"),
        job("b", 5, status="done"),
        job("b", 1, "mrpc", status="skipped", reason="its run failed"),
    ]
    write_run(tmp_path / "s/runs/a-5", 5, status="running")
    write_run(tmp_path / "s/runs/b-5", 5, status="preempted", reason="signal 15")
    comparison = compare(write_study(tmp_path / "s", arms, jobs=jobs, after={"mrpc": []}, seeds=[1, 2, 3, 4, 5]))
    said = comparison.remarks
    assert "a, seed 4: missing (the study has no such job)" in said
    assert "a, seed 5: stopped" in said  # study.json of a supervisor that was killed said running
    assert "b, seed 3: failed (killed by signal 9)" in said
    assert "b, seed 4: missing (it has not begun)" in said
    assert "b, seed 5: preempted (signal 15)" in said
    assert "b, mrpc, seed 1: missing (its run failed)" in said
    assert "a, mrpc, seeds 1, 2, 3: missing (the study has no such job)" in said
    found = comparison.cells["val/accuracy"]["b"].difference
    assert found is not None and found.seeds == (1, 2)


def test_figures_after_training_are_judged_too(tmp_path: Path) -> None:
    arms = {arm: {n: {"val/accuracy": 0.5} for n in (1, 2, 3)} for arm in "ab"}
    jobs = []
    for arm, shift in (("a", 0.0), ("b", 0.2)):
        for seed in (1, 2, 3):
            scores = {"validation": {"f1": 0.5 + shift + seed**2 / 100 * (1 + shift)}}
            write_run(tmp_path / f"s/runs/{arm}-{seed}-mrpc", seed, scores=scores)
            jobs.append(job(arm, seed, "mrpc"))
    metrics = [{"key": "mrpc:score/validation/f1", "title": "MRPC F1", "higher_is_better": True}]
    comparison = compare(write_study(tmp_path / "s", arms, jobs=jobs, after={"mrpc": []}, metrics=metrics))
    cell = comparison.cells["mrpc:score/validation/f1"]["b"]
    assert cell.verdict == "b is better than a on MRPC F1 (+0.209 ± 0.020, 3 seeds, p<0.001)"
    every = compare(tmp_path / "s", metrics=["mrpc:score/validation/f1", "val/accuracy"])
    assert [metric.title for metric in every.metrics] == ["MRPC F1", "validation accuracy"]


def test_a_figure_that_an_arm_never_has_is_said(tmp_path: Path) -> None:
    arms = {"none": {1: {"val/accuracy": 0.5}}, "nsp": {1: {"val/accuracy": 0.5, "judge/head": 0.9}}}
    head = {"key": "judge/head", "title": "NSP", "higher_is_better": True}
    comparison = compare(write_study(tmp_path / "s", arms, metrics=[ACCURACY, head]))
    row = comparison.cells["judge/head"]
    assert row["none"].summary is None and row["none"].verdict == "no run of none has NSP"
    assert row["nsp"].summary is not None and row["nsp"].verdict == "no run of none has NSP"
    assert [each.seed for each in row["none"].absent] == [1]


def test_a_study_that_has_only_begun_is_shown(tmp_path: Path) -> None:
    jobs = [job(arm, 1, status="waiting") for arm in "ab"]
    comparison = compare(write_study(tmp_path / "s", {}, jobs=jobs, arms={"a": []}, seeds=[1], baseline="a"))
    assert [arm.name for arm in comparison.arms] == ["a", "b"]
    assert comparison.cells["val/accuracy"]["b"].verdict == "no run of b has accuracy"
    assert "b, seed 1: missing (it has not begun)" in comparison.remarks


def test_other_seeds_are_compared_unpaired(tmp_path: Path) -> None:
    arms = {
        "a": {n: {"val/accuracy": 0.5 + n / 100} for n in (1, 2, 3)},
        "b": {n: {"val/accuracy": 0.7 + n / 100} for n in (4, 5, 6, 7)},
    }
    comparison = compare(write_study(tmp_path / "s", arms))
    found = comparison.cells["val/accuracy"]["b"]
    theirs = stats.ttest_ind([0.74, 0.75, 0.76, 0.77], [0.51, 0.52, 0.53], equal_var=False)
    assert found.difference is not None and not found.difference.paired
    assert found.difference.p == pytest.approx(theirs.pvalue)
    assert found.verdict.startswith("b is better than a on accuracy (+0.235 ± 0.022, 4 and 3 seeds, unpaired, p")
    assert any("b and a have other seeds, so they are compared unpaired (" in each for each in comparison.remarks)


@pytest.mark.parametrize("later", ["accuracy", "NER"])
def test_what_is_unpaired_is_said_metric_by_metric(tmp_path: Path, later: str) -> None:
    """Seeds 1 to 4 are in both arms; NER's figure is there for half of them, another half in each arm."""
    arms: dict[str, dict[int, dict[str, float | None]]] = {arm: {} for arm in "ab"}
    for arm, have in (("a", (1, 2)), ("b", (3, 4))):
        for seed in (1, 2, 3, 4):
            arms[arm][seed] = {"val/accuracy": seed / 10, **({"ner": seed / 9} if seed in have else {})}
    metrics = [ACCURACY, {"key": "ner", "title": "NER", "higher_is_better": True}]
    metrics.sort(key=lambda metric: metric["title"] == later)
    said = [each for each in compare(write_study(tmp_path / "s", arms, metrics=metrics)).remarks if "unpaired" in each]
    assert len(said) == 1 and said[0].startswith("b and a have other seeds, so they are compared unpaired on NER (")


def test_metrics_are_chosen_by_their_keys(tmp_path: Path) -> None:
    for seed in (1, 2):
        figures = {
            "val/accuracy": 0.5,
            "train/loss": 1.0,
            "val/loss": 2.0,
            "val/oddity": 1.0,
            "judge/nsp_probe_accuracy": 0.5,
        }
        write_run(tmp_path / f"a-{seed}", seed, figures)
    usual = [metric.key for metric in compare(tmp_path).metrics]
    assert usual == ["val/loss", "val/accuracy", "judge/nsp_probe_accuracy"]  # of an oddity nobody knows the good side
    asked = compare(tmp_path, metrics=["val/oddity=lower", "train/loss", Metric("val/accuracy", "mine", True)]).metrics
    assert [(metric.key, metric.higher_is_better) for metric in asked] == [
        ("val/oddity", False), ("train/loss", False), ("val/accuracy", True),
    ]  # fmt: skip
    with pytest.raises(Refusal, match=r"metric val/acuracy: no run has it; did you mean val/accuracy\?"):
        compare(tmp_path, metrics=["val/acuracy"])
    with pytest.raises(Refusal, match="which side is better, higher or lower"):
        compare(tmp_path, metrics=["val/oddity=up"])


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no run"):
        compare(tmp_path)
    arms = {"none": {1: {"val/accuracy": 0.5}}, "nsp": {1: {"val/accuracy": 0.5}}}
    with pytest.raises(Refusal, match=r"baseline=nps is no arm; did you mean nsp\?"):
        compare(write_study(tmp_path / "s", arms), baseline="nps")


def test_a_study_without_a_baseline_judges_nothing_and_says_so(tmp_path: Path) -> None:
    arms = {"a": {1: {"val/accuracy": 0.5}}, "b": {1: {"val/accuracy": 0.6}}}
    comparison = compare(write_study(tmp_path / "s", arms, baseline=None))
    assert all(cell.difference is None for cell in comparison.cells["val/accuracy"].values())
    assert "there is no baseline, so no difference is judged" in comparison.remarks


def test_losses_of_other_terms_are_not_compared(tmp_path: Path) -> None:
    for arm, loss in (("mlm", {"val/loss_mlm": 2.0}), ("nsp", {"val/loss_mlm": 2.0, "val/loss_pair": 0.5})):
        write_run(tmp_path / arm, 1, {"val/loss": sum(loss.values()), **loss}, identity={"objective.pair": arm})
    comparison = compare(tmp_path)
    assert [metric.key for metric in comparison.metrics] == ["val/loss_mlm"]
    assert any("val/loss is left out" in each for each in comparison.remarks)


def test_a_run_without_a_figure_is_named_and_takes_it_from_no_other(tmp_path: Path) -> None:
    for arm in ("a", "b"):
        for seed in (1, 2, 3):
            loss = None if (arm, seed) == ("b", 3) else float(seed)
            write_run(tmp_path / f"{arm}-{seed}", seed, {"val/loss": loss}, identity={"x": arm}, words=[f"x={arm}"])
    comparison = compare(tmp_path)
    assert [metric.key for metric in comparison.metrics] == ["val/loss"]
    assert "x=b, seed 3: no figure of validation loss" in comparison.remarks


def test_a_run_whose_record_cannot_be_read_is_named(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write_run(tmp_path / str(seed), seed, {"val/loss": float(seed)})
    (tmp_path / "3" / "run.json").write_text('{"format": 1, "sta')
    assert f"{tmp_path / '3'} is left out: its run.json cannot be read" in compare(tmp_path).remarks


def test_seeds_that_one_arm_alone_has_are_named(tmp_path: Path) -> None:
    for arm, seeds in (("a", (1, 2, 3)), ("b", (1, 2))):
        for seed in seeds:
            write_run(tmp_path / f"{arm}-{seed}", seed, {"val/loss": seed + (arm == "b") * seed / 10},
                      identity={"x": arm}, words=[f"x={arm}"])  # fmt: skip
    said = "x=b and x=a are compared by the seeds that both have (1, 2); seed 3 of only one of them count in the means alone"
    assert compare(tmp_path).remarks == [said]


def test_a_job_that_left_no_run_is_named_from_above_its_study_too(tmp_path: Path) -> None:
    failed = job("a", 2, status="failed", reason="out of memory")
    write_study(tmp_path / "studies" / "s", {"a": {1: {"val/accuracy": 0.5}}}, jobs=[failed], seeds=[1, 2])
    assert "s: a, seed 2: failed (out of memory)" in compare(tmp_path / "studies").remarks
    (tmp_path / "studies" / "broken").mkdir()
    (tmp_path / "studies" / "broken" / "study.json").write_text("{")
    assert any("broken/study.json cannot be read" in each for each in compare(tmp_path / "studies").remarks)


def test_numbers_too_large_have_no_verdict(tmp_path: Path) -> None:
    arms = {a: {seed: {"val/accuracy": n * seed * 1e200} for seed in (1, 2, 3)} for n, a in enumerate("ab", start=1)}
    cell = compare(write_study(tmp_path / "s", arms)).cells["val/accuracy"]["b"]
    assert cell.verdict.endswith("these numbers are too large to square")
    assert cell.difference is not None and not cell.difference.claimed


def test_a_metric_that_the_study_tells_of_is_as_it_says(tmp_path: Path) -> None:
    metrics = [{"key": "val/oddity", "title": "the oddity", "higher_is_better": False, "unit": "%"}]
    folder = write_study(tmp_path / "s", {"a": {1: {"val/oddity": 1.0}}}, metrics=metrics)
    (found,) = compare(folder, metrics=["val/oddity"]).metrics
    assert (found.title, found.higher_is_better, found.unit) == ("the oddity", False, "%")
    with pytest.raises(Refusal, match="named twice"):
        compare(folder, metrics=["val/oddity", "val/oddity=higher"])
