"""The fixtures of the pages' tests: a real Chromium, and the site that it visits."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.streams.browser import require_installed, running_browser
from tests.web.site import Person, Site, running_site


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Yield a real Chromium; each test opens contexts of its own in it.

    It ends with the file: while it runs, no other Playwright and no `asyncio.run` can run in this process.
    """
    require_installed()
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Yield the site, which all tests of a worker share: each registers people of its own."""
    folder: Path = tmp_path_factory.mktemp("site")
    with running_site(folder) as site:
        yield site


@pytest.fixture
def ann(site: Site) -> Person:
    """A new person with a confirmed account and no interests."""
    return site.register()
