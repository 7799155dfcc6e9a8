"""The first view of each page with data: how much goes over the wire, and that nothing moves when data is late."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page, Route

from domain.interests import Direction
from tests.waiting import eventually
from tests.web.checks import MOST_SHIFT, measure_layout_shift
from tests.web.site import PATIENCE_S, Person, Site
from tests.web.watched import find_today, set_interest, store_flights

MOST_BYTES: Final = 150_000
PATIENCE_MS: Final = PATIENCE_S * 1000
REST: Final = ("/session", "/interests", "/users/")
"""How the paths begin that scripts ask for data."""

SHOWN: Final = {
    "/": (".airport-card .chart-bar", 2),
    "/told": (".told-windows > li", 1),
    "/watch": ("#airport", 1),
    "/watch?interest={id}": (".chart-bar", 1),
    "/account": ("#account:not([hidden]) #sessions li", 1),
}
"""Of each page what is shown once all data is there: a selector, and how many elements at least."""

_MODULES: Final = "link[rel=modulepreload], script[type=module]"
_PAINT: Final = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))"


@pytest.fixture(scope="module")
def watcher(site: Site) -> tuple[Person, str]:
    """Somebody with two interests at an airport with five weeks of flights, and the id of the first."""
    person = site.register(name="Nora")
    for direction in (Direction.DEPARTURES, Direction.ARRIVALS):
        store_flights(site, "KJFK", direction)
    since = (find_today() - timedelta(days=29)).isoformat()
    first = set_interest(site, person, effective_from=since)
    set_interest(
        site,
        person,
        direction="both",
        window="1d",
        high_value=None,
        low_percent=80,
        for_windows=2,
        effective_from=since,
    )
    return person, str(first["interest_id"])


@contextmanager
def opening(
    site: Site, browser: Browser, person: Person | None, *, phone: bool = True, language: str = "en"
) -> Iterator[Page]:
    """Open an empty page in a new browser with an empty cache, signed in if there is a person."""
    with browser.new_context(
        viewport={"width": 412, "height": 823} if phone else {"width": 1280, "height": 900},
        locale={"en": "en-GB", "it": "it-IT"}[language],
        timezone_id="Europe/Rome",
    ) as context:
        context.set_default_timeout(PATIENCE_MS)
        if person is not None:
            site.sign_in(context, person.email)
        yield context.new_page()


def is_complete(page: Page, path: str) -> bool:
    """Return True if the page shows all its data."""
    selector, count = SHOWN[path]
    return page.locator(selector).count() >= count and page.locator("html[data-ready]").count() == 1


@pytest.mark.parametrize("path", SHOWN)
def test_the_first_view_with_data_is_small(
    site: Site, browser: Browser, watcher: tuple[Person, str], path: str
) -> None:
    """Less than 150 kB over the wire, as the browser counts them, with headers; and the page names all its modules."""
    person, interest = watcher
    with opening(site, browser, person) as page:
        devtools = page.context.new_cdp_session(page)
        sizes: list[float] = []
        devtools.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
        devtools.send("Network.enable")
        modules: set[str] = set()
        page.on("request", lambda request: modules.update([request.url] if request.url.endswith(".js") else []))
        page.goto(site.url + path.format(id=interest))
        eventually(lambda: is_complete(page, path), f"the data of {path}", PATIENCE_S)
        page.wait_for_load_state("networkidle")
        page_names = page.eval_on_selector_all(_MODULES, "found => found.map((each) => each.href || each.src)")
        assert modules == set(page_names), "what a page does not name is asked for once another module has been read"
        assert len(sizes) >= 8
        assert 20_000 < sum(sizes) < MOST_BYTES


@pytest.mark.parametrize("path", SHOWN)
@pytest.mark.parametrize(("phone", "language"), [(True, "en"), (True, "it"), (False, "en")])
def test_nothing_moves_when_data_is_late(
    site: Site, browser: Browser, watcher: tuple[Person, str], path: str, phone: bool, language: str
) -> None:
    """Each answer comes alone, after all that is there has been painted; all shifts together are below 0.1."""
    person, interest = watcher
    held: list[Route] = []

    def hold(route: Route) -> None:
        path_asked = route.request.url.removeprefix(site.url)
        if path_asked.startswith(REST):
            held.append(route)
        else:
            route.continue_()

    with opening(site, browser, person, phone=phone, language=language) as page:
        page.route("**/*", hold)
        page.goto(site.url + path.format(id=interest))
        released: list[Any] = []

        def let_one_arrive() -> bool:
            page.evaluate(_PAINT)
            if held:
                route = held.pop(0)
                with page.expect_event("requestfinished", lambda request: request == route.request):
                    route.continue_()
                released.append(route)
            return not held and is_complete(page, path)

        eventually(let_one_arrive, f"the data of {path}", PATIENCE_S)
        page.evaluate(_PAINT)
        assert len(released) >= 2, "data was late"
        assert measure_layout_shift(page) < MOST_SHIFT
