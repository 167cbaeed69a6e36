"""Curves as plotly.js draws them: plain dictionaries, no more points than a screen can show, the colours of the report's page."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cloze.dashboard.grouping import Group
from cloze.dashboard.index import Entry
from cloze.dashboard.lines import joined, packed, places, smoothed
from cloze.dashboard.table import ordered
from cloze.report.collect import Axis, Curve

COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#777777",
)  # Okabe and Ito's, as report/assets/page.css
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
TITLES: Mapping[Axis, str] = {"step": "steps", "tokens": "tokens", "flops": "FLOPs", "seconds": "seconds"}
POINTS = 1000  # of a line at most
ALL_POINTS = 25_000  # of all lines together: what a browser redraws in well under a second
TEXT, QUIET, RULE = "#1b1f24", "#59636e", "#e4e8ec"


@dataclass(frozen=True)
class Look:
    """How curves are drawn. `weight` is the smoothing, 0 (none) to below 1."""

    metrics: Sequence[str]
    axis: Axis = "step"
    weight: float = 0.0
    log_x: bool = False
    log_y: bool = False

    def curve(self, entry: Entry, metric: str) -> Curve:
        """A run's points of a metric over the axis, not smoothed: none where it lacks either."""
        return entry.series.curve(metric, self.axis, entry.run.facts)


@dataclass(frozen=True)
class Trace:
    """One line or band: what plotly.js gets, and the runs that decide it."""

    drawn: dict[str, Any]
    runs: frozenset[str]


def comparison(groups: Sequence[Group], look: Look) -> tuple[list[Trace], dict[str, Any]]:
    """A line for each group, with a band where several runs are in it, in a plot for each metric; and the layout."""
    lines = len(groups) * max(1, len(look.metrics))
    most = int(np.clip(ALL_POINTS // max(1, lines), 100, POINTS))
    traces, told = [], set()
    for number, metric in enumerate(look.metrics):
        for place, group in enumerate(groups):
            for trace in _of_group(group, place, metric, look, most):
                trace.drawn.update(xaxis=_axis("x", number), yaxis=_axis("y", number))
                if trace.drawn["showlegend"]:
                    trace.drawn["showlegend"] = group.name not in told
                    told.add(group.name)
                traces.append(trace)
    return traces, _layout(
        look.metrics, look, columns=1 if len(look.metrics) < 2 else 2, height=370, legend=len(groups) > 1
    )


def overview(entry: Entry, other: Entry | None = None, axis: Axis = "step") -> tuple[list[Trace], dict[str, Any]]:
    """All metrics of a run, a small plot each; another run's beside them, where it has the same."""
    metrics = ordered(entry.series.metrics)
    runs = [(entry, COLOURS[0], "this run")]
    if other is not None:
        runs.append((other, COLOURS[1], other.id if other.run.name == entry.run.name else other.run.name))
    traces = []
    for number, metric in enumerate(metrics):
        for run, colour, name in runs:
            curve = run.series.curve(metric, axis, run.run.facts)
            line = _line(curve, name, colour, "solid", 400, f"{metric}|{run.id}")
            line |= {
                "xaxis": _axis("x", number),
                "yaxis": _axis("y", number),
                "showlegend": number == 0,
                "legendgroup": name,
            }
            traces.append(Trace(line, frozenset([run.id])))
    look = Look(metrics, axis)
    layout = _layout(metrics, look, columns=3, height=210, legend=other is not None)
    layout["margin"]["t"] = 50
    layout["legend"] |= {
        "orientation": "h",
        "x": 0.5,
        "xanchor": "center",
        "y": 1 + 22 / layout["height"],
        "yanchor": "bottom",
    }
    return traces, layout


def _of_group(group: Group, place: int, metric: str, look: Look, most: int) -> list[Trace]:
    colour, dash = COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]
    curves = [smoothed(look.curve(entry, metric), look.weight) for entry in group.members]
    curves = [curve for curve in curves if len(curve.x)]
    title = group.title(len(curves))
    runs = frozenset(entry.id for entry in group.entries)
    key = f"{metric}|{group.name}"
    if not curves:
        return []
    if len(curves) == 1:
        line = _line(curves[0], title, colour, dash, most, key)
        return [Trace(line | {"legendgroup": group.name}, runs)]
    band = joined(curves)
    kept = places(band.mean, most)
    x, mean, deviation, n = band.x[kept], band.mean[kept], band.deviation[kept], band.n[kept]
    line = _line(Curve(x, mean), title, colour, dash, most, key)
    line |= {"customdata": np.stack([deviation, n], axis=1).tolist(), "legendgroup": group.name}
    line["hovertemplate"] = (
        f"{_safe(title)}<br>%{{y:.5~g}} ± %{{customdata[0]:.2~g}} over %{{customdata[1]}} runs at %{{x:,}}<extra></extra>"
    )
    low = mean - deviation
    if look.log_y:
        low = np.where(low > 0, low, mean)
    shade = {
        "type": "scatter",
        "mode": "lines",
        "x": packed(np.concatenate([x, x[::-1]])),
        "y": packed(np.concatenate([mean + deviation, low[::-1]])),
        "fill": "toself",
        "fillcolor": _faint(colour),
        "line": {"width": 0},
        "hoverinfo": "skip",
        "name": title,
        "legendgroup": group.name,
        "showlegend": False,
        "uid": _uid(f"{key}|band"),
        "meta": f"{key}|band",
    }
    return [Trace(shade, runs), Trace(line, runs)]


def _line(curve: Curve, name: str, colour: str, dash: str, most: int, key: str) -> dict[str, Any]:
    kept = places(curve.y, most)
    x, y = curve.x[kept], curve.y[kept]
    return {
        "type": "scatter",
        "mode": "lines" if len(x) > 1 else "markers",
        "x": packed(x),
        "y": packed(y),
        "name": _safe(name),
        "line": {"color": colour, "width": 1.6, "dash": dash},
        "marker": {"color": colour, "size": 6},
        "hovertemplate": f"{_safe(name)}<br>%{{y:.5~g}} at %{{x:,}}<extra></extra>",
        "showlegend": True,
        "uid": _uid(key),
        "meta": key,
    }


def _layout(metrics: Sequence[str], look: Look, columns: int, height: int, legend: bool) -> dict[str, Any]:
    rows = max(1, -(-len(metrics) // columns))
    gap_x, gap_y = 0.055, 62 / (height * rows)
    wide, high = (1 - gap_x * (columns - 1)) / columns, (1 - gap_y * (rows - 1)) / rows
    layout: dict[str, Any] = {
        "height": height * rows + 40,
        "margin": {"l": 55, "r": 15, "t": 28, "b": 45},
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": TEXT},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#9aa4ae", "activecolor": QUIET},
        "hoverlabel": {"namelength": -1},
        "showlegend": legend,
        "legend": {"font": {"size": 11}, "tracegroupgap": 0, "itemsizing": "constant"},
        # zoom and what was switched off stay while a run goes on, and go where other things are drawn
        "uirevision": "|".join([*metrics, look.axis, str(look.log_x), str(look.log_y)]),
        "annotations": [],
    }
    for number, metric in enumerate(metrics):
        row, column = divmod(number, columns)
        left, top = column * (wide + gap_x), 1 - row * (high + gap_y)
        lowest = number + columns >= len(metrics)
        common = {"gridcolor": RULE, "linecolor": RULE, "zeroline": False, "automargin": True, "exponentformat": "SI"}
        layout[_axis("xaxis", number)] = common | {
            "domain": [left, min(1.0, left + wide)],
            "anchor": _axis("y", number),
            "type": "log" if look.log_x else "linear",
            "title": {"text": TITLES[look.axis] if lowest else "", "font": {"size": 11, "color": QUIET}, "standoff": 4},
        }
        layout[_axis("yaxis", number)] = common | {
            "domain": [max(0.0, top - high), top],
            "anchor": _axis("x", number),
            "type": "log" if look.log_y else "linear",
        }
        layout["annotations"].append(
            {
                "text": f"<b>{_safe(metric)}</b>",
                "x": left,
                "y": top,
                "xref": "paper",
                "yref": "paper",
                "xanchor": "left",
                "yanchor": "bottom",
                "yshift": 4,
                "showarrow": False,
            }
        )
    return layout


def _axis(name: str, number: int) -> str:
    return name if number == 0 else f"{name}{number + 1}"


def _uid(key: str) -> str:
    """What plotly.js knows a line by from one drawing to the next; it makes CSS of it."""
    return f"line{zlib.crc32(key.encode()):08x}"


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"


def _safe(text: str) -> str:
    """plotly.js reads some HTML in its texts; a run's name is none."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "% {")
