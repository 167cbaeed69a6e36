"""The page that is one file: what it draws, that no text becomes part of it, that it asks for nothing; in a browser, that it works."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cloze.report import figures
from cloze.report.collect import find, read
from cloze.report.comparison import Comparison, compare
from cloze.report.page import embedded, page
from tests.browser import Browser
from tests.report.folders import job, write_run, write_study

RATE = 1_000.0  # FLOPs a token
BLOCKS = (
    "step 50\nold ____\tx\ty 0.1",
    "step 100\nthe ____ is lit\tlamp\tlamp 0.9, <i>lid</i> 0.1\na ____ sat\tcat\tdog 0.5",
    "step 150\nhalf",  # being written
)
SAMPLES = "\n\n".join(BLOCKS)


def points(seed: int, rate: float, steps: int = 100) -> list[dict[str, Any]]:
    """A run's curve: `train/loss` at every step, `val/loss` at every tenth."""
    found = []
    for step in range(1, steps + 1):
        point = {
            "step": step,
            "tokens": 64 * step,
            "seconds": 0.01 * step,
            "train/loss": 5 - rate * step / steps + 0.01 * seed * (step % 7),
        }
        found.append(point | ({"val/loss": 5 - rate * step / steps + 0.02 * seed} if step % 10 == 0 else {}))
    return found


def write_runs(root: Path, arms: Mapping[str, float], steps: int = 100, seeds: Sequence[int] = (1, 2, 3)) -> Path:
    """Runs of arms by how much they learn."""
    for number, (arm, rate) in enumerate(arms.items()):
        for seed in seeds:
            curve = points(seed, rate, steps)
            last = {key: value for key, value in curve[-1].items() if "/" in key}
            run = write_run(
                root / f"{number}-{seed}", seed, last, identity={"objective.rate": rate, "model.layers": 2 * number + 2}, points=curve,
                name=arm, flops_per_token=RATE * (number + 1), objective="MaskedLM", model="Bert",
            )  # fmt: skip
            (run.folder / "samples.txt").write_text(SAMPLES, encoding="utf-8")
            (run.folder / "log.txt").write_text("".join(f"line {n}\n" for n in range(150)), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms of three seeds, with names that want to be markup."""
    return write_runs(tmp_path_factory.mktemp("runs") / "all", {"<b>slow</b>": 1.0, "quick & </script>": 2.0})


@pytest.fixture(scope="module")
def comparison(runs: Path) -> Comparison:
    return compare(runs)


def data_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', html, re.DOTALL)
    assert found
    content: dict[str, Any] = json.loads(found[1])
    return content


class Page(HTMLParser):
    """What elements a page has, and what addresses they name."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]


def test_it_names_no_address_but_its_own(comparison: Comparison) -> None:
    parsed = Page(page(comparison))
    assert parsed.addresses and all(each.startswith(("#", "data:")) for each in parsed.addresses)
    assert "b" not in parsed.tags and "i" not in parsed.tags and parsed.tags.count("script") == 3


def test_no_text_ends_the_data() -> None:
    hostile = {"name": "</script><!--<script>", "line": "\u2028 & '"}
    text = embedded(hostile)
    assert json.loads(text) == hostile
    assert not set("<>&\u2028") & set(text)


def test_curves_are_those_of_the_files(comparison: Comparison, runs: Path) -> None:
    by_folder = {str(run.folder): run for run in find(runs)[0]}
    seen = 0
    for arm in data_of(page(comparison))["arms"]:
        for run in arm["runs"]:
            for metric in ("train/loss", "val/loss"):
                grid, values = run["curves"][metric]
                for axis in ("step", "tokens", "seconds"):
                    curve = by_folder[run["folder"]].curve(metric, axis)  # type: ignore[arg-type]
                    assert run["grids"][grid][axis] == pytest.approx(curve.x)
                assert values == pytest.approx(curve.y, rel=1e-5)
                seen += 1
            assert run["rate"] in (RATE, 2 * RATE)
    assert seen == 12


def test_the_first_curve_is_one_that_has_a_line(tmp_path: Path) -> None:
    points = [{"step": step, "val/loss": 3.0 / step, "train/loss": 3.0 / step} for step in (1, 2)]
    points.append({"step": 2, "judge/accuracy": 0.5})
    write_run(tmp_path / "run", 1, {"judge/accuracy": 0.5, "val/loss": 1.5}, points=points)
    data = data_of(page(compare(tmp_path, metrics=["judge/accuracy"])))
    assert data["curve_metrics"] == data["frontier_metrics"] == ["val/loss", "train/loss", "judge/accuracy"]


def test_losses_of_other_terms_are_told_apart(tmp_path: Path) -> None:
    for name, terms in (("a", ("mlm",)), ("b", ("mlm", "pair"))):
        last = {"val/loss": 1.0, **{f"val/loss_{term}": 0.5 for term in terms}}
        write_run(tmp_path / name, 1, last, identity={"x": name}, objective="MaskedLM")
    assert data_of(page(compare(tmp_path)))["objectives"] == ["MaskedLM of mlm", "MaskedLM of mlm and pair"]


def test_long_curves_are_thinned_alike_in_all_seeds(tmp_path: Path) -> None:
    write_runs(tmp_path / "long", {"one": 1.0}, steps=2_500, seeds=(1, 2))
    data = data_of(page(compare(tmp_path / "long")))
    assert data["thinned"] and data["points"] == 1_000
    first, second = (run["grids"][run["curves"]["train/loss"][0]]["step"] for run in data["arms"][0]["runs"])
    assert first == second and len(first) <= 1_000 and (first[0], first[-1]) == (1, 2_500)
    assert all(len(values) <= 1_000 for run in data["arms"][0]["runs"] for _, values in run["curves"].values())
    assert figures.thin([1.0, 2.0, 3.0], 1_000) == [1.0, 2.0, 3.0]


def test_an_evaluations_curves_are_there_under_its_name_and_with_its_own_flops(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", {"a": {1: {}}}, jobs=[job("a", 1, "ner")], after={"ner": []})
    both = {"runs/a-1": 1.0, "runs/a-1-ner": 3.0}
    for folder, rate in both.items():
        shutil.rmtree(study / folder, ignore_errors=True)
        write_run(study / folder, 1, {}, points=points(1, rate), flops_per_token=RATE * rate)
    data = data_of(page(compare(study)))
    assert "ner:val/loss" in data["curve_metrics"]
    assert data["frontier_metrics"] == ["val/loss", "train/loss"]  # its own FLOPs are not all that it took
    (run,) = data["arms"][0]["runs"]
    for (folder, rate), metric in zip(both.items(), ("val/loss", "ner:val/loss"), strict=True):
        grid, values = run["curves"][metric]
        curve = read(study / folder).curve("val/loss", "flops")
        assert values == pytest.approx(curve.y, rel=1e-5) and run["grids"][grid]["rate"] == RATE * rate
        assert [tokens * RATE * rate for tokens in run["grids"][grid]["tokens"]] == pytest.approx(curve.x)


def test_parallel_coordinates_place_each_run(comparison: Comparison) -> None:
    found = figures.parallel(comparison)
    titles = [axis["title"] for axis in found["axes"]]
    assert titles[: len(comparison.arms[0].differs)] == list(comparison.arms[0].differs)
    at = titles.index("objective.rate")
    assert {line["places"][at] for line in found["lines"] if line["arm"] == "<b>slow</b>"} == {0.0}
    assert {line["places"][at] for line in found["lines"] if line["arm"] != "<b>slow</b>"} == {1.0}
    losses = {(line["arm"], line["seed"]): line["places"][len(comparison.arms[0].differs)] for line in found["lines"]}
    assert len(losses) == 6 and min(losses.values()) == 0 and max(losses, key=losses.__getitem__) == ("<b>slow</b>", 3)


def test_parallel_coordinates_lose_nothing_unsaid(tmp_path: Path) -> None:
    last = {f"val/accuracy_{n}": 0.5 for n in range(5)}
    metrics = [{"key": key, "title": key, "higher_is_better": True} for key in last]
    long = "/data/a/very/long/path/to/the/text/of/"
    identities = {arm: {"x.path": long + arm} for arm in ("a", "b")}
    folder = write_study(tmp_path / "s", {arm: {1: last} for arm in identities}, identities=identities, metrics=metrics)
    found = figures.parallel(compare(folder))
    assert found["left_out"] == ["val/accuracy_3", "val/accuracy_4"]
    assert len({line["places"][0] for line in found["lines"]}) == 2


def test_the_last_whole_block_of_samples_counts(tmp_path: Path) -> None:
    file = tmp_path / "samples.txt"
    assert figures.last_block(file) is None
    file.write_text("step 10\na\tb", encoding="utf-8")  # being written now
    assert figures.last_block(file) is None
    file.write_text(SAMPLES, encoding="utf-8")
    found = figures.last_block(file)
    assert found and found[0] == "100" and found[1][1] == ["a ____ sat", "cat", "dog 0.5"]


def test_samples_of_one_question_stand_side_by_side(comparison: Comparison) -> None:
    (table,) = figures.samples(comparison.arms)
    assert table["rows"][1] == ["a ____ sat", "cat", "dog 0.5", "dog 0.5"]
    html = page(comparison)
    assert "&lt;i&gt;lid&lt;/i&gt;" in html and html.count("seed 1, step 100") == 2


def test_a_run_has_a_page_of_its_own(runs: Path) -> None:
    run = find(runs)[0][0]
    html = page(compare(run.folder), run)
    assert all(f'id="{name}"' in html for name in ("run-figures", "config", "log", "provenance", "samples", "charts"))
    assert "line 149" in html and "line 50" in html and "line 49\n" not in html
    assert html.count('id="settings"') == 0  # of one run nothing differs


def test_a_run_that_goes_on_has_a_page(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run", points=points(1, 1.0), status="running", name="live", model="Bert", objective="MaskedLM"
    )
    data = data_of(page(compare(run.folder), run))
    assert [each["status"] for each in data["arms"][0]["runs"]] == ["stopped"]  # no process holds it
    assert "train/loss" in data["curve_metrics"]


@pytest.mark.slow
def test_in_a_browser(browser: Browser, comparison: Comparison, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(comparison), encoding="utf-8")
    browser.open(file.as_uri())
    browser.wait("three charts", "return document.querySelectorAll('.js-plotly-plot').length == 3")
    lines = "return document.getElementById('curves').data.filter(t => t.meta == arguments[0])"
    assert [trace["name"] for trace in browser.run(lines, "mean")] == [
        "&lt;b&gt;slow&lt;/b&gt;",
        "quick &amp; &lt;/script&gt;",
    ]
    assert len(browser.run(lines, "band")) == 2 and not browser.run(lines, "seed")
    mean = browser.run(lines, "mean")[0]
    assert mean["x"] == list(range(10, 101, 10))  # val/loss, at its own points
    assert mean["y"][-1] == pytest.approx(4.04, abs=1e-5)  # of the seeds' 4.02, 4.04, 4.06

    browser.click("#seeds")
    assert len(browser.run(lines, "seed")) == 6
    browser.click("#legend label", "<b>slow</b>")
    assert len(browser.run(lines, "mean")) == 1 and len(browser.run(lines, "seed")) == 3
    browser.click("#legend label", "<b>slow</b>")

    choose = "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event(arguments[2]))"
    browser.run(choose, "axis", "flops", "change")
    assert browser.run(lines, "mean")[1]["x"][-1] == pytest.approx(100 * 64 * 2 * RATE)
    assert browser.run("return document.getElementById('curves').layout.xaxis.title.text") == "FLOPs"
    browser.click("#log-x")
    assert browser.run("return document.getElementById('curves').layout.xaxis.type") == "log"
    rough = browser.run(lines, "mean")[0]["y"]
    browser.run(choose, "smoothing", "0.9", "input")
    assert browser.run(lines, "mean")[0]["y"][-1] > rough[-1] + 0.1  # what falls is smoothed to what it was before
    browser.run(choose, "metric", "train/loss", "change")
    assert len(browser.run(lines, "mean")[0]["x"]) == 100

    best = "return document.getElementById('frontier').data.find(t => t.meta == 'frontier').y"
    stairs = browser.run(best)
    assert stairs == sorted(stairs, reverse=True) and stairs[-1] == pytest.approx(3.04, abs=1e-5)
    assert browser.run("return document.getElementById('parallel').data.length") == 6

    first = "return document.querySelector('#table tbody tr').dataset.arm"
    column = "#table thead th:nth-child(3) button"
    browser.click(column)
    assert browser.run(first) == "quick & </script>"  # the lower loss
    browser.click(column)
    assert browser.run(first) == "<b>slow</b>"
    assert browser.run("return document.querySelector('#table thead th:nth-child(3)').ariaSort") == "descending"

    assert browser.run("return document.querySelectorAll('main b, main i').length") == 0
    assert browser.requests() == [file.as_uri()]
    assert browser.complaints() == []
