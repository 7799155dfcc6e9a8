"""A real Chromium for tests of the pages, driven by Playwright.

The tests use the machine's Chromium, or the one that `TOWERWATCH_CHROMIUM` names. Without a Chromium the tests that
need it are skipped; or they fail, if `TOWERWATCH_REQUIRE_CHROMIUM` is set.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright

from tests.skips import skip_unless_required

INSTALLED: Final = (
    os.environ.get("TOWERWATCH_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    or shutil.which("google-chrome")
)  # fmt: skip

MISSING: Final = "no Chromium is installed: `apt-get install chromium`, or set TOWERWATCH_CHROMIUM to its path"

SCREENSHOTS: Final = Path(__file__).parents[2] / "build" / "screenshots"
"""Folder of screenshots, which CI keeps and which are not committed."""

WIDE: Final = {"width": 1280, "height": 900}
PHONE: Final = {"width": 360, "height": 844}


def require_installed() -> None:
    """Skip the test if no Chromium is installed, or fail the test if a Chromium is required."""
    if INSTALLED is None:
        skip_unless_required("CHROMIUM", MISSING)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Start a browser for the block. A Chromium must be installed.

    While the browser runs, Playwright's event loop runs in this thread, so `asyncio.run` must be called in another.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=INSTALLED, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """An open page, and the errors that the browser reported on it."""

    page: Page
    faults: list[str] = field(default_factory=list)
    """Errors and warnings in the console, failed requests, and error responses."""

    def __post_init__(self) -> None:
        self.page.on("console", self._record_console_message)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("requestfailed", self._record_failed_request)
        self.page.on(
            "response", lambda answer: answer.status >= 400 and self.faults.append(f"{answer.status}: {answer.url}")
        )

    def _record_failed_request(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # in flight when the browser goes to another page
            self.faults.append(f"failed: {request.url}: {request.failure}")

    def _record_console_message(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"console: {message.text}")


@contextmanager
def visit(browser: Browser, url: str, **options: Any) -> Iterator[Visit]:
    """Open a page in a new browser context, without cookies or caches. `options`: Playwright's options of a context."""
    with browser.new_context(**{"viewport": WIDE, **options}) as context:
        visit = Visit(context.new_page())
        visit.page.goto(url)
        yield visit
