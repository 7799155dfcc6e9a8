"""The frame of all pages in a real browser."""

import pytest
from playwright.sync_api import Browser

from tests.web.site import Person, Site

PATHS = ("/", "/watch", "/told", "/account", "/register")


@pytest.mark.parametrize("phone", [True, False])
@pytest.mark.parametrize("path", PATHS)
def test_every_page_opens_for_visitors_and_for_people(
    site: Site, browser: Browser, ann: Person, path: str, phone: bool
) -> None:
    """A visitor gets the form that signs in; whoever is signed in gets the page. The browser reports no fault."""
    with site.open(browser, path, phone=phone) as visit:
        assert visit.page.locator("#signed-out form.sign-in").is_visible()
        assert (visit.faults, visit.foreign) == ([], [])
    with site.open(browser, path, person=ann, phone=phone) as visit:
        assert visit.page.locator("#page h1").is_visible()
        assert not visit.page.locator("#signed-out").is_visible()
        assert (visit.faults, visit.foreign) == ([], [])
