"""The Dash application: which change on the page asks for what. What is answered is put together in listing, drawing and showing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, no_update
from dash.exceptions import PreventUpdate

from cloze.dashboard import page, state
from cloze.dashboard.charts import Look
from cloze.dashboard.drawing import drawing
from cloze.dashboard.grouping import ARM
from cloze.dashboard.index import Index
from cloze.dashboard.listing import Wanted, filtered, listing
from cloze.dashboard.server import guard
from cloze.dashboard.showing import showing
from cloze.dashboard.table import shown_metrics

FIRST_LOOK = 0.3  # seconds spent on settings and points before the page is shown; every later look goes on for LOOK
LOOK = 0.5
EVERY = 1.0  # seconds: several pages, and the list and the curves of one, share a look


def build(index: Index) -> Dash:
    """The application over an index. It reads run folders and writes nothing."""
    app = Dash(
        "cloze-dashboard",
        assets_folder=str(Path(__file__).parent / "assets"),
        serve_locally=True,
        title="Cloze",
        update_title="",
        prevent_initial_callbacks=True,
        suppress_callback_exceptions=True,
        add_log_handler=False,
        enable_mcp=False,
    )
    guard(app.server)
    app.layout = lambda: _page(index)
    _list(app, index)
    _chart(app, index)
    _run(app, index)
    _browser_only(app)
    return app


def _page(index: Index) -> Any:
    from flask import request

    index.refresh(seconds=FIRST_LOOK, every=EVERY)
    now = state.from_query(request.headers.get("Referer", "").partition("?")[2])  # the page's own address: same origin
    listed = listing(index, Wanted(now.filter, now.group, now.columns)) or {}
    shown, _ = filtered(index, now.filter)
    listed["metrics"] = list(now.metrics) if now.metrics is not None else shown_metrics(shown or index.all()) or None
    return page.page(index, now, listed)


def _still(part: str) -> list[Any]:
    return [(Output(f"tick-{part}", "disabled"), True, False)]


def _list(app: Dash, index: Index) -> None:
    @app.callback(
        Output("runs", "rowData"),
        Output("runs", "columnDefs"),
        Output("runs", "rowTransaction"),
        Output("counts", "children"),
        Output("studies", "children"),
        Output("filter-note", "children"),
        Output("empty", "style"),
        Output("seen", "data"),
        Output("columns", "value"),
        Output("metrics", "value"),
        Output("columns", "options"),
        Output("metrics", "options"),
        Output("group", "options"),
        Output("other", "options"),
        Input("tick-list", "n_intervals"),
        Input("said", "data"),
        Input("group", "value"),
        Input("columns", "value"),
        State("metrics", "value"),
        State("seen", "data"),
        running=_still("list"),
    )
    def list_runs(
        _tick: int, text: str | None, group: str | None, columns: list[str] | None, metrics: list[str] | None, seen: Any
    ) -> tuple[Any, ...]:
        index.refresh(seconds=LOOK, every=EVERY)
        first = not (seen or {}).get("any")  # the page was opened before there was a run
        wanted = Wanted(text or "", group, columns if columns or not first else None)
        answer = listing(index, wanted, seen)
        if answer is None:
            raise PreventUpdate
        entries = index.all()
        options = page.options(entries)
        known = (seen or {}).get("options")
        sizes = [len(entries), *(len(each) for each in options.values())]
        told = sizes != known
        answer["seen"]["options"] = sizes
        return (
            answer.get("rowData", no_update),
            answer.get("columnDefs", no_update),
            answer.get("rowTransaction", no_update),
            answer["counts"],
            answer["studies"],
            answer["note"],
            {"display": "none" if answer["any"] else "block"},
            answer["seen"],
            answer["columns"] if first and not columns else no_update,
            shown_metrics(entries) or None if first and not metrics else no_update,
            options["columns"] if told else no_update,
            options["metrics"] if told else no_update,
            options["group"] if told else no_update,
            page.run_options(entries) if told else no_update,
        )

    @app.callback(
        Output("filter", "value"),
        Output("group", "value"),
        Input({"kind": "study", "name": ALL}, "n_clicks"),
    )
    def show_study(clicks: Sequence[int | None]) -> tuple[str, str]:
        if not any(clicks):
            raise PreventUpdate
        name = ctx.triggered_id["name"]
        return f'"study={name}"' if " " in name else f"study={name}", ARM


def _chart(app: Dash, index: Index) -> None:
    @app.callback(
        Output("chart", "figure"),
        Output("chart", "style"),
        Output("chart-note", "children"),
        Output("groups", "children"),
        Output("differences", "children"),
        Output("chart-seen", "data"),
        Input("tick-chart", "n_intervals"),
        Input("drawn", "data"),
        Input("metrics", "value"),
        Input("axis", "value"),
        Input("smooth", "value"),
        Input("log", "value"),
        Input("group", "value"),
        State("chart-seen", "data"),
        State("opened", "data"),
        running=_still("chart"),
    )
    def draw(
        _tick: int,
        drawn: Mapping[str, Any] | None,
        metrics: list[str] | None,
        axis: Any,
        weight: float,
        log: list[str],
        group: str | None,
        seen: Any,
        opened: str | None,
    ) -> tuple[Any, ...]:
        if drawn is None or (ctx.triggered_id == "tick-chart" and opened):
            raise PreventUpdate  # the list comes first; under an open run the curves are not to be seen
        index.refresh(seconds=LOOK, every=EVERY)
        look = Look(metrics or [], axis, float(weight or 0), "x" in (log or ()), "y" in (log or ()))
        answer = drawing(index, drawn, look, group, seen)
        if answer is None:
            raise PreventUpdate
        return (
            answer["figure"],
            answer["style"],
            answer["note"],
            answer["groups"],
            answer["differences"],
            answer["seen"],
        )


def _run(app: Dash, index: Index) -> None:
    @app.callback(
        Output("run-name", "children"),
        Output("run-status", "children"),
        Output("run-facts", "children"),
        Output("run-chart", "figure"),
        Output("run-chart", "style"),
        Output("config", "rowData"),
        Output("config", "columnDefs"),
        Output("provenance", "children"),
        Output("samples", "children"),
        Output("log-tail", "children"),
        Output("run-seen", "data"),
        Input("tick-run", "n_intervals"),
        Input("opened", "data"),
        Input("other", "value"),
        Input("run-axis", "value"),
        State("run-seen", "data"),
        prevent_initial_call=False,
        running=_still("run"),
    )
    def show(_tick: int, opened: str | None, other: str | None, axis: Any, seen: Any) -> tuple[Any, ...]:
        if not opened:
            raise PreventUpdate
        index.refresh(seconds=LOOK, every=EVERY)
        answer = showing(index, opened, other, axis, seen)
        if answer is None:
            raise PreventUpdate
        settings = answer.get("settings")
        return (
            answer["name"],
            answer["status"],
            answer["facts"],
            answer.get("figure", no_update),
            answer.get("style", no_update),
            settings["rows"] if settings else no_update,
            settings["columns"] if settings else no_update,
            answer.get("provenance", no_update),
            answer.get("samples", no_update),
            answer.get("log", no_update),
            answer["seen"],
        )


def _browser_only(app: Dash) -> None:
    """What needs no server: assets/dashboard.js."""

    def there(name: str) -> ClientsideFunction:
        return ClientsideFunction("cloze", name)

    ask: Any = app.clientside_callback

    ask(there("said"), Output("said", "data"), Input("filter", "value"))
    ask(
        there("drawn"),
        Output("drawn", "data"),
        Input("runs", "selectedRows"),
        Input("runs", "virtualRowData"),
        State("drawn", "data"),
    )
    ask(
        there("open"),
        Output("opened", "data"),
        Input("runs", "cellClicked"),
        Input("back", "n_clicks"),
        Input("location", "search"),
        State("opened", "data"),
    )
    ask(
        there("show"),
        Output("overview", "style"),
        Output("run-view", "style"),
        Input("opened", "data"),
        prevent_initial_call=False,
    )
    ask(
        there("address"),
        Output("address", "data"),
        Input("said", "data"),
        Input("group", "value"),
        Input("columns", "value"),
        Input("metrics", "value"),
        Input("axis", "value"),
        Input("smooth", "value"),
        Input("log", "value"),
        Input("drawn", "data"),
        Input("opened", "data"),
        Input("other", "value"),
        State("address", "data"),
    )
    ask(
        there("configOptions"),
        Output("config", "dashGridOptions"),
        Input("config-filter", "value"),
        Input("only-other", "value"),
        State("config", "dashGridOptions"),
    )
