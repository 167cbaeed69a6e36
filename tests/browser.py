"""Debian's Chromium without a window, for tests of pages: what a page asks the network for is written down, and what it complains of.

The fixture `browser` (tests/conftest.py brings it) opens a page in a tab that knows no host but this machine's own:

    def test_a_page(browser: Browser, tmp_path: Path) -> None:
        browser.open((tmp_path / "page.html").as_uri())
        browser.wait("a plot", "return document.querySelectorAll('.js-plotly-plot').length == 1")
        assert_only_local(browser.requests())
        assert browser.complaints() == []
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
INSTALL = "apt-get install chromium chromium-driver"
LOCAL_SCHEMES = {"file", "data", "blob", "about"}  # what needs no network at all
LOCAL_HOSTS = {"127.0.0.1", "localhost"}

OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # as root, Chromium does not start with one
    "--disable-dev-shm-usage",  # containers have a small /dev/shm
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL without a graphics card: scattergl draws with it
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--window-size=1500,1000",
    # Nobody but this machine is there to ask: a request that leaves it fails, and is in the list all the same
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
    "--no-proxy-server",
)


class Browser:
    """A tab. All waiting is for something to become true, never for a time to pass."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self._requests: list[str] = []
        self._complaints: list[str] = []

    def open(self, address: str) -> None:
        """Goes to a page (`http://127.0.0.1:…`, `file:///…`) and waits until it has loaded."""
        self.driver.get(address)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a piece of JavaScript returns (`return …`; `arguments[0]` is the first argument)."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, what: str, script: str, *arguments: Any, seconds: float = 60) -> Any:
        """The first true value that a script returns. Fails with `what` and the page's complaints where there is none in time: long, for a
        machine that has much else to do."""
        from selenium.common.exceptions import JavascriptException

        end = time.monotonic() + seconds
        fault = ""
        while time.monotonic() < end:
            try:
                if value := self.run(script, *arguments):
                    return value
            except JavascriptException as error:  # the page is not so far
                fault = str(error.msg)
            time.sleep(0.05)
        raise AssertionError(
            f"not within {seconds:g} s: {what}; {fault} {self.complaints()[:5]}; the page reads: {self.text()[:600]}"
        )

    def all(self, selector: str) -> list[Any]:
        """All elements of a CSS selector."""
        return list(self.driver.find_elements("css selector", selector))

    def click(self, selector: str, text: str | None = None) -> None:
        """A real click on the first visible element of a selector (that reads so), once it is there."""
        from selenium.common.exceptions import WebDriverException

        for left in (4, 3, 2, 1, 0):
            found = self.wait(f"{selector} {text or ''} to click on", _VISIBLE, selector, text)
            try:
                found.click()
                return
            except WebDriverException:  # the page has put another in its place meanwhile
                if not left:
                    raise

    def type(self, selector: str, text: str) -> None:
        """Replaces what an input holds, key by key."""
        from selenium.webdriver import Keys

        field = self.wait(f"{selector} to type in", _VISIBLE, selector, None)
        field.send_keys(Keys.CONTROL + "a")  # as a person does: the driver's own clearing goes past the page's scripts
        field.send_keys(text)

    def text(self) -> str:
        """What is to be read on the page."""
        return str(self.run("return document.body.innerText"))

    def screenshot(self, file: Path) -> None:
        """The window as PNG."""
        self.driver.save_screenshot(str(file))

    def requests(self) -> list[str]:
        """The addresses of everything that pages have asked for since this tab was given, also of what failed."""
        self._read()
        return list(self._requests)

    def complaints(self) -> list[str]:
        """Errors on the console: exceptions, what could not be loaded."""
        self._read()
        return list(self._complaints)

    def _read(self) -> None:
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self._requests.append(message["params"]["request"]["url"])
            elif message["method"] in ("Network.webSocketCreated", "Network.webTransportCreated"):
                self._requests.append(message["params"]["url"])
        self._complaints += [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


_VISIBLE = """return [...document.querySelectorAll(arguments[0])].find(
    e => e.getClientRects().length && (arguments[1] === null || e.innerText.trim() === arguments[1])) || null"""


def assert_only_local(requests: Sequence[str]) -> None:
    """That a page has asked for something, and that all of it was on this machine."""
    assert requests, "nothing was asked for: no page was opened"
    elsewhere = [address for address in requests if not _is_local(address)]
    assert not elsewhere, f"asked for elsewhere: {elsewhere}"


def _is_local(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme in LOCAL_SCHEMES or parts.hostname in LOCAL_HOSTS


@contextlib.contextmanager
def chromium_driver() -> Iterator[Any]:
    """A selenium driver of Debian's Chromium. Raises FileNotFoundError, one sentence, where it is not installed."""
    chromium = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        raise FileNotFoundError(f"no {'chromedriver' if chromium else 'chromium'} here: {INSTALL}")
    from selenium import webdriver

    os.environ["SE_OFFLINE"] = "true"  # both paths are given, so selenium has nothing to look for; it is told not to
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in OPTIONS:
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    browser.set_script_timeout(120)  # a machine that has much else to do makes a page wait
    browser.set_page_load_timeout(240)
    try:
        yield browser
    finally:
        browser.quit()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """One Chromium for all tests of this process; tests that need it are skipped where it is not installed."""
    try:
        with chromium_driver() as driver:
            yield driver
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def browser(chromium: Any) -> Iterator[Browser]:
    """A tab of its own for a test, with nothing in its lists yet."""
    chromium.switch_to.new_window("tab")
    tab = Browser(chromium)
    tab.requests()
    tab._requests.clear()
    tab._complaints.clear()
    yield tab
    chromium.close()
    chromium.switch_to.window(chromium.window_handles[0])
