"""Whom the dashboard answers, what it leaves alone, where it listens."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly
import pytest
from werkzeug.test import TestResponse

from cloze import cli
from cloze.dashboard import app
from cloze.dashboard.app import build
from cloze.dashboard.index import Index
from cloze.dashboard.server import HOST, PORT, listening
from cloze.dashboard.state import State, from_query
from cloze.errors import Refusal
from tests.report.folders import write_run, write_study


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_run(tmp_path / "first", 1, {"val/loss": 2.0})
    write_study(tmp_path / "order", {"sop": {1: {"val/loss": 1.0}}})
    return tmp_path


@pytest.fixture
def client(root: Path) -> Any:
    return build(Index(root)).server.test_client()


def _ask(client: Any, output: str, inputs: Mapping[str, Any], states: Mapping[str, Any], by: str) -> TestResponse:
    """What the page sends for a callback, by one of its outputs."""
    wanted = next(
        each for each in client.get("/_dash-dependencies").json if output in each["output"].strip(".").split("...")
    )

    def said(kind: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [{**each, "value": values.get(f"{each['id']}.{each['property']}")} for each in wanted[kind]]

    outputs = [
        dict(zip(("id", "property"), each.rsplit(".", 1), strict=True))
        for each in wanted["output"].strip(".").split("...")
    ]
    body = {
        "output": wanted["output"],
        "outputs": outputs,
        "inputs": said("inputs", inputs),
        "state": said("state", states),
        "changedPropIds": [by],
    }
    answer: TestResponse = client.post("/_dash-update-component", json=body)
    return answer


@pytest.mark.parametrize("host", ["127.0.0.1:8050", "localhost:8050", "LocalHost"])
def test_this_machine_is_answered(client: Any, host: str) -> None:
    answer = client.get("/", headers={"Host": host})
    assert answer.status_code == 200
    assert "connect-src 'self'" in answer.headers["Content-Security-Policy"]
    assert client.get("/_dash-layout", headers={"Host": host, "Referer": "http://[?run=first"}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example:8050", "localhost.evil.example", "10.0.0.1", "[::1]", "[::1", "[", ""],
)
def test_other_names_are_refused(client: Any, host: str) -> None:
    for path in ("/", "/_dash-layout", "/_dash-dependencies", "/assets/dashboard.js"):
        assert client.get(path, headers={"Host": host}).status_code == 403


def test_what_other_pages_send_is_refused(client: Any) -> None:
    headers = {"Host": "127.0.0.1:8050", "Origin": "http://evil.example"}
    assert client.post("/_dash-update-component", json={}, headers=headers).status_code == 403
    assert client.get("/_dash-layout", headers={**headers, "Origin": "http://127.0.0.1:9000"}).status_code == 403
    assert client.get("/_dash-layout", headers={**headers, "Origin": "http://127.0.0.1:8050"}).status_code == 200


def test_no_file_outside_is_given(client: Any) -> None:
    here, package = Path(str(app.__file__)), Path(str(plotly.__file__))
    assert client.get("/assets/dashboard.js").data == (here.parent / "assets" / "dashboard.js").read_bytes()
    for path, file in (
        ("/assets/../app.py", here),
        ("/assets/%2e%2e/app.py", here),
        (f"/assets/{here}", here),
        ("/../../../etc/passwd", Path("/etc/passwd")),
        ("/_dash-component-suites/dash/../plotly/__init__.py", package),
    ):
        content = file.read_bytes()
        assert content and content not in client.get(path).data, path


def test_a_run_is_told_and_a_path_is_not_a_run(client: Any, root: Path) -> None:
    secret = root.parent / "secret"
    write_run(secret, 1, {"val/loss": 3.0})
    client.get("/_dash-layout")
    (root.parent / "secret" / "log.txt").write_text("nobody's business", encoding="utf-8")
    for name, there in (("first", True), ("../secret", False), (str(secret), False), ("gone", False)):
        answer = _ask(
            client, "run-name.children", {"opened.data": name, "run-axis.value": "step"}, {}, "opened.data"
        ).json["response"]
        assert ("run-chart" in answer and bool(answer["run-chart"]["figure"]["data"])) == there, name
        assert "nobody's business" not in str(answer)


def test_nothing_is_answered_while_nothing_changes(client: Any, root: Path) -> None:
    inputs = {"said.data": "", "columns.value": ["val/loss"]}
    first = _ask(client, "seen.data", inputs, {}, "said.data")
    assert {row["id"] for row in first.json["response"]["runs"]["rowData"]} == {"first", "order/runs/sop-1"}
    seen = first.json["response"]["seen"]["data"]
    again = _ask(client, "seen.data", inputs, {"seen.data": seen}, "tick-list.n_intervals")
    assert again.status_code == 204


def _props(tree: Any, name: str) -> Any:
    """Of the component of this id in a layout."""
    if isinstance(tree, dict) and tree.get("id") == name:
        return tree
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return next((found for each in inner if (found := _props(each, name))), None)


def test_only_what_somebody_emptied_is_empty(client: Any, tmp_path: Path) -> None:
    empty = build(Index(tmp_path / "none")).server.test_client()
    for asked, query, chosen in (
        (client, "filter=no-such-run", ["val/loss"]),
        (empty, "", None),  # to be chosen when there is something to choose from
        (client, "columns=&metrics=", []),
    ):
        layout = asked.get("/_dash-layout", headers={"Referer": f"http://localhost/?{query}"}).json
        assert _props(layout, "metrics")["value"] == chosen
        shown = _props(layout, "columns")["value"]
        assert shown == chosen if not chosen else "val/loss" in shown


def test_run_folders_are_left_as_they_are(client: Any, root: Path) -> None:
    def state() -> list[tuple[str, int, int]]:
        return sorted((str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in [root, *root.rglob("*")])

    before = state()
    client.get("/")
    client.get("/_dash-layout")
    for name in ("first", "order/runs/sop-1"):
        _ask(client, "run-name.children", {"opened.data": name, "run-axis.value": "step"}, {}, "opened.data")
    assert state() == before


def test_everything_is_served_from_here(client: Any) -> None:
    page = client.get("/").get_data(as_text=True)
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert any("dash_ag_grid" in address for address in loaded)
    assert all(re.match("/[^/]", address) for address in loaded)
    assert "http://" not in page and "https://" not in page


def test_a_port_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(None) as first, listening(None) as second:
        assert first.getsockname()[0] == HOST == "127.0.0.1"
        assert first.getsockname()[1] != second.getsockname()[1] >= PORT
        taken = first.getsockname()[1]
        with pytest.raises(Refusal, match=f"--port {taken} cannot be had: .*a free one from {PORT} on"):
            listening(taken)


def test_nobody_else_can_reach_it() -> None:
    others = [info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    with listening(0) as taken:
        assert taken.getsockname()[0] == "127.0.0.1"
        for address in {str(each) for each in others if not str(each).startswith("127.")}:
            with pytest.raises(OSError), socket.create_connection((address, taken.getsockname()[1]), timeout=1):
                pass


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere is not there; expected a folder with runs in it"),
        (["file"], "file is a file; expected a folder with runs in it"),
        (["--port", "web"], "--port web: expected a whole number from 1 to 65535"),
        (["--port", "70000"], "--port 70000: expected a whole number"),
        (["--port", "²"], "--port ²: expected a whole number"),  # a digit to Python, and no number
        (["--no-opn"], "--no-opn is not an option; did you mean --no-open?"),
    ],
)
def test_mistakes_are_told(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["cloze", "dashboard", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2 and message in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("query", "state"),
    [
        ("", State()),
        (
            "filter=a%3D1&group=seed&x=tokens&smooth=0.5&log=x,y",
            State("a=1", "seed", axis="tokens", smooth=0.5, log=("x", "y")),
        ),
        ("select=a/b&select=c&run=a/b&other=c", State(select=("a/b", "c"), run="a/b", other="c")),
        ("columns=&metrics=val/loss,train/loss", State(columns=[], metrics=["val/loss", "train/loss"])),
        ("x=miles&smooth=much&log=z", State()),
        ("smooth=7", State(smooth=0.99)),
    ],
)
def test_what_an_address_says(query: str, state: State) -> None:
    assert from_query(query) == state
