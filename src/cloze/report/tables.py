"""A comparison as tables: how its figures read, once for terminal, page, Markdown and LaTeX; and as CSV and JSON with all digits."""

from __future__ import annotations

import csv as csv_files
import io
import json as json_texts
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloze.report.comparison import Arm, Cell, Comparison, Metric
from cloze.report.words import MINUS, NONE, change, decimals, figure, number, p_value, signed

FORMAT = 1  # of the JSON file
DETAILS = (
    "metric", "arm", "seeds", "mean", "deviation", "95 % from", "to", "difference", "95 % from", "to", "p", "p (Holm)", "p (permutation)",
    "smallest such p", "bootstrap from", "to", "effect", "detectable",
)  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """A cell as it reads. `value` is its mean with all digits, None where there is no figure."""

    key: str
    mean: str
    interval: str
    difference: str
    best: bool
    value: float | None

    @property
    def lines(self) -> list[str]:
        """What there is, a line each."""
        return [each for each in (self.mean, self.interval, self.difference) if each]


def matrix(comparison: Comparison) -> list[tuple[Arm, list[Shown]]]:
    """A row for each arm: its cells in the order of the metrics."""
    columns = [shown_cells(comparison, metric) for metric in comparison.metrics]
    return [(arm, [column[arm.name] for column in columns]) for arm in comparison.arms]


def shown_cells(comparison: Comparison, metric: Metric) -> dict[str, Shown]:
    """A metric's cells, by arm."""
    cells = comparison.cells.get(metric.key, {})
    digits, winners = digits_of(cells), best_of(cells, metric)
    found = {}
    for arm in comparison.arms:
        cell = cells.get(arm.name)
        summary = cell.summary if cell else None
        found[arm.name] = Shown(
            key=metric.key,
            mean=figure(summary, digits),
            interval=_interval(summary.low, summary.high, digits) if summary else "",
            difference=_difference(cell, digits) if cell else "",
            best=arm.name in winners,
            value=summary.mean if summary else None,
        )
    return found


def digits_of(cells: Mapping[str, Cell]) -> int:
    """Digits after the point of a metric's column: two significant ones of the middle deviation."""
    spreads = [cell.summary.deviation for cell in cells.values() if cell.summary and cell.summary.deviation]
    return decimals(statistics.median(spreads)) if spreads else 3


def best_of(cells: Mapping[str, Cell], metric: Metric) -> set[str]:
    """The arms with the best mean, where there are several arms to choose from and one side is the good one."""
    means = {name: cell.summary.mean for name, cell in cells.items() if cell.summary}
    if len(means) < 2 or metric.higher_is_better is None:
        return set()
    top = (max if metric.higher_is_better else min)(means.values())
    return {name for name, mean in means.items() if mean == top}


def _interval(low: float | None, high: float | None, digits: int) -> str:
    return "" if low is None or high is None else f"[{number(low, digits)}, {number(high, digits)}]"


def _difference(cell: Cell, digits: int) -> str:
    found = cell.difference
    if found is None:
        return ""
    shown = max(digits, decimals(found.half)) if found.half else digits
    return change(found, shown) + (f", {p_value(found.p_holm)}" if found.p_holm is not None else "")


def heading(metric: Metric) -> str:
    """A metric's title with its unit and an arrow to the good side."""
    arrow = {True: " ↑", False: " ↓", None: ""}[metric.higher_is_better]
    return metric.title + (f" ({metric.unit})" if metric.unit else "") + arrow


def seeds_of(comparison: Comparison, arm: Arm) -> str:
    """How many seeds an arm's figures are of: `3`, or `2–3` where that goes by the metric."""
    counts = sorted(
        {found.summary.n for each in comparison.cells.values() if (found := each.get(arm.name)) and found.summary}
    )
    if not counts:
        return "0" if comparison.metrics else str(len(arm.runs))
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"


def legend(comparison: Comparison) -> str:
    """What the lines of a cell are; empty where there are none."""
    if not comparison.metrics:
        return ""
    several = any(cell.summary and cell.summary.n > 1 for cells in comparison.cells.values() for cell in cells.values())
    parts = ["mean ± sample standard deviation over seeds, [95 % interval of the mean]"] if several else ["one seed"]
    if comparison.baseline is not None and any(
        cell.difference for cells in comparison.cells.values() for cell in cells.values()
    ):
        parts.append(f"difference to {comparison.baseline} ± half of its 95 % interval, p after Holm’s correction")
    if any(best_of(comparison.cells.get(metric.key, {}), metric) for metric in comparison.metrics):
        parts.append("best mean in bold; ↑ higher is better, ↓ lower")
    return "; ".join(parts) + "."


def verdicts(comparison: Comparison) -> list[str]:
    """All verdicts, the metric to judge by first, each with its arm's name."""
    found = []
    for metric in comparison.metrics:
        for arm in comparison.arms:
            cell = comparison.cells.get(metric.key, {}).get(arm.name)
            if cell and cell.verdict:
                named = cell.verdict.startswith((f"{arm.name} ", "no run of "))
                found.append(cell.verdict if named else f"{arm.name}: {cell.verdict}")
    return found


def details(comparison: Comparison) -> list[list[str]]:
    """Every figure, a row for each metric of each arm, under `DETAILS`."""
    rows = []
    for metric in comparison.metrics:
        cells = comparison.cells.get(metric.key, {})
        digits = digits_of(cells) + 1
        for arm in comparison.arms:
            cell = cells.get(arm.name)
            if cell is None or cell.summary is None:
                rows.append([metric.title, arm.name, "0", *[NONE] * (len(DETAILS) - 3)])
                continue
            s, d = cell.summary, cell.difference
            row = [
                metric.title,
                arm.name,
                str(s.n),
                *(number(each, digits) for each in (s.mean, s.deviation, s.low, s.high)),
            ]
            if d is None:
                rows.append(row + [NONE] * (len(DETAILS) - len(row)))
                continue
            low, high = d.bootstrap or (None, None)
            row += [signed(each, digits) for each in (d.mean, d.low, d.high)]
            row += [_bare_p(each) for each in (d.p, d.p_holm, d.p_permutation, d.p_reachable)]
            row += [signed(low, digits), signed(high, digits), signed(d.effect, 2), number(d.detectable, digits)]
            rows.append(row)
    return rows


def _bare_p(p: float | None) -> str:
    return p_value(p).removeprefix("p=").removeprefix("p")


def paper_of(comparison: Comparison) -> str:
    """Whose question it is, with its address; empty where the study names none."""
    found = [str(comparison.paper[key]) for key in ("title", "url") if comparison.paper.get(key)]
    return ", ".join(found)


def published(comparison: Comparison) -> tuple[list[str], list[list[str]], str]:
    """The paper's table as the study has it: head, rows, note. Empty rows where there is none."""
    table = comparison.published
    rows = [[str(name), *(_plain(value) for value in values)] for name, values in (table.get("rows") or {}).items()]
    width = max((len(row) for row in rows), default=1)
    head = ["", *map(str, table.get("columns") or ())]
    return (
        (head + [""] * width)[: max(width, len(head))],
        [row + [""] * (width - len(row)) for row in rows],
        str(table.get("note") or ""),
    )


def _plain(value: Any) -> str:
    return NONE if value is None else str(value).replace("-", MINUS) if isinstance(value, int | float) else str(value)


# --- for programs -------------------------------------------------------------------------------------------------------------


def csv(comparison: Comparison) -> str:
    """One line a figure, with all digits: metric, arm, figure, seed, value, note.

    `figure` is `value` (of one seed), a field of `Summary` or `difference.` and one of `Difference`; `verdict` and `absent` have words
    in `note`.
    """
    stream = io.StringIO()
    writer = csv_files.writer(stream, lineterminator="\n")
    writer.writerow(["metric", "arm", "figure", "seed", "value", "note"])
    for metric in comparison.metrics:
        for arm in comparison.arms:
            cell = comparison.cells.get(metric.key, {}).get(arm.name)
            if cell is None:
                continue
            content = _cell(cell)
            for seed, value in (content["summary"] or {"values": {}})["values"].items():
                writer.writerow([metric.key, arm.name, "value", seed, value, ""])
            named = {k: v for k, v in (content["summary"] or {}).items() if k != "values"}
            named |= {f"difference.{k}": v for k, v in (content["difference"] or {}).items()}
            for name, value in named.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    writer.writerow([metric.key, arm.name, name, "", value, ""])
            if cell.verdict:
                writer.writerow([metric.key, arm.name, "verdict", "", "", cell.verdict])
            for each in cell.absent:
                writer.writerow([metric.key, arm.name, "absent", _seed(each.seed), "", f"{each.status}: {each.reason}"])
    for arm in comparison.arms:
        for each in arm.absent:
            note = ": ".join(filter(None, (each.evaluation, each.status, each.reason)))
            writer.writerow(["", arm.name, "absent", _seed(each.seed), "", note])
    return stream.getvalue()


def _seed(seed: int | None) -> int | str:
    return "" if seed is None else seed


def content(comparison: Comparison) -> dict[str, Any]:
    """The whole comparison as plain data, nothing rounded."""
    found = {
        "format": FORMAT,
        "title": comparison.title,
        "question": comparison.question,
        "baseline": comparison.baseline,
        "metrics": [
            {"key": m.key, "title": m.title, "higher_is_better": m.higher_is_better, "unit": m.unit} for m in comparison.metrics
        ],
        "arms": [_arm(arm) for arm in comparison.arms],
        "cells": {
            key: {name: _cell(cell) for name, cell in cells.items()} for key, cells in comparison.cells.items()
        },
        "remarks": list(comparison.remarks),
        "published": dict(comparison.published),
        "paper": dict(comparison.paper),
    }  # fmt: skip
    return {name: _finite(value) for name, value in found.items()}


def json(comparison: Comparison) -> str:
    """`content` as readable JSON."""
    return json_texts.dumps(content(comparison), indent=2, ensure_ascii=False, default=str) + "\n"


def _arm(arm: Arm) -> dict[str, Any]:
    runs = [{"name": run.name, "folder": str(run.folder), "seed": run.seed, "status": run.status} for run in arm.runs]
    return {
        "name": arm.name,
        "differs": dict(arm.differs),
        "runs": runs,
        "absent": [_absent(each) for each in arm.absent],
    }


def _absent(each: Any) -> dict[str, Any]:
    return {"seed": each.seed, "status": each.status, "reason": each.reason, "evaluation": each.evaluation}


def _cell(cell: Cell) -> dict[str, Any]:
    summary, difference = cell.summary, cell.difference
    return {
        "summary": None if summary is None else {
            "values": {str(seed): value for seed, value in summary.values.items()},
            "n": summary.n, "mean": summary.mean, "deviation": summary.deviation, "low": summary.low, "high": summary.high,
        },
        "difference": None if difference is None else {
            "n": difference.n, "mean": difference.mean, "low": difference.low, "high": difference.high,
            "bootstrap_low": difference.bootstrap[0] if difference.bootstrap else None,
            "bootstrap_high": difference.bootstrap[1] if difference.bootstrap else None,
            "p": difference.p, "p_holm": difference.p_holm,
            "p_permutation": difference.p_permutation, "p_reachable": difference.p_reachable,
            "effect": difference.effect, "detectable": difference.detectable, "deviation": difference.deviation,
            "paired": difference.paired, "seeds": list(difference.seeds), "n_arm": difference.n_arm, "n_baseline": difference.n_baseline,
            "unjudged": difference.unjudged, "claimed": difference.claimed,
        },
        "verdict": cell.verdict,
        "absent": [_absent(each) for each in cell.absent],
    }  # fmt: skip


def _finite(node: Any) -> Any:
    """With the names of numbers that JSON does not know (`inf`)."""
    if isinstance(node, dict):
        return {str(key): _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    return str(node) if isinstance(node, float) and not math.isfinite(node) else node
