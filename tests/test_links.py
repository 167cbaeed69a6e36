"""What README and docs point to inside the repository is there: pages, pictures, files, and the headings of pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ELSEWHERE = re.compile(r"[a-z]+:")  # https: and mailto:


def links(page: Path) -> Iterator[str]:
    """The targets of [words](target) and ![picture](target) that are not on the web; none of what stands in code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(\s*<?([^()\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)", text):
        if not ELSEWHERE.match(target):
            yield target


def headings(page: Path) -> set[str]:
    """Of a page, as GitHub makes them into anchors."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    plain = [re.sub(r"[^\w\- ]", "", title.lower()) for title in re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)]
    return {title.replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_points_to_is_there(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{target} is not there"
        if anchor and there.suffix == ".md":
            assert anchor in headings(there), f"{target}: no such heading"


def test_links_are_found() -> None:
    assert sum(len(list(links(page))) for page in PAGES) > 50
    assert "docs/getting-started.md" in set(links(ROOT / "README.md"))
