"""What is told of one run: facts, all curves, settings beside another run's, provenance, samples, the end of its log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dash import Patch, html

from cloze.dashboard import charts
from cloze.dashboard.index import Entry, Index
from cloze.dashboard.series import stamp, tail
from cloze.report.collect import Axis
from cloze.report.comparison import Arm
from cloze.report.figures import last_block, provenance
from cloze.schema import as_word


def showing(
    index: Index, name: str, other: str | None, axis: Axis, seen: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """A run's view; None where nothing has changed since `seen` (of the answer before)."""
    entry = index.find(name)
    if entry is None:
        gone = html.P(f"There is no run in {name} (any more).", className="fault")
        if seen and seen.get("gone") == name:
            return None
        return {"name": name, "status": "", "facts": gone, "seen": {"gone": name}}
    beside = index.find(other) if other != name else None
    stamps = [stamp(entry.run.folder / file) for file in ("samples.txt", "log.txt")]
    now = {
        "index": index.born,
        "asked": [name, other, axis],
        "versions": [entry.version, beside.version if beside else None],
        "texts": stamps,
    }
    # as JSON has it, where a tuple is a list
    if seen and all(seen.get(key) == value for key, value in _plain(now).items()):
        return None
    traces, layout = charts.overview(entry, beside, axis)
    names = [trace.drawn["uid"] for trace in traces]
    figure: Any = {"data": [trace.drawn for trace in traces], "layout": layout}
    if seen and seen.get("traces") == names and seen.get("index") == index.born and seen.get("asked") == now["asked"]:
        figure = Patch()
        for number, trace in enumerate(traces):
            figure["data"][number] = trace.drawn
    return {
        "name": entry.run.name,
        "status": html.Span(entry.status, className=f"status {entry.status}"),
        "facts": facts(entry),
        "figure": figure,
        "style": {"height": f"{layout['height']}px"},
        "settings": settings(entry, beside),
        "provenance": told_provenance(entry),
        "samples": samples(entry),
        "log": tail(entry.run.folder / "log.txt") or entry.log or "nothing yet",
        "seen": {**_plain(now), "traces": names},
    }


def _plain(now: Mapping[str, Any]) -> dict[str, Any]:
    return {**now, "texts": [list(map(str, each)) if each else None for each in now["texts"]]}


def facts(entry: Entry) -> list[Any]:
    """One line of what it is, and why it ended where it did not end well."""
    told = [str(entry.fact(key)) for key in ("model", "objective") if entry.fact(key)]
    if entry.place:
        told += [f"study {entry.place.study}", f"arm {entry.place.arm}"]
    if entry.seed is not None:
        told.append(f"seed {entry.seed}")
    budget = entry.fact("budget")
    steps = budget.get("steps") if isinstance(budget, dict) and entry.status != "done" else None
    for key, unit in (("step", "steps"), ("tokens", "tokens"), ("seconds", "s")):
        if (value := entry.count(key)) is not None:
            of = f" of {steps:,}" if key == "step" and isinstance(steps, int) else ""
            told.append(f"{value:,.0f}{of} {unit}")
    if entry.series.broken:
        told.append(f"{entry.series.broken} unreadable lines in metrics.jsonl")
    found: list[Any] = [html.P(" · ".join(told)), html.P(str(entry.run.folder), className="where")]
    if entry.reason:
        found.append(html.P(entry.reason, className="fault"))
    return found


def samples(entry: Entry) -> list[Any]:
    """What the model made of its examples at the last validation, and what it made of them before."""
    file = entry.run.folder / "samples.txt"
    text = tail(file)
    if not text:
        return [html.P("none yet", className="note")]
    found: list[Any] = []
    if (block := last_block(file)) is not None:
        rows = [html.Tr([html.Td(cell) for cell in row]) for row in block[1]]
        found += [
            html.P(f"step {block[0]}", className="note"),
            html.Div(html.Table(html.Tbody(rows)), className="boxed"),
        ]
    earlier = [html.Summary("samples.txt, its end"), html.Div(html.Pre(text), className="tail")]
    return [*found, html.Details(earlier, open=not found)]


def settings(entry: Entry, other: Entry | None) -> dict[str, Any]:
    """Rows and columns of the settings, with the other run's beside them."""
    keys = dict.fromkeys([*entry.settings, *(other.settings if other else ())])
    columns: list[dict[str, Any]] = [
        {"field": "setting", "headerName": "setting"},
        {"field": "value", "headerName": "this run"},
    ]
    if other:
        columns.append(
            {
                "field": "other",
                "headerName": other.id if other.run.name == entry.run.name else other.run.name,
                "headerTooltip": other.id,
            }
        )
    rows = []
    for key in sorted(keys):
        row = {"setting": key, "value": _word(entry, key)}
        if other:
            row["other"] = _word(other, key)
            row["differs"] = "yes" if row["other"] != row["value"] else ""
        rows.append(row)
    return {"rows": rows, "columns": columns}


def _word(entry: Entry, key: str) -> str:
    return as_word(entry.settings[key]) if key in entry.settings else "–"


def told_provenance(entry: Entry) -> Any:
    """Where it comes from, as the report tells it."""
    try:
        found = provenance(Arm(entry.run.name, [entry.run]))
    except (AttributeError, TypeError, ValueError, KeyError):  # run.json of something else, or written by hand
        return html.P("run.json's provenance cannot be read", className="fault")
    rows = [html.Tr([html.Th(key), html.Td(" · ".join(values))]) for key, values in found.items()]
    return html.Table(html.Tbody(rows), className="facts")
