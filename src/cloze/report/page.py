"""A comparison, or one run, as one HTML file with its data inside: it opens from a disk and asks no network for anything."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from typing import Any

from cloze.report import figures, tables
from cloze.report.collect import Run
from cloze.report.comparison import Arm, Comparison
from cloze.report.metrics import described

_SECTIONS = {
    "verdicts": "verdicts", "results": "results", "scores": "scores of tasks", "published": "published", "charts": "curves",
    "settings": "settings", "samples": "samples", "provenance": "provenance", "config": "configuration", "log": "log",
}  # fmt: skip


def page(comparison: Comparison, run: Run | None = None) -> str:
    """The page of a comparison; with `run`, of that one run, whose configuration, figures and log it then has too.

    Texts are escaped by the template; the data are JSON in which no `<` is left, so that no name and no text can end a script.
    """
    from jinja2 import Environment

    if run is not None and not any(
        arm.runs for arm in comparison.arms
    ):  # it goes on, or it failed: it is shown all the same
        comparison = replace(comparison, arms=[Arm(run.name, [run])], cells={}, metrics=[])
    data = _data(comparison)
    template = Environment(autoescape=True, trim_blocks=True).from_string(_asset("page.html"))
    content = _content(comparison, run, data)
    content["sections"] = [(name, word) for name, word in _SECTIONS.items() if content["has"][name]]
    return template.render(
        **content,
        data=embedded(data),
        css=_asset("page.css"),
        js=_asset("page.js"),
        plotly=_plotly() if content["has_curves"] else "",
    )


def embedded(data: Any) -> str:
    """JSON that can stand between script tags."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=str, allow_nan=False)
    for each in "<>&\u2028\u2029":
        text = text.replace(each, f"\\u{ord(each):04x}")
    return text


def _asset(name: str) -> str:
    return resources.files("cloze.report").joinpath("assets", name).read_text(encoding="utf-8")


def _plotly() -> str:
    """Plotly's JavaScript, which its package brings."""
    text = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script")


def _data(comparison: Comparison) -> dict[str, Any]:
    """What the page's script reads: all of the comparison, and the curves."""
    arms: list[dict[str, Any]] = []
    thinned = False
    for arm in comparison.arms:
        runs, cut = figures.curves(arm)
        arms.append({"name": arm.name, "runs": runs})
        thinned |= cut
    judged = [metric.key for metric in comparison.metrics]
    drawn = figures.metrics_in([run for arm in arms for run in arm["runs"]], judged)
    known = {metric.key: metric.higher_is_better for metric in comparison.metrics}
    sides = {key: known[key] if known.get(key) is not None else described(key).higher_is_better for key in drawn}
    own = [key for key in drawn if ":" not in key]  # an evaluation's points say its own compute alone
    return {
        "comparison": tables.content(comparison),
        "arms": arms,
        "thinned": thinned,
        "torn": [
            f"{run.folder} ({torn})" for arm in comparison.arms for run in arm.runs if (torn := run.unreadable_lines())
        ],
        "points": figures.POINTS,
        "curve_metrics": drawn,
        "frontier_metrics": own,
        "lower": {
            key: not side for key, side in sides.items()
        },  # of a metric with no good side, the lower end is drawn
        "objectives": sorted({_objective(run) for arm in comparison.arms for run in arm.runs}),
        "parallel": figures.parallel(comparison),
    }


def _content(comparison: Comparison, run: Run | None, data: Mapping[str, Any]) -> dict[str, Any]:
    from cloze import __version__

    runs = sum(len(arm.runs) for arm in comparison.arms)
    head, rows = figures.differences(comparison)
    names, paper, note = tables.published(comparison)
    shown = {
        "title": comparison.title,
        "question": comparison.question,
        "paper": {key: str(value) for key, value in comparison.paper.items() if value},
        "counts": f"{_count(len(comparison.arms), 'arm')}, {_count(runs, 'run')}" if run is None else _told(run),
        "version": __version__,
        "written": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "baseline": comparison.baseline if len(comparison.arms) > 1 else None,
        "arms": [arm.name for arm in comparison.arms],
        "verdicts": tables.verdicts(comparison),
        "remarks": list(comparison.remarks),
        "matrix": _matrix(comparison),
        "details": {"head": tables.DETAILS, "rows": tables.details(comparison)},
        "scores": _scores(comparison),
        "published": _published(comparison, names, paper, note) if paper else None,
        "has_curves": bool(data["curve_metrics"]),
        "differences": {"head": head, "rows": rows},
        "samples": _samples(comparison.arms),
        "provenance": _provenance(comparison.arms),
        "figures": [] if run is None else [[key, f"{value:.6g}"] for key, value in run.figures.items()],
        "config": [] if run is None else [[key, figures.readable(value)] for key, value in run.settings.items()],
        "log": [] if run is None else figures.log_tail(run),
    }
    there = {"results": True, "provenance": True, "charts": shown["has_curves"], "settings": bool(rows)}
    return {**shown, "has": {name: there.get(name, bool(shown.get(name))) for name in _SECTIONS}}


def _objective(run: Run) -> str:
    terms = sorted(key.removeprefix("val/loss_") for key in run.figures if key.startswith("val/loss_"))
    return f"{run.facts.get('objective')}{' of ' if terms else ''}{' and '.join(terms)}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _told(run: Run) -> str:
    what = ", ".join(str(run.facts[key]) for key in ("model", "objective") if run.facts.get(key))
    parts = [what, "" if run.seed is None else f"seed {run.seed}", run.status, run.reason]
    return " · ".join(part for part in parts if part)


def _matrix(comparison: Comparison) -> dict[str, Any]:
    rows = [
        {
            "arm": arm.name,
            "seeds": tables.seeds_of(comparison, arm),
            "n": len(arm.runs),
            "absent": [_absence(each) for each in arm.absent],
            "cells": [_cell(cell) for cell in cells],
        }
        for arm, cells in tables.matrix(comparison)
    ]
    return {
        "columns": [tables.heading(metric) for metric in comparison.metrics],
        "rows": rows,
        "legend": tables.legend(comparison),
    }


def _absence(each: Any) -> str:
    seed = "" if each.seed is None else f"seed {each.seed} "
    return f"{seed}{each.evaluation + ' ' if each.evaluation else ''}{each.status}"


def _cell(cell: tables.Shown) -> dict[str, Any]:
    plain = {name: getattr(cell, name) for name in ("key", "mean", "interval", "difference", "best")}
    return {**plain, "sort": "" if cell.value is None else repr(cell.value)}


def _scores(comparison: Comparison) -> dict[str, Any] | None:
    """The figures of tasks alone, as GLUE's table has them, where there are several beside others."""
    kept = [n for n, metric in enumerate(comparison.metrics) if "score/" in metric.key]
    if len(kept) < 2 or len(kept) == len(
        comparison.metrics
    ):  # one column is no table; where all are of tasks, the table above is it
        return None
    rows = [{"arm": arm.name, "cells": [_cell(cells[n]) for n in kept]} for arm, cells in tables.matrix(comparison)]
    legend = "mean ± sample standard deviation over seeds, [95 % interval of the mean]; best mean in bold."
    return {"columns": [tables.heading(comparison.metrics[n]) for n in kept], "rows": rows, "legend": legend}


def _published(comparison: Comparison, head: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> dict[str, Any]:
    ours = [[arm.name, *(cell.mean for cell in cells)] for arm, cells in tables.matrix(comparison)]
    ours_head = ["", *(tables.heading(metric) for metric in comparison.metrics)]
    return {"head": head, "rows": rows, "note": note, "ours_head": ours_head, "ours": ours}


def _samples(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    found = []
    for table in figures.samples(arms):
        names = [
            (name, f"seed {told['seed']}, step {told['step']}" if told["seed"] is not None else f"step {told['step']}")
            for name, told in table["arms"].items()
        ]
        found.append({"names": names, "rows": table["rows"]})
    return found


def _provenance(arms: Sequence[Arm]) -> list[tuple[str, list[list[str]]]]:
    each = [figures.provenance(arm) for arm in arms]
    keys = list(dict.fromkeys(key for found in each for key in found))
    return [(key, [found.get(key, []) for found in each]) for key in keys]
