"""Writes the table of docs/matrix.md anew from the program: `python docs/matrix.py`."""

from __future__ import annotations

import re
from pathlib import Path

from cloze.matrix import markdown

PAGE = Path(__file__).resolve().parent / "matrix.md"
BETWEEN = re.compile(r"(<!-- the table begins -->\n).*?(<!-- the table ends -->)", re.DOTALL)


def renewed(page: str) -> str:
    """The page with the table as the program makes it now."""
    return BETWEEN.sub(lambda found: f"{found[1]}\n{markdown()}\n{found[2]}", page)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
