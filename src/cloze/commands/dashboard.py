"""`cloze dashboard`: a page over all runs below a folder, for this machine's browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from cloze.errors import Refusal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `cloze dashboard` understands."""
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("outputs"),
        metavar="FOLDER",
        help="where runs lie (default: outputs)",
    )
    parser.add_argument("--port", metavar="N", help="of 127.0.0.1 (default: the first free one from 8050 on)")
    parser.add_argument("--no-open", action="store_true", help="print the address and open no browser")


def run(given: argparse.Namespace) -> int:
    """Serves until Ctrl-C. Raises Refusal for a folder that is not there or a port that is taken."""
    folder: Path = given.folder
    if not folder.is_dir() and folder != Path("outputs"):
        raise Refusal(f"{folder} is {'a file' if folder.exists() else 'not there'}; expected a folder with runs in it")
    from cloze.dashboard.server import listening, serving

    taken = listening(_port(given.port))
    address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    server = serving(folder.absolute(), taken)
    print(f"runs below {folder}: {address} (Ctrl-C ends it)", flush=True)
    if not given.no_open:
        import webbrowser

        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()
    return 0


def _port(said: str | None) -> int | None:
    if said is None:
        return None
    if not (said.isascii() and said.isdecimal()) or int(said) > 65535:
        raise Refusal(f"--port {said}: expected a whole number from 1 to 65535, or 0 for any free port")
    return int(said)
