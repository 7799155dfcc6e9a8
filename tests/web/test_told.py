"""What I was told: window by window, newest first, with corrections beside what they correct, and why not judged."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from collector.rest.window_answers import InterestWindows
from tests import plain_http
from tests.web.checks import check_page
from tests.web.site import Person, Site
from tests.web.test_home import answering
from tests.web.watched import set_interest, store_flights
from tests.web.windows_answers import HOUR, INTEREST_ID, build_alert, build_answer, build_states, find_hour

PATIENCE_MS = 120_000
STATES = tuple(build_states())


def build_corrected() -> dict[str, Any]:
    """Return an answer with an alert that was withdrawn, beside one that stands, and a former version."""
    answer, corrected = build_answer(), build_alert(1, "firing")["alert_id"]
    answer["windows"][10] |= {
        "flights": 19,
        "alerts": [
            build_alert(1, "firing", flights=22),
            build_alert(2, "withdrawn", flights=19, withdrawn_state="firing", corrects_alert_id=corrected),
        ],
    }
    answer["windows"][30] |= {"flights": 31, "breached": ["high"], "alerts": [build_alert(3, "firing")]}
    answer["windows"][31] |= {"alerts": [build_alert(4, "resolved", flights=12)]}
    answer["windows"][5] |= {"flights": None, "is_closed": False, "why_unknown": "gap"}
    hour = find_hour()
    former = {name: value for name, value in answer["interest"].items() if not name.startswith("learning")}
    since, until = (f"{hour - days * 24 * HOUR:%Y-%m-%dT%H:%M:%SZ}" for days in (9, 3))
    answer["former_versions"] = [former | {"version": 2, "high_value": 15, "since": since, "until": until}]
    return answer


def test_corrections_stand_beside_what_they_correct(site: Site, browser: Browser, ann: Person) -> None:
    """Newest first; only what was alerted, until the filter is taken away; former levels are told."""
    answer = build_corrected()
    InterestWindows.model_validate_json(json.dumps(answer), extra="forbid")
    with site.open(browser, "/account", person=ann, phone=True) as visit, answering(visit, lambda: answer):
        visit.goto(f"/told?interest={INTEREST_ID}")
        page = visit.page
        windows = page.locator(".told-windows > li")
        expect(windows).to_have_count(3, timeout=PATIENCE_MS)
        expect(windows.nth(0)).to_contain_text("Back to normal: 12 departures.")
        expect(windows.nth(1)).to_contain_text("Above your level: 31 departures.")
        first = windows.nth(2)
        expect(first.locator(".mails > li")).to_have_count(1)
        expect(first.locator(".mails > li")).to_contain_text("Above your level: 22 departures.")
        expect(first.locator(".correction")).to_have_text(
            "Corrected later. Withdrawn: 19 departures, by what is known now."
        )
        page.get_by_text("Your levels before: 1").click()
        expect(page.locator(".told-head")).to_contain_text("above 15 flights")
        check_page(visit)
        page.get_by_label("Only what I was told").uncheck()
        expect(windows).to_have_count(48)
        expect(page.locator(".told-list")).to_contain_text("Not judged: a part of it was not collected.")
        check_page(visit)


def test_a_device_with_another_clock_shows_the_same(site: Site, browser: Browser, ann: Person) -> None:
    """How far back is asked is the service's word: in the demo, for example, it is another year there."""
    interest = set_interest(site, ann, high_value=20)
    with site.open(browser, "/account", person=ann) as visit:
        visit.page.clock.set_fixed_time(datetime(2040, 1, 1, tzinfo=UTC))
        with visit.page.expect_response(lambda answer: "/windows?" in answer.url) as asked:
            visit.goto(f"/told?interest={interest['interest_id']}")
        assert asked.value.status == 200
        assert asked.value.json()["windows"][0]["window_start"] == asked.value.json()["earliest_begin"]
        expect(visit.page.locator(".told-head")).to_contain_text("New York")
        assert visit.faults == []


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("language", ["en", "it"])
def test_each_state_is_told_in_the_readers_language(
    site: Site, browser: Browser, ann: Person, state: str, language: str
) -> None:
    """All windows of each state have words; nothing breaks where there is none."""
    with (
        site.open(browser, "/account", person=ann, language=language, dark=language == "it") as visit,
        answering(visit, lambda: build_states()[state]),
    ):
        visit.goto(f"/told?interest={INTEREST_ID}")
        expect(visit.page.locator(".told-list h2")).to_be_visible(timeout=PATIENCE_MS)
        visit.page.locator(".told-choice input[type=checkbox]").uncheck()
        count = len(build_states()[state]["windows"])
        expect(visit.page.locator(".told-windows > li")).to_have_count(min(count, 60))
        check_page(visit)


def test_the_page_shows_what_the_collector_says_was_alerted(site: Site, browser: Browser, ann: Person) -> None:
    """Of a real interest: one entry for each window with an alert that `GET /interests/{id}/windows` has."""
    store_flights(site, "KJFK")
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    interest = set_interest(site, ann, effective_from=(today - timedelta(days=29)).isoformat())
    begin = (today - timedelta(days=39)).isoformat().replace("+00:00", "Z")
    url = f"{site.url}/interests/{interest['interest_id']}/windows"
    windows = plain_http.get(url, params={"begin": begin}, headers=ann.headers).json()["windows"]
    said = [window for window in windows if window["alerts"]]
    assert said, "the flights of these tests cross the level"
    with site.open(browser, "/told", person=ann) as visit:
        entries = visit.page.locator(".told-windows > li")
        expect(entries).to_have_count(min(len(said), 60), timeout=PATIENCE_MS)
        newest = said[-1]["alerts"][-1]
        expect(entries.first).to_contain_text(f"{newest['flights']} departure")
        check_page(visit)


def test_without_interests_the_page_leads_on(site: Site, browser: Browser, ann: Person) -> None:
    """Nothing was said, and the page says where to begin."""
    with site.open(browser, "/told", person=ann, phone=True) as visit:
        expect(visit.page.locator(".empty")).to_contain_text("nothing was said")
        check_page(visit)
