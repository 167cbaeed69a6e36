"""Lines as they are drawn: thinned, smoothed, joined over seeds."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cloze.report
from cloze.dashboard import charts
from cloze.dashboard.charts import Look
from cloze.dashboard.grouping import CONFIGURATION, grouped
from cloze.dashboard.index import Index
from cloze.dashboard.lines import joined, packed, places, smoothed
from cloze.report.collect import Curve
from tests.report.folders import write_run, write_study


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6), max_size=400), st.integers(4, 60))
def test_thinning_keeps_the_ends_the_lowest_and_the_highest(values: list[float], most: int) -> None:
    y = np.array(values)
    kept = places(y, most)
    assert len(kept) <= max(most, min(len(y), most))
    assert np.all(np.diff(kept) > 0)
    if len(y):
        assert {0, len(y) - 1} <= set(kept.tolist())
        assert y[kept].min() == y.min() and y[kept].max() == y.max()


def test_a_single_spike_is_never_thinned_away() -> None:
    y = np.zeros(100_000)
    y[54_321] = 1.0
    assert 54_321 in places(y, 1000)


def test_smoothing_is_the_exponential_mean_of_what_came_before() -> None:
    y = np.random.default_rng(0).standard_normal(50)
    found = smoothed(Curve(np.arange(50.0), y), 0.9).y
    for at in (0, 1, 7, 49):
        weights = 0.9 ** np.arange(at, -1, -1)
        np.testing.assert_allclose(found[at], np.average(y[: at + 1], weights=weights))
    np.testing.assert_array_equal(smoothed(Curve(y, y), 0.0).y, y)


def test_mean_and_deviation_of_curves_with_the_same_points() -> None:
    x = np.arange(5.0)
    rows = np.random.default_rng(1).standard_normal((3, 5))
    band = joined([Curve(x, row) for row in rows])
    np.testing.assert_allclose(band.mean, rows.mean(axis=0))
    np.testing.assert_allclose(band.deviation, rows.std(axis=0, ddof=1))
    assert band.n.tolist() == [3] * 5


def test_a_mean_goes_as_far_as_all_its_curves_reach() -> None:
    band = joined(
        [Curve(np.array([0.0, 2.0, 4.0]), np.array([0.0, 2.0, 4.0])), Curve(np.array([1.0, 2.0]), np.array([3.0, 4.0]))]
    )
    assert band.x.tolist() == [1, 2]
    assert band.n.tolist() == [2, 2]
    assert band.mean.tolist() == [2, 3]
    apart = joined([Curve(np.array([0.0]), np.array([5.0])), Curve(np.array([1.0]), np.array([7.0]))])
    assert (apart.x.tolist(), apart.mean.tolist(), apart.n.tolist()) == ([0, 1], [5, 7], [1, 1])
    assert len(joined([]).x) == 0


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e12, 1e12), max_size=50))
def test_packed_numbers_are_the_numbers(values: list[float]) -> None:
    said = packed(np.array(values))
    found = np.frombuffer(base64.b64decode(said["bdata"]), {"f4": "<f4", "f8": "<f8"}[said["dtype"]])
    np.testing.assert_allclose(found, values, rtol=1e-6, atol=1e-37)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    for pair in ("nsp", "sop"):
        for seed in (1, 2, 3):
            points = [{"step": n, "tokens": n, "seconds": n, "val/loss": seed + 1 / n} for n in range(1, 3000)]
            status = "failed" if (pair, seed) == ("sop", 3) else "done"
            write_run(
                tmp_path / f"{pair}-{seed}", seed, {"val/loss": float(seed)},
                identity={"objective.pair": pair}, points=points, status=status, began=f"2026-01-0{seed}",
            )  # fmt: skip
    found = Index(tmp_path)
    found.refresh()
    return found


def _drawn(index: Index, by: str | None, **look: Any) -> dict[str, dict[str, Any]]:
    groups = grouped(index.get([entry.id for entry in index.all()]), by)
    traces, _ = charts.comparison(groups, Look(["val/loss"], **look))
    assert len({trace.drawn["uid"] for trace in traces}) == len(traces)
    return {trace.drawn["meta"]: trace.drawn for trace in traces}


def _numbers(said: Any) -> Any:
    return np.frombuffer(base64.b64decode(said["bdata"]), said["dtype"])


def test_a_line_a_run(index: Index) -> None:
    drawn = _drawn(index, None)
    assert len(drawn) == 6
    assert all(len(_numbers(line["x"])) <= charts.POINTS for line in drawn.values())


@pytest.mark.parametrize("by", [CONFIGURATION, "objective.pair"])
def test_a_line_and_a_band_a_group(index: Index, by: str) -> None:
    drawn = _drawn(index, by)
    lines = {name.partition("|")[2]: line for name, line in drawn.items() if not name.endswith("|band")}
    assert {name.rpartition("=")[2] for name in lines} == {"nsp", "sop"}
    (sop,) = (line for name, line in lines.items() if name.endswith("sop"))
    assert sop["name"].endswith("(2 of 3)")  # the one that failed is not in the mean, and it is said
    first = _numbers(sop["y"])[0], *sop["customdata"][0]
    assert first == pytest.approx((2.5, 0.5**0.5, 2), rel=1e-6)
    bands = [line for name, line in drawn.items() if name.endswith("|band")]
    assert len(bands) == 2 and all(line["fill"] == "toself" for line in bands)


def test_a_band_on_a_logarithmic_axis_stays_above_nothing(tmp_path: Path) -> None:
    for seed, value in ((1, 0.1), (2, 3.0)):
        points = [{"step": n, "tokens": n, "seconds": n, "val/loss": value} for n in (1, 2)]
        write_run(tmp_path / str(seed), seed, {"val/loss": value}, points=points)
    index = Index(tmp_path)
    index.refresh()
    drawn = _drawn(index, CONFIGURATION, log_y=True)
    band = next(line for name, line in drawn.items() if name.endswith("|band"))
    assert _numbers(band["y"]).min() > 0


def test_figures_of_groups_are_those_of_the_report(index: Index) -> None:
    (sop,) = (group for group in grouped(index.all(), "objective.pair") if group.name == "pair=sop")
    assert sop.figure("val/loss") == "1.50 ± 0.71 (2 of 3)"  # 1 and 2; the run that failed is not in it


def test_runs_without_the_metric_are_not_counted(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        figures = {"train/loss": float(seed), **({"val/loss": float(seed)} if seed < 3 else {})}
        points = [{"step": n, "tokens": n, "seconds": n, **figures} for n in (1, 2)]
        write_run(tmp_path / str(seed), seed, figures, points=points, flops_per_token=7.0 if seed == 1 else None)
    index = Index(tmp_path)
    index.refresh()
    (group,) = grouped(index.get([entry.id for entry in index.all()]), "model.layers")
    assert (group.figure("val/loss"), group.figure("train/loss")) == ("1.50 ± 0.71 (2 of 3)", "2.0 ± 1.0")
    for metric, axis, title, traces in (
        ("val/loss", "step", "layers=2 (2 of 3)", 2),
        ("train/loss", "step", "layers=2 (3)", 2),
        ("train/loss", "flops", "layers=2 (1 of 3)", 1),  # a line alone has no band
    ):
        drawn, _ = charts.comparison([group], Look([metric], axis))
        assert [trace.drawn["name"] for trace in drawn] == [title] * traces


def test_arms_of_a_study_are_groups(tmp_path: Path) -> None:
    write_study(tmp_path / "order", {arm: {1: {"val/loss": 1.0}, 2: {"val/loss": 2.0}} for arm in ("none", "sop")})
    index = Index(tmp_path)
    index.refresh()
    assert {group.name: len(group.entries) for group in grouped(index.all(), "arm")} == {"none": 2, "sop": 2}


def test_the_colours_are_those_of_the_report() -> None:
    css = (Path(str(cloze.report.__file__)).parent / "assets" / "page.css").read_text(encoding="utf-8")
    light = css[: css.index("prefers-color-scheme")]
    assert tuple(re.findall(r"--arm-\d: (#[0-9a-f]{6})", light)) == charts.COLOURS
