"""What is drawn and told of the runs that are selected: curves, groups in figures, the settings that differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dash import Patch, html

from cloze.dashboard import charts, table
from cloze.dashboard.charts import Look
from cloze.dashboard.grouping import Group, grouped
from cloze.dashboard.index import Entry, Index
from cloze.dashboard.listing import digest
from cloze.dashboard.query import value_of
from cloze.schema import as_word

MOST = 200  # runs that are drawn together
NAMED = 5  # runs without a curve that are told by name
SIDE_BY_SIDE = 8  # groups whose settings stand side by side


def drawing(
    index: Index, drawn: Mapping[str, Any], look: Look, by: str | None, seen: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Curves and tables of the runs `drawn["ids"]`; None where nothing has changed since `seen` (of the answer before).

    Where the same lines are drawn as then, `figure` is a patch of those that have grown.
    """
    # the oldest first, so that a run that begins takes no line's colour
    entries = sorted(index.get(list(drawn.get("ids") or ())[:MOST]), key=lambda entry: (entry.began, entry.id))
    version = index.version
    asked = digest([drawn, look.metrics, look.axis, look.weight, look.log_x, look.log_y, by])
    same = seen is not None and seen.get("index") == index.born and seen.get("asked") == asked
    before = int(seen["version"]) if seen and same else None
    changed = {entry.id for entry in entries if before is None or entry.version > before}
    if before is not None and not changed and seen and len(entries) == seen.get("runs"):
        return None
    groups = grouped(entries, by)
    traces, layout = charts.comparison(groups, look)
    names = [trace.drawn["uid"] + trace.drawn["name"] for trace in traces]
    figure: Any
    if before is not None and seen and names == seen.get("traces"):
        figure = Patch()
        for number, trace in enumerate(traces):
            if trace.runs & changed:
                for key in ("x", "y", "mode", "customdata"):
                    if key in trace.drawn:
                        figure["data"][number][key] = trace.drawn[key]
    else:
        figure = {"data": [trace.drawn for trace in traces], "layout": layout}
    return {
        "figure": figure,
        "style": {"height": f"{layout['height']}px"},
        "note": _note(drawn, entries, groups, look),
        "groups": _groups(groups, look.metrics) if by else [],
        "differences": _differences(groups, by),
        "seen": {"index": index.born, "asked": asked, "version": version, "traces": names, "runs": len(entries)},
    }


def _note(drawn: Mapping[str, Any], entries: Sequence[Entry], groups: Sequence[Group], look: Look) -> str:
    if not entries:
        return "no run to draw"
    of = int(drawn.get("of") or len(entries))
    what = "selected" if drawn.get("selected") else "listed"
    told = [f"{len(entries)} {what} run{'' if len(entries) == 1 else 's'}"]
    if of > len(entries):
        told[0] = f"the first {len(entries)} of {of:,} {what} runs"
        if not drawn.get("selected"):
            told[0] += "; select some, or filter"
    if len(groups) < len(entries):
        told.append(
            "line: mean over a group's runs that are done (all, where none is), as far as all reach; band: ± one standard deviation"
        )
    if look.weight:
        told.append(f"smoothed exponentially by {look.weight:g}, each run by itself")
    if not look.metrics:
        told.append("choose a metric above")
    return " · ".join([*told, *_without(entries, groups, look)])


def _without(entries: Sequence[Entry], groups: Sequence[Group], look: Look) -> list[str]:
    """Which of the runs that would be drawn have no curve, of which metrics."""
    names = table.labels(entries)
    members = [entry for group in groups for entry in group.members]
    found: dict[tuple[str, ...], list[str]] = {}  # metrics by the runs that lack them
    for metric in look.metrics:
        if lacking := tuple(names[entry.id] for entry in members if not len(look.curve(entry, metric).x)):
            found.setdefault(lacking, []).append(metric)
    flops = " or FLOPs a token" if look.axis == "flops" else ""
    told = []
    for runs, metrics in found.items():
        who = "; ".join(runs[:NAMED]) + (f" and {len(runs) - NAMED:,} more" if len(runs) > NAMED else "")
        told.append(f"without {', '.join(metrics)}{flops}: {'all' if len(runs) == len(members) else who}")
    return told


def _groups(groups: Sequence[Group], metrics: Sequence[str]) -> list[Any]:
    entries = [entry for group in groups for entry in group.entries]
    wanted = list(dict.fromkeys([*metrics, *table.shown_columns(entries, settings=0, figures=6)]))
    rows = []
    for place, group in enumerate(groups):
        statuses = ", ".join(f"{n} {status}" for status, n in table.counts(group.entries))
        swatch = html.Span(className="swatch", style={"background": charts.COLOURS[place % len(charts.COLOURS)]})
        rows.append(
            html.Tr([html.Th([swatch, group.name]), html.Td(statuses), *(html.Td(group.figure(key)) for key in wanted)])
        )
    head = html.Tr([html.Th(name) for name in ("group", "runs", *wanted)])
    return [
        html.H3("Groups"),
        html.Div(html.Table([html.Thead(head), html.Tbody(rows)]), className="wide-table"),
        html.P(
            "The last figures: mean ± standard deviation over a group's runs that are done (all, where none is) and have the "
            "figure; in brackets how many these are, where a run is left out.",
            className="note",
        ),
    ]


def _differences(groups: Sequence[Group], by: str | None) -> list[Any]:
    """The settings in which the drawn runs differ, side by side where there are few of them, else how often each value is there."""
    entries = [entry for group in groups for entry in group.entries]
    if len(entries) < 2:
        return []
    keys = dict.fromkeys(key for entry in entries for key in entry.settings if key not in table.NAMES_ONLY)
    values = {key: [_word(entry, key) for entry in entries] for key in keys}
    differing = [key for key, found in values.items() if len(set(found)) > 1]
    if not differing:
        return [html.P("These runs have the same settings, but for seed and name.", className="note")]
    if len(groups) <= SIDE_BY_SIDE:
        head = [group.name for group in groups]
        rows = [
            [key, *(" | ".join(dict.fromkeys(_word(e, key) for e in group.entries)) for group in groups)]
            for key in differing
        ]
    else:
        head = ["values"]
        rows = [
            [key, ", ".join(f"{value} ({n}×)" for value, n in Counter(values[key]).most_common(12))]
            for key in differing
        ]
    body = [html.Tr([html.Th(key), *(html.Td(cell) for cell in cells)]) for key, *cells in rows]
    return [
        html.Details(
            [
                html.Summary(f"{len(differing)} setting{'' if len(differing) == 1 else 's'} differ"),
                html.Div(
                    html.Table([html.Thead(html.Tr([html.Th("setting"), *map(html.Th, head)])), html.Tbody(body)]),
                    className="wide-table",
                ),
            ],
            open=len(differing) <= 12,
        )
    ]


def _word(entry: Entry, key: str) -> str:
    return as_word(value_of(entry, key)) if key in entry.settings else "–"
