"""My airports: cards with their state, which update by themselves; pause, resume, remove and undo."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from sqlalchemy import select

from collector.rest.window_answers import InterestWindows
from tests import plain_http
from tests.waiting import eventually
from tests.web.checks import check_page
from tests.web.site import Person, Site, SiteVisit
from tests.web.watched import find_today, list_interests, set_interest, store_flights
from tests.web.windows_answers import INTEREST_ID, build_answer, build_interest, build_states, find_hour, show
from user_manager.accounts import AccountUpdate
from user_manager.model import User

PATIENCE_MS = 120_000
STATES = tuple(build_states())


@pytest.fixture(scope="module", autouse=True)
def flights(site: Site) -> None:
    store_flights(site, "KJFK")


@contextmanager
def answering(visit: SiteVisit, build: Callable[[], dict[str, Any]]) -> Iterator[list[Route]]:
    """Let the page see what `build` returns in place of the collector's answer, from the next request on.

    It is built for each request: what was live when the module was loaded is minutes old when a test comes to it.
    """
    asked: list[Route] = []

    def reply(route: Route) -> None:
        asked.append(route)
        route.fulfill(json=build(), headers={"ETag": 'W/"1"'})

    visit.page.route("**/interests", lambda route: route.fulfill(json={"interests": [build()["interest"]]}))
    visit.page.route("**/interests/*/windows*", reply)
    yield asked


@pytest.mark.parametrize("state", STATES)
def test_the_states_of_these_tests_are_answers_of_the_collector(state: str) -> None:
    """What the tests put in the place of the collector has its shape, to the last member."""
    InterestWindows.model_validate_json(json.dumps(build_states()[state]), extra="forbid")


WORDS = {
    "normal": ["Normal", "12 departures", "By the night's record"],
    "firing": ["Above your level", "31 departures"],
    "paused": ["Paused", "No mails until", "Resume"],
    "paused for good": ["Paused", "until you resume it, for a year at most"],
    "learning": [
        "Learning",
        "learning what is usual here: it collects the weeks before. Alerts by percent come from",
    ],
    "usual": ["Normal", "above 150 % of what is usual or below 50 % of what is usual"],
    "unheard": ["Not known", "Nobody has reported a flight here", "since 1 November"],
    "nothing yet": ["Not known", "Nothing has been collected yet"],
    "gap": ["Normal", "not known"],
    "live": ["Live: this minute", "live, to be confirmed"],
    "late": ["all is known until", "for longer than usual: the source is late, or cannot be reached"],
    "interrupted": ["all is known until", "It was live until", "comes with the night's record"],
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("phone", "dark"), [(True, False), (False, True)])
def test_a_card_says_its_state_in_words(
    site: Site, browser: Browser, ann: Person, state: str, phone: bool, dark: bool
) -> None:
    """Each state has its words, on a phone as on a desk, in light and dark; nobody is kept out."""
    with (
        site.open(browser, "/account", person=ann, phone=phone, dark=dark) as visit,
        answering(visit, lambda: build_states()[state]),
    ):
        visit.goto("/")
        card = visit.page.locator("article")
        for words in WORDS[state]:
            expect(card).to_contain_text(words, timeout=PATIENCE_MS)
        expect(card.locator("h2")).to_have_text("New York, JFK")
        places = card.locator(".actions > :visible").evaluate_all("all => all.map((each) => each.offsetTop)")
        assert len(set(places[:2])) == len(set(places[2:])) == 1, "the four buttons stand two by two"
        assert len(places) == 4
        check_page(visit)


@pytest.mark.parametrize("state", STATES)
def test_a_card_is_italian_for_italians(site: Site, browser: Browser, ann: Person, state: str) -> None:
    """No state shows a sentence of another language, nor the service's own."""
    with (
        site.open(browser, "/account", person=ann, language="it") as visit,
        answering(visit, lambda: build_states()[state]),
    ):
        visit.goto("/")
        card = visit.page.locator("article")
        expect(card.locator(".badge").first).to_have_text(
            re.compile("Normale|Sopra la tua soglia|Sospeso|Sta imparando|Non noto"), timeout=PATIENCE_MS
        )
        assert not re.search(r"\b(departures|flights|until|known)\b", card.inner_text())
        assert visit.faults == []


def test_without_airports_there_is_one_sentence_and_one_button(site: Site, browser: Browser, ann: Person) -> None:
    """The first view of a new account leads on."""
    with site.open(browser, "/", person=ann, phone=True) as visit:
        expect(visit.page.locator(".empty")).to_contain_text("You watch no airport yet.")
        assert visit.page.locator("#page .button:visible").count() == 1
        check_page(visit)
        visit.page.get_by_role("link", name="Watch an airport").click()
        visit.page.wait_for_url("**/watch")


@pytest.mark.parametrize("path", ["/", "/watch"])
def test_whoever_gets_no_mails_is_told_why(site: Site, browser: Browser, ann: Person, path: str) -> None:
    """All alerts are paused, or mails came back: else the cards would look as if all were well."""
    site.accounts.accounts.update(ann.token, ann.email, None, AccountUpdate(paused=True))
    with site.open(browser, path, person=ann, phone=True) as visit:
        notice = visit.page.locator(".notice", has_text="All alerts are paused")
        expect(notice.get_by_role("link")).to_have_attribute("href", "/account")
        check_page(visit)
        with site.accounts.database.transaction() as session:
            user = session.scalars(select(User).where(User.email == ann.email)).one()
            user.bounced_at, user.paused = (user.confirmed_at or user.created_at) + timedelta(seconds=1), False
        visit.goto(path)
        expect(visit.page.locator(".notice:visible")).to_contain_text("Mails to your address came back")


def test_a_card_shows_what_the_collector_knows(site: Site, browser: Browser, ann: Person) -> None:
    """Of a real interest: its name, its levels, its chart with the numbers as a table, and how fresh it is."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    set_interest(site, ann, effective_from=(today - timedelta(days=20)).isoformat())
    with site.open(browser, "/", person=ann) as visit:
        card = visit.page.locator("article")
        expect(card.locator("h2")).to_have_text("New York, JFK", timeout=PATIENCE_MS)
        expect(card).to_contain_text("Departures in an hour: a mail above 20 flights")
        expect(card.locator(".badge").first).to_have_text("Normal")
        card.get_by_text("As a table").click()
        expect(card.locator("tbody tr").nth(40)).to_be_attached(timeout=PATIENCE_MS)
        check_page(visit)


def test_a_card_updates_by_itself_and_asks_for_little(site: Site, browser: Browser, ann: Person) -> None:
    """Later looks are answered with 304 while nothing is new, and show what has changed since."""
    set_interest(site, ann)
    statuses: list[int] = []
    with site.open(browser, "/account", person=ann) as visit:
        page = visit.page
        page.on("response", lambda answer: statuses.extend([answer.status] if "/windows" in answer.url else []))
        page.clock.install()
        visit.goto("/")
        expect(page.locator("article")).to_contain_text("above 20 flights", timeout=PATIENCE_MS)
        look_until(page, lambda: len(statuses) >= 3)
        set_interest(site, ann, high_value=33)
        look_until(page, lambda: "above 33 flights" in page.locator("article").inner_text())
        assert statuses[0] == 200
        assert 304 in statuses
        assert statuses.count(200) <= len(statuses) // 2 + 1
        assert visit.faults == []


def look_until(page: Page, is_true: Callable[[], bool]) -> None:
    """Let the page's clock go on, half a minute at a time, until a condition holds; the page's next looks come then."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not is_true():
        assert time.monotonic() < deadline, "it did not come about"
        page.clock.run_for(10_000)
        page.wait_for_timeout(300)


@pytest.mark.parametrize(
    ("choice", "least", "most"),
    [
        ("For an hour", 0.9, 1.1),
        ("Until tomorrow", 0, 25),
        ("For a week", 167, 169),
        ("Until I resume", 364 * 24, 366 * 24),
    ],
)
def test_an_airport_is_paused_and_resumed(
    site: Site, browser: Browser, ann: Person, choice: str, least: float, most: float
) -> None:
    """A pause is an instant from which the interest is judged; resuming makes it the present."""
    set_interest(site, ann)
    with site.open(browser, "/", person=ann) as visit:
        card = visit.page.locator("article")
        card.get_by_role("button", name="Pause").click()
        card.get_by_role("button", name=re.compile(f"^{choice}")).click()
        card.get_by_role("button", name="Resume").wait_for()
        expect(card.locator(".badge").first).to_have_text("Paused", timeout=PATIENCE_MS)
        (interest,) = list_interests(site, ann)
        ahead = (datetime.fromisoformat(interest["effective_from"]) - datetime.now(UTC)) / timedelta(hours=1)
        assert least - 0.2 <= ahead <= most
        card.get_by_role("button", name="Resume").click()
        card.get_by_role("button", name="Pause").wait_for()
        (interest,) = list_interests(site, ann)
        assert datetime.fromisoformat(interest["effective_from"]) <= datetime.now(UTC) + timedelta(minutes=1)
        check_page(visit)


@pytest.mark.parametrize("hours", [9, -9])
def test_a_device_whose_clock_is_wrong_pauses_and_resumes_by_the_services(
    site: Site, browser: Browser, ann: Person, hours: int
) -> None:
    """An hour's pause lasts an hour from the service's present on, and resuming ends it, whatever the device shows."""
    set_interest(site, ann)
    with site.open(browser, "/account", person=ann) as visit:
        page = visit.page
        page.clock.install(time=datetime.now(UTC) + timedelta(hours=hours))
        visit.goto("/account")
        expect(page.locator("#sessions")).to_contain_text("in use now")
        visit.goto("/")
        card = page.locator("article")
        expect(card.locator(".badge").first).to_have_text("Normal", timeout=PATIENCE_MS)
        card.get_by_role("button", name="Pause", exact=True).click()
        card.get_by_role("button", name=re.compile("^For an hour")).click()
        expect(card.locator(".badge").first).to_have_text("Paused", timeout=PATIENCE_MS)
        (interest,) = list_interests(site, ann)
        ahead = datetime.fromisoformat(interest["effective_from"]) - datetime.now(UTC)
        assert timedelta(minutes=45) < ahead <= timedelta(minutes=61)
        card.get_by_role("button", name="Resume", exact=True).click()
        expect(card.locator(".badge").first).not_to_have_text("Paused", timeout=PATIENCE_MS)
        (interest,) = list_interests(site, ann)
        assert datetime.fromisoformat(interest["effective_from"]) <= datetime.now(UTC) + timedelta(seconds=3)
        with answering(visit, lambda: build_states()["live"]):
            visit.goto("/")
            expect(card).to_contain_text("Live: this minute", timeout=PATIENCE_MS)
        assert visit.faults == []


def test_who_resumes_or_undoes_soon_is_told_of_windows_of_before(site: Site, browser: Browser, ann: Person) -> None:
    """What was not known when the pause or the removal came is judged once it is known; what was known is not again."""
    interest = set_interest(site, ann, effective_from=(find_today() - timedelta(days=9)).isoformat())
    url = f"{site.url}/interests/{interest['interest_id']}/windows"
    known = plain_http.get(url, headers=ann.headers).json()["freshness"]["known_until"]
    with site.open(browser, "/", person=ann) as visit:
        card = visit.page.locator("article")
        expect(card.locator(".badge").first).to_have_text("Normal", timeout=PATIENCE_MS)
        card.get_by_role("button", name="Pause", exact=True).click()
        card.get_by_role("button", name=re.compile("^For a week")).click()
        card.get_by_role("button", name="Resume", exact=True).click()
        card.get_by_role("button", name="Pause", exact=True).wait_for()
        (resumed,) = list_interests(site, ann)
        assert (resumed["version"], resumed["effective_from"]) == (interest["version"] + 2, known)
        card.get_by_role("button", name="Remove").click()
        visit.page.locator("dialog").get_by_role("button", name="Remove").click()
        visit.page.get_by_role("button", name="Undo").click()
        expect(card.locator("h2")).to_have_text("New York, JFK", timeout=PATIENCE_MS)
        (undone,) = list_interests(site, ann)
        assert undone["interest_id"] != interest["interest_id"]
        assert undone["effective_from"] == known
    url = f"{site.url}/interests/{undone['interest_id']}/windows"
    windows = plain_http.get(url, params={"begin": known}, headers=ann.headers).json()["windows"]
    assert windows
    assert {window["why_unknown"] for window in windows} <= {"not_collected", None}


def test_after_a_long_pause_only_what_comes_is_judged(site: Site, browser: Browser, ann: Person) -> None:
    """All that was before the pause is known: resuming makes the present the start, and what was in the pause stays."""
    answer = build_states()["paused"]
    former = {name: value for name, value in answer["interest"].items() if not name.startswith("learning")}
    begin = find_hour() - timedelta(hours=30)
    former |= {
        "version": 2,
        "effective_from": show(begin - timedelta(days=9)),
        "since": show(begin - timedelta(days=9)),
    }
    answer["former_versions"] = [former | {"until": show(begin)}]
    answer["freshness"]["known_until"] = show(begin + timedelta(hours=3))
    for window in answer["windows"][-27:]:
        window |= {"flights": None, "is_closed": False, "why_unknown": "not_collected"}
    InterestWindows.model_validate_json(json.dumps(answer), extra="forbid")
    sent: list[dict[str, Any]] = []

    def change(route: Route) -> None:
        if route.request.method == "PATCH":
            sent.append(json.loads(route.request.post_data or ""))
            route.fulfill(json=answer["interest"] | sent[-1])
        else:
            route.fallback()

    with site.open(browser, "/account", person=ann) as visit, answering(visit, lambda: answer):
        visit.page.route(f"**/interests/{INTEREST_ID}", change)
        visit.goto("/")
        visit.page.get_by_role("button", name="Resume", exact=True).click()
        eventually(lambda: visit.page.evaluate("true") and sent, "the pause is ended")
        late = datetime.now(UTC) - datetime.fromisoformat(sent[0]["effective_from"])
        assert timedelta(seconds=-3) <= late < timedelta(minutes=5)


def test_a_pause_of_what_was_changed_elsewhere_is_said(site: Site, browser: Browser, ann: Person) -> None:
    """The card says so, and shows it as it is now; nothing is overwritten."""
    set_interest(site, ann)
    with site.open(browser, "/", person=ann) as visit:
        card = visit.page.locator("article")
        expect(card).to_contain_text("above 20 flights", timeout=PATIENCE_MS)
        card.get_by_role("button", name="Pause").click()
        set_interest(site, ann, high_value=44)
        card.get_by_role("button", name=re.compile("^For a week")).click()
        expect(card.locator("[role=alert]")).to_contain_text("changed elsewhere", timeout=PATIENCE_MS)
        expect(card).to_contain_text("above 44 flights", timeout=PATIENCE_MS)
        (interest,) = list_interests(site, ann)
        assert interest["version"] == 2


def test_an_airport_is_removed_after_one_question_and_set_again(site: Site, browser: Browser, ann: Person) -> None:
    """Escape and "Keep it" keep it; after removing, one button sets the same again."""
    before = set_interest(site, ann, low_value=2, for_windows=2, repeat=True)
    with site.open(browser, "/", person=ann) as visit:
        page = visit.page
        remove = page.locator("article").get_by_role("button", name="Remove")
        remove.click()
        check_page(visit)
        page.keyboard.press("Escape")
        expect(page.locator("dialog")).to_have_count(0)
        remove.click()
        page.get_by_role("button", name="Keep it").click()
        expect(page.locator("dialog")).to_have_count(0)
        assert len(list_interests(site, ann)) == 1
        remove.click()
        page.locator("dialog").get_by_role("button", name="Remove").click()
        expect(page.locator("#notices")).to_contain_text("was removed", timeout=PATIENCE_MS)
        assert list_interests(site, ann) == []
        check_page(visit)
        page.get_by_role("button", name="Undo").click()
        expect(page.locator("article h2")).to_have_text("New York, JFK", timeout=PATIENCE_MS)
    (after,) = list_interests(site, ann)
    same = ("airport_icao", "direction", "window", "high_value", "low_value", "for_windows", "repeat", "aligned_to")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}


@pytest.mark.parametrize(
    ("status", "said"), [(503, "cannot answer at the moment"), (429, "too often"), (0, "cannot be reached")]
)
def test_a_service_that_is_away_is_said_and_waited_for(
    site: Site, browser: Browser, ann: Person, status: int, said: str
) -> None:
    """The page says what is wrong, keeps what it shows, and goes on by itself once the service is back."""
    set_interest(site, ann)
    with site.open(browser, "/account", person=ann) as visit:
        page = visit.page
        page.clock.install()
        visit.goto("/")
        expect(page.locator("article h2")).to_have_text("New York, JFK", timeout=PATIENCE_MS)

        def fail(route: Route) -> None:
            if status == 0:
                route.abort()
            else:
                route.fulfill(status=status, content_type="application/problem+json", body='{"detail": "x"}')

        page.route("**/interests/*/windows*", fail)
        look_until(page, lambda: said in page.locator("#problem").inner_text())
        expect(page.locator("#problem")).to_contain_text(said)
        expect(page.locator("article h2")).to_have_text("New York, JFK")
        page.unroute("**/interests/*/windows*")
        look_until(page, lambda: not page.locator("#problem").inner_text())


def test_names_with_markup_are_text(site: Site, browser: Browser, ann: Person) -> None:
    """Whatever an airport is called, or a service answers, it is shown as it is."""
    evil = '<img src=x onerror="window.hurt=1">'
    answer = build_answer(build_interest(notice=evil))
    answer["airport"] |= {"name": evil, "city": evil, "country": "<"}
    with site.open(browser, "/account", person=ann) as visit, answering(visit, lambda: answer):
        for path in ("/", f"/told?interest={INTEREST_ID}"):
            visit.goto(path)
            expect(visit.page.locator("#page")).to_contain_text(evil, timeout=PATIENCE_MS)
            assert visit.page.evaluate("window.hurt") is None
            assert visit.page.locator("#page img").count() == 0


def test_another_persons_airports_are_not_shown(site: Site, browser: Browser, ann: Person) -> None:
    """Two people on one machine: each sees their own."""
    bob = site.register(name="Bob")
    set_interest(site, bob, airport_icao="LICC", high_value=4321)
    with site.open(browser, "/", person=ann) as visit:
        expect(visit.page.locator(".empty")).to_be_visible(timeout=PATIENCE_MS)
        assert "LICC" not in visit.page.content()
    bobs = list_interests(site, bob)[0]["interest_id"]
    answer = plain_http.get(f"{site.url}/interests/{bobs}/windows", headers=ann.headers)
    assert answer.status_code == 404
