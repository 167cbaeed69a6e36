"""How fast the dashboard is with many runs: `python -m benchmarks.dashboard`

It writes 500 synthetic runs of 2,000 points each into a temporary folder, serves them, and times in headless Chromium, server and browser
together:

- list: from asking for the page (the server's first look at the folder included) until the grid has all runs;
- first drawing of 50 runs that nobody has looked at before, so that their points have to be read from disk;
- redrawing these 50: another metric, smoothing, another axis; until plotly.js says that it has drawn.

Every figure is the median of several tries, with the slowest beside it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.browser import Browser, assert_only_local, chromium_driver

METRICS = ("train/loss", "train/gradient_norm", "train/learning_rate", "val/loss", "val/accuracy")


def write_runs(root: Path, runs: int, points: int) -> None:
    """Synthetic runs of a grid: mask ratio, learning rate, pair task, seeds. Their curves fall as real ones do, with noise."""
    grid = itertools.product((1e-3, 2e-3, 4e-3), (0.1, 0.15, 0.2, 0.3, 0.4, 0.5), ("none", "nsp", "sop"), range(1, 100))
    for number, (rate, mask, pair, seed) in enumerate(itertools.islice(_shuffled(grid), runs)):
        _write_run(
            root / f"2026-11-{1 + number // 40:02d}" / f"{number:04d}-bert-mlm", points, number, rate, mask, pair, seed
        )


def _shuffled(grid: Iterator[Any]) -> Iterator[Any]:
    every = list(grid)
    for place in np.random.default_rng(1).permutation(len(every)):
        yield every[place]


def _write_run(folder: Path, points: int, number: int, rate: float, mask: float, pair: str, seed: int) -> None:
    folder.mkdir(parents=True)
    draw = np.random.default_rng(number)
    step = np.arange(1, points + 1) * 10
    end = 1.5 + 8 * (mask - 0.2) ** 2 + 60 * abs(rate - 0.002) + 0.05 * draw.standard_normal()
    curve = end + (8 - end) * np.exp(-step / step[-1] * 9)
    noise = draw.standard_normal((3, points))
    columns = {
        "train/loss": curve + 0.08 * noise[0],
        "train/gradient_norm": 1.5 + 0.3 * np.abs(noise[1]),
        "train/learning_rate": rate * (1 - step / (step[-1] + 10)),
        "val/loss": curve + 0.1 + 0.02 * noise[2],
        "val/accuracy": np.clip(0.9 - curve / 10 + 0.005 * noise[2], 0, 1),
    }
    tokens, seconds = step * 964, np.round(step * 0.0531, 3)
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    with (folder / "metrics.jsonl").open("w", encoding="utf-8") as file:
        for at, read, clock, row in zip(step.tolist(), tokens.tolist(), seconds.tolist(), rows, strict=True):
            said = ", ".join(f'"{key}": {value!r}' for key, value in zip(columns, row, strict=True))
            file.write(f'{{"step": {at}, "tokens": {read}, "seconds": {clock}, {said}}}\n')
    config = {
        "objective": {"_target_": "cloze.objectives.mlm.MaskedLM", "mask_ratio": mask, "pair": pair, "judged_at": 0.15},
        "model": {"_target_": "cloze.models.bert.Bert", "layers": 2, "width": 128, "heads": 2, "dropout": 0.1},
        "optimizer": {"_target_": "cloze.training.optimizers.AdamW", "learning_rate": rate, "weight_decay": 0.01},
        "budget": {"steps": int(step[-1]), "minutes": None},
        "hardware": {f"setting_{n}": n for n in range(12)},
        "data": {f"setting_{n}": f"value {n}" for n in range(30)},
        "seed": seed,
        "output_dir": str(folder),
    }
    (folder / "config.yaml").write_text(_yaml(config), encoding="utf-8")
    identity = {
        f"{part}.{key}": value for part in ("objective", "model", "optimizer") for key, value in config[part].items()
    }  # type: ignore[attr-defined]
    facts = {
        "format": 1,
        "status": "done",
        "reason": None,
        "name": "bert-mlm-world",
        "model": "Bert",
        "objective": "MaskedLM",
        "began": f"2026-11-{1 + number // 40:02d}T{number % 24:02d}:{number % 60:02d}:00+00:00",
        "flops_per_token": 5.2e6,
        "identity": {**identity, "seed": seed, "length": 64, "batch_size": 16, "data": "d", "tokenizer": "t"},
        "provenance": {
            "command": ["train.py", f"seed={seed}"],
            "words": [f"seed={seed}"],
            "machine": {"host": "synthetic"},
        },
        "steps": int(step[-1]),
        "tokens": int(tokens[-1]),
        "seconds": float(seconds[-1]),
        "metrics": {key: float(column[-1]) for key, column in columns.items()},
    }
    (folder / "run.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _yaml(tree: dict[str, Any]) -> str:
    lines = []
    for key, value in tree.items():
        if isinstance(value, dict):
            lines += [f"{key}:", *(f"  {name}: {json.dumps(inner)}" for name, inner in value.items())]
        else:
            lines.append(f"{key}: {json.dumps(value)}")
    return "\n".join(lines) + "\n"


@contextmanager
def served(root: Path) -> Iterator[str]:
    """The address of a dashboard over a folder, in a thread of this process."""
    from cloze.dashboard.server import listening, serving

    taken = listening(0)
    server = serving(root, taken)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


REDRAW = """const done = arguments[arguments.length - 1], [id, props] = arguments;
const plot = document.querySelector('#chart .js-plotly-plot'), before = JSON.stringify(plot.data), begin = performance.now();
const drawn = () => {
  if (JSON.stringify(plot.data) === before) return;
  plot.removeListener('plotly_afterplot', drawn);
  requestAnimationFrame(() => requestAnimationFrame(() => done([performance.now() - begin, plot.data.length])));
};
plot.on('plotly_afterplot', drawn);
dash_clientside.set_props(id, props);"""
LISTED = "return window.dash_ag_grid?.getApi('runs')?.getDisplayedRowCount() === arguments[0]"
DRAWN = "return document.querySelector('#chart .js-plotly-plot')?.calcdata?.length === arguments[0]"


def redraw(browser: Browser, lines: int, name: str, **props: Any) -> float:
    """Seconds from a change of a control until the browser has painted the 50 lines, the server's answer included."""
    milliseconds, drawn = browser.driver.execute_async_script(REDRAW, name, props)
    assert drawn == lines, (drawn, lines)
    return float(milliseconds) / 1000


def measured(root: Path, runs: int, tries: int) -> dict[str, list[float]]:
    """Seconds of every try, by what was timed. Each try has a server of its own, which has not seen the runs."""
    lines = min(50, runs // 2)
    taken: dict[str, list[float]] = {}
    with chromium_driver() as driver:
        driver.set_script_timeout(60)
        browser = Browser(driver)
        for _ in range(tries):
            with served(root) as address:
                begin = time.perf_counter()
                browser.open(address)
                browser.wait("the list", LISTED, runs, seconds=120)
                taken.setdefault(f"list of {runs} runs", []).append(time.perf_counter() - begin)
                browser.wait("the first curves", DRAWN, min(50, runs), seconds=120)
                every = browser.run(
                    "const rows = []; dash_ag_grid.getApi('runs').forEachNode(n => rows.push(n.id)); return rows"
                )
                chosen = {"ids": every[-lines:], "of": lines, "selected": True}
                steps: list[tuple[str, str, dict[str, Any]]] = [
                    (f"first drawing of {lines} other runs, read from disk", "drawn", {"data": chosen}),
                    (f"redrawing {lines}: another metric", "metrics", {"value": ["train/loss"]}),
                    (f"redrawing {lines}: smoothing", "smooth", {"value": 0.9}),
                    (f"redrawing {lines}: over FLOPs", "axis", {"value": "flops"}),
                ]
                for what, name, props in steps:
                    taken.setdefault(what, []).append(redraw(browser, lines, name, **props))
                browser.open("about:blank")  # before the server goes, which it would ask on
        assert_only_local(browser.requests())
        assert not browser.complaints(), browser.complaints()
    return taken


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--tries", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_runs(Path(folder), given.runs, given.points)
        taken = measured(Path(folder), given.runs, given.tries)
    print(f"{given.runs} runs × {given.points:,} points, {os.cpu_count()} cores, median of {given.tries} (slowest)\n")
    print("| what | seconds |")
    print("|---|---|")
    for what, seconds in taken.items():
        print(f"| {what} | {statistics.median(seconds):.2f} ({max(seconds):.2f}) |")


if __name__ == "__main__":
    main()
