"""Served to this machine only: bound to 127.0.0.1, deaf to pages of other sites, unable to make the page ask anybody else."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from cloze.errors import Refusal

HOST = "127.0.0.1"
PORT = 8050
TRIES = 20  # ports after the first that are tried where none was asked for
NAMES = ("127.0.0.1", "localhost")
# The page may load from here and nowhere else. Dash has inline scripts; plotly.js makes its WebGL code at run time.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "form-action 'self'; base-uri 'self'; frame-ancestors 'none'"
)


def listening(port: int | None) -> socket.socket:
    """A socket on 127.0.0.1: at `port`, else at the first free one from 8050 on. Raises Refusal where it is taken."""
    for number in [port] if port is not None else [*range(PORT, PORT + TRIES), 0]:
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((HOST, number))
            found.listen(64)
            return found
        except OSError as fault:
            found.close()
            if port is not None:
                raise Refusal(
                    f"--port {port} cannot be had: {fault.strerror}; another one, or none, which takes a free one from {PORT} on"
                ) from None
    raise Refusal(f"no port could be had on {HOST}")


def guard(server: Any) -> None:
    """Makes a Flask server answer only what a page of its own asks for, by a name of this machine.

    A page of another site whose name was made to lead here (DNS rebinding) still sends its own name as Host and is refused, and so is
    what another site's page sends here (its Origin is not ours).
    """
    from flask import Response, request

    @server.before_request  # type: ignore[untyped-decorator]
    def refuse_others() -> Response | None:
        if request.headers.get("Host", "").partition(":")[0].lower() not in NAMES:
            return Response("This dashboard answers to 127.0.0.1 and localhost only.\n", 403, mimetype="text/plain")
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{request.headers.get('Host')}":
            return Response("This dashboard answers its own page only.\n", 403, mimetype="text/plain")
        return None

    @server.after_request  # type: ignore[untyped-decorator]
    def say_policy(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def serving(root: Path, taken: socket.socket) -> Any:
    """A werkzeug server for the runs below a folder on a socket of `listening`; `serve_forever` and `shutdown` are its ways."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    from cloze.dashboard.app import build
    from cloze.dashboard.index import Index

    class Quiet(WSGIRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """A line for every poll would hide what matters."""

    app = build(Index(root))
    port = taken.getsockname()[1]
    return make_server(HOST, port, app.server, threaded=True, request_handler=Quiet, fd=taken.fileno())
