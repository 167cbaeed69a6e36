"""The browser that pages are tested in tells what they ask for and complain of: else those tests could not fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import Browser, assert_only_local


def test_what_a_page_asks_for_is_told(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<title>A page</title><p id=said>Nothing yet</p>", encoding="utf-8")
    browser.open(page.as_uri())
    assert "Nothing yet" in browser.text()
    assert_only_local(browser.requests())
    assert browser.complaints() == []
    browser.run("document.getElementById('said').textContent = 'Said'")
    assert browser.wait("its text", "return document.getElementById('said').textContent") == "Said"

    browser.run("fetch('https://cdn.example.org/x.js').catch(fault => { document.title = 'failed' })")
    browser.wait("the request to fail: there is no way out", "return document.title == 'failed'")
    with pytest.raises(AssertionError, match=r"cdn\.example\.org"):
        assert_only_local(browser.requests())
    assert browser.complaints()


def test_what_never_comes_true_is_told(browser: Browser) -> None:
    with pytest.raises(AssertionError, match="pigs to fly"):
        browser.wait("pigs to fly", "return false", seconds=0.1)


def test_no_request_at_all_is_no_proof() -> None:
    with pytest.raises(AssertionError, match="no page was opened"):
        assert_only_local([])
