"""A person on a page, in a real browser."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

__all__ = ["Visit", "start_browser"]

CHROMIUM = Path("/usr/bin/chromium")
_TIMEOUT_MS = 20_000


@contextmanager
def start_browser() -> Iterator[Any]:
    """A browser; the test is skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip("no chromium; 'make system-deps' installs it")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=options)
        yield started
        started.close()


class Visit:
    """Looks at a page and acts on it, and notes what the browser asks for and complains of."""

    def __init__(self, browser: Any, url: str, width: int, height: int) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(_TIMEOUT_MS)
        self.asked: list[str] = []
        self.problems: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._note)
        self.page.goto(url)
        self.page.locator("#status .pill").wait_for()

    def _note(self, message: Any) -> None:
        if message.type == "error":
            self.problems.append(message.text)

    def see(self, selector: str, text: str) -> None:
        """Waits until ``text`` stands there."""
        self._expect(selector).to_contain_text(text, timeout=_TIMEOUT_MS)

    def see_count(self, selector: str, count: int) -> None:
        """Waits until there are so many."""
        self._expect(selector).to_have_count(count, timeout=_TIMEOUT_MS)

    def miss(self, selector: str) -> None:
        """Waits until it is not to be seen."""
        self._expect(selector).to_be_hidden(timeout=_TIMEOUT_MS)

    def _expect(self, selector: str) -> Any:
        from playwright.sync_api import expect

        return expect(self.page.locator(selector))

    def press(self, name: str, *, within: str = "body") -> None:
        """Presses the button of that name."""
        self.page.locator(within).get_by_role("button", name=name, exact=True).first.click()

    def choose(self, name: str, *, within: str) -> None:
        """Picks one of several."""
        self.page.locator(within).get_by_text(name, exact=True).click()

    def ask(self, text: str) -> None:
        """Types a question and sends it."""
        box = self.page.locator("#question textarea")
        self.page.locator("#question .submit-button").wait_for()
        box.fill(text)
        box.press("Enter")

    @property
    def is_still(self) -> bool:
        """Whether the page does not scroll sideways."""
        still: bool = self.page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
        return still

    def close(self) -> None:
        """Leaves; nothing outside was asked, and the browser had nothing to complain of."""
        hosts = {urlsplit(url).hostname for url in self.asked if url.startswith("http")}
        assert hosts <= {"127.0.0.1"}
        assert self.problems == []
        self.page.close()
