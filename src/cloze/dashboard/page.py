"""The page: what is where. It is made anew at every load, with the runs that are there and the state that the address says."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dash_ag_grid as dag
from dash import dcc, html

from cloze.dashboard import table
from cloze.dashboard.charts import TITLES
from cloze.dashboard.grouping import ARM, CONFIGURATION
from cloze.dashboard.index import Entry, Index
from cloze.dashboard.state import State

POLL = 2000  # milliseconds between two looks
GRID = {
    "suppressFieldDotNotation": True,  # keys have dots
    "tooltipShowDelay": 400,
    "rowHeight": 30,
    "headerHeight": 34,
    "animateRows": False,
    "multiSortKey": "ctrl",
    "localeText": {"noRowsToShow": "nothing to show"},
}


def page(index: Index, state: State, listed: dict[str, Any]) -> Any:
    """Everything. `listed` is what the list begins with: rows, columns, what was seen."""
    entries = index.all()
    return html.Div(
        [
            dcc.Location(id="location", refresh=False),
            # one each: it stands still while its answer is being made, for a later question makes the page forget an earlier one
            *(dcc.Interval(id=f"tick-{part}", interval=POLL) for part in ("list", "chart", "run")),
            dcc.Store(id="said", data=state.filter),  # the filter, a moment after the last key
            dcc.Store(id="opened", data=state.run),
            dcc.Store(id="seen", data=listed["seen"]),
            dcc.Store(id="drawn"),
            dcc.Store(id="chart-seen"),
            dcc.Store(id="run-seen"),
            dcc.Store(id="address"),
            html.Header(
                [
                    html.H1("Cloze"),
                    html.Span(f"runs below {index.root}", className="where", title=str(index.root)),
                    html.Div(id="counts", children=listed["counts"]),
                ]
            ),
            html.Main(_overview(index, entries, state, listed), id="overview"),
            html.Main(_run_view(entries, state), id="run-view", style={"display": "none"}),
        ]
    )


def _overview(index: Index, entries: Sequence[Entry], state: State, listed: dict[str, Any]) -> list[Any]:
    choices = options(entries)
    return [
        html.Div(first_run(index.root), id="empty", style={"display": "none" if entries else "block"}),
        html.Div(id="studies", children=listed["studies"]),
        html.Div(
            [
                _labelled(
                    "Filter",
                    dcc.Input(
                        id="filter",
                        value=state.filter,
                        debounce=True,  # else it can take back keys typed meanwhile; assets/dashboard.js hears every key
                        type="search",
                        placeholder="sop val/loss<2.1 seed=1,2 status!=failed",
                        spellCheck="false",
                        autoComplete="off",
                    ),
                    "wide",
                ),
                _labelled(
                    "Group by",
                    dcc.Dropdown(
                        id="group", options=choices["group"], value=state.group, placeholder="nothing: a line a run"
                    ),
                ),
                _labelled(
                    "Columns",
                    dcc.Dropdown(
                        id="columns",
                        options=choices["columns"],
                        value=listed["columns"],
                        multi=True,
                        placeholder="any setting or figure",
                    ),
                ),
            ],
            className="controls",
        ),
        html.Div(listed["note"], id="filter-note", className="note"),
        dag.AgGrid(
            id="runs",
            rowData=listed["rowData"],
            columnDefs=listed["columnDefs"],
            defaultColDef={"sortable": True, "resizable": True, "filter": "agTextColumnFilter"},
            getRowId="params.data.id",
            selectedRows={"ids": list(state.select)} if state.select else [],
            dashGridOptions={
                **GRID,
                "rowSelection": {"mode": "multiRow", "selectAll": "filtered"},
                "selectionColumnDef": {"pinned": "left", "width": 42},
            },
            style={"height": "clamp(190px, 34vh, 420px)"},
        ),
        html.Div(
            [
                _labelled(
                    "Curves",
                    dcc.Dropdown(
                        id="metrics",
                        options=choices["metrics"],
                        value=listed["metrics"],
                        multi=True,
                        placeholder="which metrics",
                    ),
                    "wide",
                ),
                _labelled("Over", _axis("axis", state.axis), "narrow"),
                _labelled(
                    "Smoothing",
                    dcc.Slider(
                        id="smooth",
                        min=0,
                        max=0.99,
                        step=0.01,
                        value=state.smooth,
                        marks=None,
                        allow_direct_input=False,
                        tooltip={"placement": "bottom"},
                    ),
                ),
                _labelled(
                    "Logarithmic",
                    dcc.Checklist(
                        id="log",
                        options=[{"label": "x", "value": "x"}, {"label": "y", "value": "y"}],
                        value=list(state.log),
                        inline=True,
                    ),
                    "narrow",
                ),
            ],
            className="controls",
        ),
        html.Div(id="chart-note", className="note"),
        dcc.Graph(id="chart", config=chart_config(), responsive=True),
        html.Div(id="groups"),
        html.Div(id="differences"),
    ]


def _run_view(entries: Sequence[Entry], state: State) -> list[Any]:
    return [
        html.Div(
            [
                html.Button("‹ all runs", id="back"),
                html.H2(id="run-name"),
                html.Span(id="run-status"),
            ],
            className="title",
        ),
        html.Div(id="run-facts"),
        html.Div(
            [
                _labelled(
                    "Beside another run",
                    dcc.Dropdown(
                        id="other", options=run_options(entries), value=state.other, placeholder="none: choose one"
                    ),
                    "wide",
                ),
                _labelled("Over", _axis("run-axis", state.axis), "narrow"),
            ],
            className="controls",
        ),
        dcc.Graph(id="run-chart", config=chart_config(), responsive=True),
        html.Div(
            [
                html.Section(
                    [
                        html.H3("Settings"),
                        html.Div(
                            [
                                dcc.Input(
                                    id="config-filter", type="search", placeholder="look for a setting or a value"
                                ),
                                dcc.Checklist(id="only-other", options=["only what differs"], value=[], inline=True),
                            ],
                            className="row",
                        ),
                        dag.AgGrid(
                            id="config",
                            rowData=[],
                            columnDefs=[],
                            defaultColDef={"sortable": True, "resizable": True, "flex": 1},
                            getRowId="params.data.setting",
                            dashGridOptions={**GRID, "rowHeight": 27},
                            style={"height": "420px"},
                        ),
                    ]
                ),
                html.Section([html.H3("Provenance"), html.Div(id="provenance")]),
                html.Section([html.H3("Samples"), html.Div(id="samples")]),
                html.Section([html.H3("Log"), html.Div(html.Pre(id="log-tail"), className="tail")]),
            ],
            className="sections",
        ),
    ]


def options(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """What the drop-downs offer."""
    settings, figures = table.keys(entries)
    group = [{"label": "configuration: all but the seed", "value": CONFIGURATION}]
    if any(entry.place for entry in entries):
        group.append({"label": "study's arm", "value": ARM})
    group += [{"label": key, "value": key} for key in ("model", "objective", "status", *settings)]
    metrics = [key for key in figures if not key.startswith("score/")]
    return {"group": group, "columns": [*figures, *settings], "metrics": metrics}


def run_options(entries: Sequence[Entry]) -> list[dict[str, str]]:
    """Every run, by name and folder."""
    return [
        {"label": entry.id if entry.run.name in entry.id else f"{entry.run.name} · {entry.id}", "value": entry.id}
        for entry in entries
    ]


def first_run(root: Path) -> list[Any]:
    """What is said where there is no run yet."""
    usual = root.name == "outputs"
    word = "" if usual else f" output_dir={shlex.quote(str(root / 'first'))}"
    return [
        html.P("There is no run here yet. This trains a small BERT on generated text in about three minutes:"),
        html.Pre(f"python train.py{word}"),
        html.P("It will be on this page a moment after it has begun."),
    ]


def chart_config() -> Any:
    """Of plotly.js: without its button that sends a figure to its maker's server."""
    return {
        "showSendToCloud": False,
        "plotlyServerURL": "",
        "displaylogo": False,
        "responsive": True,
        "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "sendChartToCloud"],
    }


def _axis(name: str, value: str) -> Any:
    return dcc.RadioItems(
        id=name,
        options=[{"label": title, "value": axis} for axis, title in TITLES.items()],
        value=value,
        inline=True,
    )


def _labelled(title: str, control: Any, kind: str = "") -> Any:
    return html.Div([html.Label(title, htmlFor=control.id), control], className=f"control {kind}")
