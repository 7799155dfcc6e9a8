"""From when on an interest goes on after a pause or an undone removal: no window that may still be told is lost."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st
from playwright.sync_api import Browser, Page, expect

from tests import plain_http
from tests.web.site import Person, Site
from tests.web.watched import find_today, list_interests, set_interest, store_flights
from tests.web.windows_answers import HOUR, build_alert, build_window, show

PATIENCE_MS: Final = 120_000
NOON: Final = datetime(2026, 11, 30, 12, tzinfo=UTC)
EACH: Final = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
NEVER_JUDGED: Final = ("before_coverage", "before_effective_from")
PASSED_BEFORE_A_KNOWN_ONE: Final = ("gap", "changed_before_judged")


@pytest.fixture(scope="module")
def words(site: Site, browser: Browser) -> Iterator[Page]:
    """A page that has loaded the module of words."""
    with site.open(browser, "/register") as visit:
        script = visit.page.locator("script[type=module]").get_attribute("src")
        assert script is not None
        folder = script.rsplit("/", 1)[0]
        visit.page.evaluate("async (folder) => { window.words = await import(`${folder}/words.js`); }", folder)
        yield visit.page


def build_hours(count: int, known: datetime, **open_members: Any) -> list[dict[str, Any]]:
    """Return `count` hours, the last of them open at the end of what is known."""
    last = known.replace(minute=0, second=0, microsecond=0)
    hours = [build_window(last - back * HOUR) for back in range(count, 0, -1)]
    return [*hours, build_window(last, **{"flights": 3, "is_closed": False, **open_members})]


def resume(words: Page, answer: dict[str, Any], now: datetime) -> datetime:
    """Return from when on the page's module resumes a paused interest."""
    found = words.evaluate("([answer, now]) => words.findResumption(answer, now)", [answer, now.timestamp() * 1000])
    return datetime.fromtimestamp(found / 1000, UTC)


def begin(words: Page, answer: dict[str, Any] | None, now: datetime) -> datetime:
    """Return from when on the page's module lets an interest go on whose removal is undone."""
    found = words.evaluate("([answer, now]) => words.findBegin(answer, now)", [answer, now.timestamp() * 1000])
    return datetime.fromtimestamp(found / 1000, UTC)


def paused(at: datetime, since: datetime = NOON - timedelta(days=29)) -> list[dict[str, Any]]:
    """Return the version of an interest that was in effect until it was paused."""
    return [{"effective_from": show(since), "until": show(at)}]


def build_days(*, end: datetime, known: datetime) -> list[dict[str, Any]]:
    """Return three days: the last one ends at `end`, and is open."""
    starts = [end - back * timedelta(days=1) for back in (3, 2, 1)]
    return [
        build_window(start, window_end=show(start + timedelta(days=1)), is_closed=start + timedelta(days=1) <= known)
        for start in starts
    ]


@pytest.mark.parametrize(
    ("known", "end", "expected"),
    [
        pytest.param(
            NOON + timedelta(minutes=18), NOON + 12 * HOUR, NOON - 12 * HOUR, id="live, days by UTC: today is told"
        ),
        pytest.param(NOON - 12 * HOUR, NOON - 7 * HOUR, NOON - 31 * HOUR, id="record, days by New York's clock"),
    ],
)
def test_a_day_that_began_before_a_short_pause_is_told(
    words: Page, known: datetime, end: datetime, expected: datetime
) -> None:
    """It is open, so it is judged by the version that resumes, which has to be in effect when it begins."""
    answer = {
        "freshness": {"known_until": show(known)},
        "windows": build_days(end=end, known=known),
        "former_versions": paused(NOON),
    }
    assert resume(words, answer, NOON + timedelta(minutes=20)) == expected
    assert begin(words, answer, NOON + timedelta(minutes=20)) == expected


@pytest.mark.parametrize(
    ("since", "paused_at", "expected"),
    [
        pytest.param(NOON - timedelta(days=9), NOON - HOUR, NOON, id="paused before it began: the present"),
        pytest.param(NOON - timedelta(days=9), NOON - HOUR / 4, NOON - HOUR / 2, id="it began before the pause"),
        pytest.param(NOON - HOUR / 3, NOON - HOUR / 4, NOON - HOUR / 3, id="not before the interest was in effect"),
        pytest.param(NOON, NOON - HOUR / 4, NOON, id="it was paused all the time"),
    ],
)
def test_resuming_looks_at_where_the_open_window_begins(
    words: Page, since: datetime, paused_at: datetime, expected: datetime
) -> None:
    """A pause keeps the window in which it begins, not one that begins in it, and not what was before the interest."""
    known = NOON - timedelta(minutes=10)
    windows = [
        build_window(NOON - 3 * HOUR / 2),
        build_window(NOON - HOUR / 2, is_closed=False, why_unknown="changed_before_judged"),
    ]
    answer = {
        "freshness": {"known_until": show(known)},
        "windows": windows,
        "former_versions": paused(paused_at, since),
    }
    assert resume(words, answer, NOON) == expected


def test_an_early_breach_does_not_hide_an_open_window_before_it(words: Page) -> None:
    """Departures are heard of before the hours before them are known: those may still be told of too few flights."""
    windows = build_hours(4, NOON)
    windows[3] |= {"is_closed": False}
    windows[4] |= {"alerts": [build_alert(1, "firing")]}
    answer = {"freshness": {"known_until": show(NOON - HOUR / 2)}, "windows": windows}
    assert begin(words, answer, NOON + HOUR / 2) == NOON - HOUR


def test_a_day_with_a_gap_is_told_unless_days_after_it_are_known(words: Page) -> None:
    """Today at a live airport whose positions paused may still breach a high level; an older gap is passed over."""
    days = build_days(end=NOON + 12 * HOUR, known=NOON)
    answer = {"freshness": {"known_until": show(NOON)}, "windows": days}
    days[-1] |= {"why_unknown": "gap"}
    assert begin(words, answer, NOON) == NOON - 12 * HOUR
    days[0] |= {"why_unknown": "gap", "is_closed": False}
    assert begin(words, answer, NOON) == NOON - 12 * HOUR


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {"freshness": {"known_until": None}, "windows": []},
        {"freshness": {"known_until": show(NOON - timedelta(days=31))}, "windows": []},
    ],
)
def test_where_nothing_is_known_the_present_is_the_begin(words: Page, answer: dict[str, Any] | None) -> None:
    """Nor does an interest begin farther back than the service takes."""
    assert begin(words, answer, NOON) == NOON


def test_without_windows_the_end_of_what_is_known_is_the_begin(words: Page) -> None:
    """The answer holds no window, but all until then was known."""
    answer = {"freshness": {"known_until": show(NOON - 5 * HOUR)}, "windows": []}
    assert begin(words, answer, NOON) == NOON - 5 * HOUR


KINDS = st.sampled_from(
    [
        (True, None),
        (False, None),
        (False, "gap"),
        (False, "not_collected"),
        (False, "before_coverage"),
        (False, "before_effective_from"),
        (False, "changed_before_judged"),
        (True, "changed_before_judged"),
        (False, "usual_not_reached"),
    ]
)


@EACH
@given(
    kinds=st.lists(st.tuples(KINDS, st.booleans()), min_size=1, max_size=12),
    paused_at=st.integers(0, 30),
)
@example(kinds=[((True, None), False), ((False, None), False)], paused_at=3)
@example(kinds=[((False, "gap"), False), ((True, None), False), ((False, None), False)], paused_at=5)
def test_no_window_that_may_still_be_told_is_before_the_begin(
    words: Page, kinds: list[tuple[tuple[bool, str | None], bool]], paused_at: int
) -> None:
    """And where one may be, nothing before the first of them is judged again. Half hours since the first window."""
    first = NOON - 15 * HOUR
    windows = [
        build_window(
            first + at * HOUR,
            is_closed=is_closed,
            why_unknown=why,
            alerts=[build_alert(at, "firing")] if is_told else [],
        )
        for at, ((is_closed, why), is_told) in enumerate(kinds)
    ]
    answer = {
        "freshness": {"known_until": show(first)},
        "windows": windows,
        "former_versions": paused(first + paused_at * HOUR / 2),
    }
    awaited = [
        first + at * HOUR
        for at, ((is_closed, why), is_told) in enumerate(kinds)
        if not (is_closed or is_told or why in NEVER_JUDGED)
        and (why not in PASSED_BEFORE_A_KNOWN_ONE or not any(closed for (closed, _), _ in kinds[at:]))
    ]
    end = first + len(kinds) * HOUR
    assert begin(words, answer, NOON) == (awaited[0] if awaited else end)
    untold_before_pause = [start for start in [*awaited, end][:1] if start < first + paused_at * HOUR / 2]
    assert resume(words, answer, NOON) == (untold_before_pause[0] if untold_before_pause else NOON)


@pytest.mark.parametrize("how", ["undo", "resume"])
@pytest.mark.parametrize("window", ["1d", "6h"])
def test_the_window_that_is_open_at_the_end_of_what_is_known_is_told_still(
    site: Site, browser: Browser, ann: Person, how: str, window: str
) -> None:
    """By the airport's clock the record ends in the middle of a window: nobody was told of it yet, so it is judged."""
    store_flights(site, "KJFK")
    since = (find_today() - timedelta(days=9)).isoformat()
    interest = set_interest(
        site, ann, window=window, aligned_to="airport", high_value=None, low_value=5, effective_from=since
    )
    url = f"{site.url}/interests/{interest['interest_id']}/windows"
    windows = plain_http.get(url, headers=ann.headers).json()["windows"]
    open_ = [each for each in windows if not each["is_closed"] and each["why_unknown"] is None]
    assert [each["alerts"] for each in open_] == [[]]
    with site.open(browser, "/", person=ann) as visit:
        card = visit.page.locator("article")
        expect(card.locator(".badge").first).to_have_text("Normal", timeout=PATIENCE_MS)
        if how == "undo":
            card.get_by_role("button", name="Remove").click()
            visit.page.locator("dialog").get_by_role("button", name="Remove").click()
            visit.page.get_by_role("button", name="Undo").click()
            expect(card.locator("h2")).to_have_text("New York, JFK", timeout=PATIENCE_MS)
        else:
            card.get_by_role("button", name="Pause", exact=True).click()
            card.get_by_role("button", name=re.compile("^For a week")).click()
            card.get_by_role("button", name="Resume", exact=True).click()
            card.get_by_role("button", name="Pause", exact=True).wait_for()
    (after,) = list_interests(site, ann)
    assert after["effective_from"] == open_[0]["window_start"]
    url = f"{site.url}/interests/{after['interest_id']}/windows"
    found = {each["window_start"]: each for each in plain_http.get(url, headers=ann.headers).json()["windows"]}
    assert found[open_[0]["window_start"]]["why_unknown"] is None
