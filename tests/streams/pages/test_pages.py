"""Tests of the overview, and of the rules for all pages: right numbers, escaped values, no user, accessible HTML."""

import asyncio
import json
import re
from dataclasses import replace
from datetime import timedelta
from html import unescape
from itertools import pairwise
from pathlib import Path

import pytest

from domain.alerts import Bound
from domain.interests import Direction
from domain.traffic import Coverage
from domain.windows import Window
from streams.app import create_app
from streams.pages.airport import build_airport_detail
from streams.pages.explain import explain_interest
from streams.pages.overview import (
    AIRPORTS_ADAPTER,
    AIRPORTS_PER_PAGE,
    OVERVIEW_ADAPTER,
    SHOWN_HOURS,
    Overview,
    WorkerShown,
    build_overview,
    merge_overviews,
    summarize_airport,
)
from streams.pages.pulse import LoopLag
from streams.pages.rendering import (
    STATIC_FILES,
    render_airport,
    render_error,
    render_explanation,
    render_graph,
    render_overview,
    render_stats,
)
from streams.pages.worker import (
    AgentShown,
    MemberShown,
    RecoveryShown,
    TableShown,
    TopicShown,
    WorkerState,
    build_graph,
)
from streams.recent_activity import RecentActivity
from streams.settings import JoinSettings
from tests.domain.logs import BASE, an_interest
from tests.domain.test_rule import seen
from tests.streams.events import interest_set, observed
from tests.streams.join_state_on_dicts import JoinStateOnDicts
from tests.streams.test_recent_activity import Seconds, an_alert

NOW = BASE + timedelta(hours=102)
HOSTILE = "<script>alert(1)</script>"


def fold_log(airport: str, *log) -> JoinStateOnDicts:
    """Fold one interest and a log of observations at an airport into a new join state."""
    join = JoinStateOnDicts()
    join.fold(interest_set(an_interest(airport=airport), 1))
    for number, each in enumerate(log):
        join.fold(observed(airport, number + 1, each))
    return join


def make_overview(*airports, activity: RecentActivity | None = None, name: str = "10.0.0.1:80") -> Overview:
    activity = activity or RecentActivity(Seconds(), Seconds())
    return build_overview(airports, activity, NOW, [WorkerShown(name, 12, answered=True)])


def make_state() -> WorkerState:
    """Return the state of a ready worker that has one other worker in its group."""
    return WorkerState(
        name="10.0.0.1:80",
        at=NOW,
        uptime_s=3725.0,
        state="ready",
        partitions=(0, 1, 2),
        all_partitions=12,
        members=(MemberShown("10.0.0.1:80", (0, 1, 2)), MemberShown("10.0.0.2:80", (3,))),
        tables=(TableShown("airports", "Traffic", 1234, False, 99, 1.5, "streams-airports-changelog"),),
        agents=(AgentShown("join", ("flights.observed.v1",), 4321, 12.0),),
        inputs=(TopicShown("flights.observed.v1", 4000, 3.0, 17),),
        outputs=(TopicShown("alerts.raised.v1", 55, 0.0, None),),
        recovery=RecoveryShown(False, 0, 1.25),
        rebalances=2,
        loop_lag=LoopLag(0.3, 0.2, 4.5),
        store="RocksDB",
    )


def test_only_covered_hours_are_shown() -> None:
    """An hour that is half covered would look like less traffic, so it is left out."""
    join = fold_log("KJFK", seen(0, 100, (51.5, 52.5, 99.5)), seen(100, 100.5, (100.2,)))
    airport = summarize_airport(join.state, "KJFK", NOW)
    assert len(airport.departures.hours) == SHOWN_HOURS
    assert (airport.departures.hours[0], airport.departures.hours[-1]) == (1, 1)
    assert airport.departures.watermark == "2013-02-12T04:30Z"
    assert airport.departures.lag_s == 5400
    assert (airport.arrivals.watermark, airport.arrivals.lag_s) == (None, None)
    assert (airport.name, airport.city) == ("John F Kennedy International Airport", "New York")
    assert (airport.interests, airport.thresholds) == (1, 1)


def test_hours_that_a_gap_touches_are_marked() -> None:
    """The flights that are known may not be all flights of such an hour."""
    join = fold_log("KJFK", seen(0, 2), seen(2, 3.5, (), Coverage.GAP), seen(3.5, 6))
    assert summarize_airport(join.state, "KJFK", NOW).departures.gaps == (2, 3)


def test_breaches_are_those_of_the_last_closed_window() -> None:
    """Two flights do not breach a high threshold of two; three flights do."""
    join = fold_log("KJFK", seen(0, 1, (0.1, 0.2)))
    assert summarize_airport(join.state, "KJFK", NOW).breaches == ()
    join.fold(observed("KJFK", 2, seen(1, 2, (1.1, 1.2, 1.3))))
    (breach,) = summarize_airport(join.state, "KJFK", NOW).breaches
    assert (breach.direction, breach.window, breach.bound, breach.interests) == (
        Direction.DEPARTURES,
        Window.ONE_HOUR,
        Bound.HIGH,
        1,
    )


def test_a_clock_behind_the_watermark_shows_no_lag() -> None:
    """The lag is never negative."""
    join = fold_log("KJFK", seen(0, 100))
    assert summarize_airport(join.state, "KJFK", BASE).departures.lag_s == 0


def test_an_airport_that_is_in_no_list_is_shown_by_its_code() -> None:
    """An airport can be newer than the list of airports."""
    airport = summarize_airport(fold_log("ZZZZ", seen(0, 1)).state, "ZZZZ", NOW)
    assert (airport.icao, airport.name, airport.departures.hours) == ("ZZZZ", "", (0,))
    assert "in no list of airports" in render_overview(make_overview(airport), 1, False, "w")


def test_merged_overviews_have_the_data_of_all_workers() -> None:
    """Rates are added, airports sorted by code, alerts by time, and a worker without an answer is named."""
    left, right = Seconds(), Seconds()
    first, second = RecentActivity(left, left), RecentActivity(right, right)
    first.record_flights("KJFK", 30)
    second.record_flights("LICC", 20)
    first.record_alert(an_alert())
    right.at += 1
    second.record_alert(an_alert(airport="LICC"))
    left.at += 2
    right.at += 1
    jfk = summarize_airport(fold_log("KJFK", seen(0, 1)).state, "KJFK", NOW)
    licc = summarize_airport(fold_log("LICC", seen(0, 2)).state, "LICC", NOW)
    stale = replace(jfk, interests=0)
    one = make_overview(jfk, activity=first, name="b:1")
    other = make_overview(licc, stale, activity=second, name="a:1")
    both = merge_overviews(one, [other], [WorkerShown("c:1", 4, answered=False, note="did not answer")])
    assert [each.icao for each in both.airports] == ["KJFK", "LICC"]
    assert both.airports[0] == jfk, "if two workers report an airport, this worker's own report is taken"
    assert [each.airport for each in both.alerts] == ["LICC", "KJFK"]
    assert both.flights_by_second[-3:] == (0, 50, 0)
    assert (both.flights_rate, both.alerts_rate) == (5.0, 0.2)
    assert [each.name for each in both.workers] == ["a:1", "b:1", "c:1"]
    page = render_overview(both, 1, False, "b:1")
    assert "Not everything is shown" in page
    assert "2</b> of 3 answered" in page
    assert "Not everything is shown" not in render_overview(one, 1, False, "b:1")


def test_an_overview_is_decoded_from_the_json_of_a_newer_worker() -> None:
    """Workers exchange the overview as JSON; members that a newer version adds are ignored."""
    activity = RecentActivity(Seconds(), Seconds())
    activity.record_alert(an_alert())
    overview = make_overview(summarize_airport(fold_log("KJFK", seen(0, 1)).state, "KJFK", NOW), activity=activity)
    decoded = json.loads(OVERVIEW_ADAPTER.dump_json(overview))
    decoded["airports"][0]["weather"] = "fine"
    assert OVERVIEW_ADAPTER.validate_python(decoded) == overview


def test_the_json_of_airports_has_the_documented_members() -> None:
    """The JSON is a list of objects with code, name, both directions and the number of interests."""
    join = fold_log("LICC", seen(0, 1, (0.1, 0.2, 0.3)), seen(1, 3, (2.5,)))
    (airport,) = json.loads(AIRPORTS_ADAPTER.dump_json((summarize_airport(join.state, "LICC", NOW),)))
    assert {"icao", "name", "arrivals", "departures", "interests"} <= airport.keys()
    assert airport["departures"]["watermark"] == "2013-02-08T03:00Z"
    assert airport["departures"]["hours"] == [3, 0, 1]
    assert (airport["arrivals"]["watermark"], airport["arrivals"]["hours"]) == (None, [])


def test_without_airports_the_page_says_so() -> None:
    """An empty table without a sentence would look like a fault."""
    page = render_overview(make_overview(), 1, False, "w")
    assert "No flights observed yet" in page
    assert "No alert was raised" in page
    assert "No airport is in breach." in render_overview(make_overview(), 1, True, "w")


def test_many_airports_are_shown_page_by_page() -> None:
    """Each airport is on one page, in order; a page number above the last shows the last page."""
    shown = summarize_airport(fold_log("KJFK", seen(0, 1)).state, "KJFK", NOW)
    codes = [f"A{number:03}" for number in range(2 * AIRPORTS_PER_PAGE + 1)]
    overview = make_overview(*(replace(shown, icao=code) for code in codes))
    found = [
        re.findall(r'class="icao" href="/airports/(\w+)"', render_overview(overview, page, False, "w"))
        for page in (1, 2, 3, 9)
    ]
    assert found[0] + found[1] + found[2] == codes
    assert found[3] == found[2]
    assert 'rel="next"' not in render_overview(overview, 3, False, "w")


def test_the_overview_can_show_only_airports_in_breach() -> None:
    """The filter leaves out the airports without a breach."""
    quiet = summarize_airport(fold_log("KJFK", seen(0, 1)).state, "KJFK", NOW)
    breached = summarize_airport(fold_log("LICC", seen(0, 1, (0.1, 0.2, 0.3))).state, "LICC", NOW)
    page = render_overview(make_overview(quiet, breached), 1, True, "w")
    assert "/airports/LICC" in page
    assert "/airports/KJFK" not in page
    assert 'href="/overview?show=breaches" aria-current="true"' in page


PAGES = ("overview", "airport", "explain", "stats", "graph", "sorry")


def render_all_pages(called: str = "KJFK") -> dict[str, str]:
    """Render every page, of an airport and a worker that are named `called`; return the HTML by the page's name."""
    log = [seen(0, 1, (0.1, 0.2, 0.3)), seen(1, 3, (1.5,), Coverage.GAP), seen(3, 100, (50.5,))]
    activity = RecentActivity(Seconds(), Seconds())
    activity.record_alert(an_alert(airport=called))
    join_state = fold_log("KJFK", *log).state
    shown = replace(summarize_airport(join_state, "KJFK", NOW), icao=called, name=called, city=called)
    detail = build_airport_detail(join_state, "KJFK", Window.ONE_HOUR, NOW, activity.list_alert_groups())
    explanation = explain_interest(join_state, an_interest(low=1), NOW)
    return {
        "overview": render_overview(make_overview(shown, activity=activity, name=called), 1, False, called),
        "airport": render_airport(replace(detail, icao=called, name=called, city=called), called),
        "explain": render_explanation(replace(explanation, airport=called, name=called), 1, False, called),
        "stats": render_stats(replace(make_state(), name=called)),
        "graph": render_graph(build_graph(replace(make_state(), name=called))),
        "sorry": render_error("Not found", called, True, called),
    }


@pytest.mark.parametrize("name", PAGES)
def test_all_values_are_escaped(name) -> None:
    """A template escapes every value, even a code that was validated before."""
    page = render_all_pages(HOSTILE)[name]
    assert "<script>" not in page
    assert "alert(1)" in unescape(page)


@pytest.mark.parametrize("name", PAGES)
def test_no_page_has_an_inline_script_or_style(name) -> None:
    """The content policy forbids them, and anything from another host."""
    page = render_all_pages()[name]
    assert re.findall(r"<script(?! src=\"/static/)", page) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=|javascript:", page) == []
    assert re.findall(r"(?:src|href|action)=\"(?!/|#)", page) == []
    for path in re.findall(r"/static/([\w.]+)", page):
        assert path in STATIC_FILES


@pytest.mark.parametrize("name", PAGES)
def test_no_page_names_a_person(name) -> None:
    """No page has a user id, and only the page of an interest has an interest id."""
    page = render_all_pages()[name]
    assert str(an_interest().user_id) not in page
    assert (str(an_interest().interest_id) in page) == (name == "explain")


@pytest.mark.parametrize("name", PAGES)
def test_every_page_has_the_structure_that_assistive_technology_needs(name) -> None:
    """A page has one main heading, no skipped level, a skip link, and names for all graphics."""
    page = render_all_pages()[name]
    levels = [int(level) for level in re.findall(r"<h([1-6])", page)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    assert page.index('class="skip" href="#main"') < page.index("<header")
    assert '<main id="main"' in page
    assert '<html lang="en">' in page
    for svg in re.findall(r"<svg[^>]*>", page):
        assert "aria-hidden" in svg or ('role="img"' in svg and 'aria-label="' in svg)
    identifiers = re.findall(r'\sid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))


def test_only_the_page_of_a_temporary_error_updates_itself() -> None:
    """The page of a permanent error has no script for updates."""
    assert "live.js" in render_error("Not ready", "It moves.", True, "w")
    assert "live.js" not in render_error("Not found", "There is none.", False, "w")


def test_the_numbers_of_a_worker_have_their_units() -> None:
    """Numbers have units, large numbers have commas, and an estimate is marked."""
    page = render_stats(make_state())
    for text in ("1 h 2 min", "1,234", "0.3</b> ms", "most 4.5 ms", "took 1.25 s", "4,321", "2 rebalances", "RocksDB"):
        assert text in page
    estimate = replace(make_state(), tables=(replace(make_state().tables[0], is_estimate=True),))
    assert "≈ 1,234" in render_stats(estimate)
    assert "4,321 events" in render_graph(build_graph(make_state()))


_TEXT = [
    *((ink, ground) for ink in ("ink", "quiet", "link") for ground in ("ground", "card", "hover", "gap")),
    *((ink, "card") for ink in ("high", "low", "ok", "amber")),
    *((ink, f"{ink}-soft") for ink in ("high", "low", "ok")),
    ("high", "ground"), ("ink", "notice"), ("link", "notice"),
]  # fmt: skip
_SHAPES = [("bar", "card"), ("bar-kept", "card"), ("live", "card"), ("live", "ground"), ("gap-line", "gap"),
           ("edge", "card"), ("focus", "ground"),
           ("focus", "card"), ("high", "card"), ("low", "card")]  # fmt: skip


def test_colours_have_the_required_contrast() -> None:
    """In both schemes text has 4.5 : 1, shapes and edges of controls 3 : 1 (WCAG 2.2 AA: 1.4.3, 1.4.11)."""
    schemes = re.findall(r":root \{(.*?)\}", STATIC_FILES["pages.css"].body.decode(), re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colour = dict(re.findall(r"--([\w-]+): (#\w{6})", scheme))
        for pairs, least in ((_TEXT, 4.5), (_SHAPES, 3.0)):
            for front, back in pairs:
                assert compute_contrast(colour[front], colour[back]) >= least, (front, back)


def compute_contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    dark, light = sorted((_compute_luminance(one), _compute_luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _compute_luminance(colour: str) -> float:
    """Return the relative luminance of a colour `#rrggbb`: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_importing_and_creating_the_app_opens_no_connection(tmp_path: Path) -> None:
    """The app connects and writes files only once a worker runs it."""
    settings = JoinSettings(kafka_bootstrap_servers="127.0.0.1:1", web_port=1, data_dir=tmp_path)

    async def create() -> None:
        app = create_app(settings)
        assert not app.started

    asyncio.run(create())
    assert list(tmp_path.iterdir()) == []
