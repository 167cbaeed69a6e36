"""The dashboard as somebody uses it, in Chromium: list, filter, group, toggle, open, watch. What leaves this machine is written down."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloze.dashboard.server import listening, serving
from tests.browser import Browser, assert_only_local
from tests.report.folders import job, write_run, write_study

ROWS = "return window.dash_ag_grid?.getApi('runs')?.getDisplayedRowCount() === arguments[0]"
LINES = """const plot = document.querySelector(arguments[1] || '#chart .js-plotly-plot');
return plot?._fullData?.filter(line => line.visible === true && line.fill !== 'toself').length === arguments[0]"""
NEWEST = "return document.querySelector('#chart .js-plotly-plot').calcdata[0].at(-1).x >= arguments[0]"


def points(end: float, first: int = 1, last: int = 40) -> list[dict[str, float]]:
    """Points of a run whose validation loss falls towards `end`."""
    return [
        {"step": 10 * n, "tokens": 640 * n, "seconds": n / 2, "train/loss": end + 4 / n, "val/loss": end + 3 / n}
        for n in range(first, last + 1)
    ]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two configurations of two seeds each, a study, a run that is going on."""
    for pair, end in (("none", 2.0), ("sop", 1.5)):
        for seed in (1, 2):
            write_run(
                tmp_path / f"{pair}-{seed}",
                seed,
                {"val/loss": end + seed / 10, "train/loss": end},
                identity={"objective.pair": pair},
                points=points(end + seed / 10),
                name=f"bert-{pair}",
                began=f"2026-01-0{seed}T00:00:00+00:00",
            )
    write_study(
        tmp_path / "studies" / "order",
        {"nsp": {1: {"val/loss": 1.0}}, "sop": {1: {"val/loss": 1.0}}},
        jobs=[{**job("sop", 2), "status": "failed", "reason": "killed by signal 9"}],
    )
    return tmp_path


@pytest.fixture
def address(runs: Path) -> Iterator[str]:
    taken = listening(0)
    server = serving(runs, taken)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{taken.getsockname()[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_filter_group_toggle_open_and_watch(browser: Browser, address: str, runs: Path) -> None:
    browser.open(address)
    browser.wait("all runs in the list", ROWS, 7)
    browser.wait("their curves", LINES, 6)  # all but that of the job that has no run
    assert "1 failed" in browser.text() and "6 done" in browser.text()

    browser.type("#filter", "objective.pair=none,sop")
    browser.wait("four runs in the list", ROWS, 4)
    browser.wait("their curves", LINES, 4)
    browser.type("#filter", "objectiv.pair=sop")
    browser.wait("what is wrong", "return document.body.innerText.includes('did you mean objective.pair?')")
    browser.type("#filter", "val/loss<1.9 pair=none,sop")
    browser.wait("two runs in the list", ROWS, 2)
    browser.type("#filter", "pair=none,sop")
    browser.wait("four runs in the list", ROWS, 4)

    browser.click("#group")
    browser.click("label, [role=option]", "objective.pair")
    browser.wait("a line a group", LINES, 2)
    browser.wait(
        "the groups in figures", "return document.querySelector('#groups')?.innerText.includes('2.150 ± 0.071')"
    )

    browser.click("#chart .legendtoggle")
    browser.wait("one line switched off", LINES, 1)

    browser.click(".ag-cell.link", "none-1")
    browser.wait("the run's curves", LINES, 2, "#run-chart .js-plotly-plot")
    browser.wait("its settings", "return document.querySelector('#config').innerText.includes('model.layers')")
    assert "run=none-1" in browser.run("return window.location.search")

    with (runs / "none-1" / "metrics.jsonl").open("a", encoding="utf-8") as file:
        for point in points(2.1, 41, 90):
            file.write(json.dumps(point) + "\n")
    grown = "return document.querySelector('#run-chart .js-plotly-plot').calcdata[0].at(-1).x === 900"
    browser.wait("the curve to grow while it is looked at", grown)
    browser.run("window.history.back()")
    browser.wait("the list again", "return document.querySelector('#overview').style.display === 'block'")
    assert_only_local(browser.requests())
    assert browser.complaints() == []


def test_a_run_that_goes_on(browser: Browser, address: str, runs: Path) -> None:
    """Its curve grows, the list has its steps; a run that begins appears; one whose folder is taken away goes, whoever looks at it."""
    browser.open(f"{address}/?filter=none-1&smooth=0")
    browser.wait("its curve", LINES, 1)
    browser.wait("all its points", NEWEST, 400)
    stop = threading.Event()

    def train() -> None:
        step = 41
        while not stop.wait(0.05):
            with (runs / "none-1" / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(point) + "\n" for point in points(2.1, step, step)))
            step += 1

    writer = threading.Thread(target=train)
    writer.start()
    try:
        browser.wait("the curve to grow", NEWEST, 450)
        reached = browser.run("return document.querySelector('#chart .js-plotly-plot').calcdata[0].at(-1).x")
        browser.wait("it to grow on", NEWEST, reached + 10)
    finally:
        stop.set()
        writer.join()
    write_run(runs / "again" / "none-1", 3, {"val/loss": 2.0}, points=points(2.0))
    browser.wait("the new run", ROWS, 2)
    browser.wait("its curve", LINES, 2)
    browser.open(f"{address}/?run=again/none-1")
    browser.wait("the run", "return document.querySelector('#run-name').innerText === 'bert-mlm-world'")
    shutil.rmtree(runs / "again")
    browser.wait("what has become of it", "return document.querySelector('#run-facts').innerText.includes('any more')")
    assert browser.complaints() == []


def test_the_address_keeps_what_is_looked_at(browser: Browser, address: str) -> None:
    browser.open(f"{address}/?filter=pair%3Dsop&group=seed&metrics=train/loss&x=tokens&log=y&select=sop-1")
    browser.wait("one selected run", LINES, 1)
    axis = "return document.querySelector('#chart .js-plotly-plot')._fullLayout.yaxis.type"
    assert browser.run(axis) == "log"
    browser.click("#log label", "x")
    browser.wait("the address to say so", "return window.location.search.includes('log=y,x')")
    browser.driver.refresh()
    browser.wait(
        "two logarithmic axes",
        "return document.querySelector('#chart .js-plotly-plot')?._fullLayout.xaxis.type === 'log'",
    )
    assert browser.run("return document.querySelector('#filter').value") == "pair=sop"
    assert browser.complaints() == []


def test_the_address_keeps_what_is_ticked_and_what_is_emptied(browser: Browser, address: str, runs: Path) -> None:
    for folder in ("short", "long" * 20):
        for seed in range(60):
            write_run(runs / folder / f"{seed:02d}", seed, {"val/loss": 2.0}, points=points(2.0, last=2))
    ticked = "return dash_ag_grid.getApi('runs')?.getSelectedRows().length === arguments[0]"
    tick_all = "dash_ag_grid.getApi('runs').selectAll('filtered')"
    said = "return new URLSearchParams(window.location.search).getAll('select').length === arguments[0]"
    browser.open(f"{address}/?filter=short&metrics=train/loss")
    browser.wait("the runs", ROWS, 60)
    browser.wait("the first of them drawn", LINES, 50)  # the page has settled: what is ticked before is unticked again
    browser.run(tick_all)
    browser.wait("the address to have them all", said, 60)
    browser.click("#columns .dash-dropdown-clear")
    browser.wait("the address to have no columns", "return /columns=(&|$)/.test(window.location.search)")
    browser.driver.refresh()
    browser.wait("all ticked again", ticked, 60)
    columns = "return dash_ag_grid.getApi('runs').getColumns().some(column => column.getColId() === 'val/loss')"
    assert not browser.run(columns)

    browser.open(f"{address}/?filter=long&metrics=train/loss")  # whose names are too long for an address
    browser.wait("the runs", ROWS, 60)
    browser.wait("the first of them drawn", LINES, 50)
    browser.run(tick_all)
    browser.wait("all of them drawn", LINES, 60)
    assert browser.run(said, 0)
    browser.driver.refresh()
    browser.wait("the runs of the filter again", ROWS, 60)
    browser.wait("none ticked", LINES, 50)
    assert browser.run(columns)
    assert browser.complaints() == []


def test_a_study_shows_its_arms_and_what_failed(browser: Browser, address: str) -> None:
    browser.open(address)
    browser.click("button.study")
    browser.wait("its runs", ROWS, 3)
    browser.wait("a line an arm", LINES, 2)
    browser.click(".ag-cell.link", "sop · seed 2")
    browser.wait(
        "why it failed", "return document.querySelector('#run-facts').innerText.includes('killed by signal 9')"
    )


def test_no_run_yet(browser: Browser, tmp_path: Path) -> None:
    taken = listening(0)
    server = serving(tmp_path, taken)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        browser.open(f"http://127.0.0.1:{taken.getsockname()[1]}")
        browser.wait("what to do", "return document.body.innerText.includes('python train.py output_dir=')")
        write_run(tmp_path / "first", 1, {"val/loss": 2.0}, points=points(2.0))
        browser.wait("the first run", ROWS, 1)
        browser.wait("its curve", LINES, 1)
        browser.wait("no more advice", "return document.querySelector('#empty').style.display === 'none'")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
