"""Tests of the lights of the sources, and of how well live agrees with the record, as the pages say it."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, strategies as st

from domain.interests import Direction
from streams.pages.agreement import build_agreement
from streams.pages.lights import LIGHT_WORDS, MOST_REASONS, SILENT_AFTER_S, Light, SourceShown, build_lights
from streams.pages.overview import OVERVIEW_ADAPTER
from streams.pages.rendering import render_airport, render_overview
from streams.source_client import Unknown
from tests.streams.pages.test_airport import build_detail
from tests.streams.pages.test_pages import make_overview
from towerwatch.collection.v1.source_service_pb2 import (
    Credits,
    DayAgreement,
    DirectionAgreement,
    FeedSource,
    GetAgreementResponse,
    GetSourcesResponse,
    RecordSource,
)
from towerwatch.flights.v1 import events_pb2 as flights_pb

AT = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def stamp(at: datetime) -> Timestamp:
    """Return the message of a time."""
    made = Timestamp()
    made.FromDatetime(at)
    return made


def polled(ago_s: float, name: str = "opensky", **values: object) -> FeedSource:
    """Return a feed whose last poll is so many seconds ago, with one airport that is live."""
    given = {"aircraft": 812, "interval_seconds": 22.0, "live_airports": ["KJFK"]} | values
    return FeedSource(name=name, last_poll_at=stamp(AT - timedelta(seconds=ago_s)), **given)  # type: ignore[arg-type]


def answer(*feeds: FeedSource, left: int = 3_000, record: RecordSource | None = None) -> GetSourcesResponse:
    """Return the collector's answer with these feeds; 4,000 credits a day for each bucket."""
    record = record or RecordSource(credits=Credits(budget=4_000, left=3_000), lag_seconds=30 * 3600)
    return GetSourcesResponse(
        at=stamp(AT), record=record, feeds=feeds, position_credits=Credits(budget=4_000, left=left)
    )


def show(feed: FeedSource, left: int = 3_000) -> SourceShown:
    """Return a feed as the overview shows it."""
    return build_lights(answer(feed, left=left)).sources[1]


@pytest.mark.parametrize(
    ("feed", "left", "light", "words"),
    [
        (polled(20), 3_000, Light.GREEN, "812 aircraft in the poll of 20 s ago; 1 airport is live."),
        (polled(20), 199, Light.AMBER, "nearly used up"),
        (polled(20, name="receivers"), 0, Light.GREEN, "1 airport is live"),
        (polled(20, error="the source fails, and is not asked for 60 s"), 3_000, Light.AMBER, "not asked for 60 s"),
        (polled(20, live_airports=[]), 3_000, Light.AMBER, "no airport is live"),
        (polled(SILENT_AFTER_S), 3_000, Light.GREEN, "2 min ago"),
        (polled(SILENT_AFTER_S + 1), 3_000, Light.RED, "Silent"),
        (polled(7_200, error="no region can be paid"), 3_000, Light.RED, "2 h ago; no region can be paid"),
        (polled(610, name="own", interval_seconds=600.0), 3_000, Light.GREEN, "10 min ago"),
        (polled(-30), 3_000, Light.GREEN, "0 s ago"),
        (FeedSource(name="opensky", error="refused"), 3_000, Light.RED, "No poll yet: refused."),
        (FeedSource(name="opensky"), 3_000, Light.OFF, "nobody has an interest"),
        (FeedSource(name="own", error="the account has no receivers"), 3_000, Light.OFF, "no receivers"),
    ],
)
def test_a_feed_has_a_light_and_a_sentence(feed, left, light, words) -> None:
    """It is green only while it is polled, all of it answers, and an airport is live; silence is red."""
    shown = show(feed, left)
    assert shown.light is light
    assert words in shown.sentence


@pytest.mark.parametrize(
    ("changes", "light", "words"),
    [
        ({}, Light.GREEN, "Known up to 30 h ago"),
        ({"lag_seconds": 37 * 3600}, Light.AMBER, "the last night's record is late"),
        ({"lag_seconds": 73 * 3600}, Light.RED, "more than one night"),
        ({"credits": Credits(budget=4_000, left=3)}, Light.AMBER, "midnight"),
        (
            {"error": "the last call failed at 10:06: the source cannot be reached"},
            Light.AMBER,
            "The last call failed at",
        ),
        ({"paused_until": stamp(AT + timedelta(hours=1))}, Light.AMBER, "no call until Wed 4 Mar 2026, 13:00 UTC"),
        ({"lag_seconds": 0}, Light.OFF, "Nobody has an interest"),
    ],
)
def test_the_record_has_a_light_and_a_sentence(changes, light, words) -> None:
    """A day comes in the morning after it: that it is a day behind is as it should be."""
    values = {"credits": Credits(budget=4_000, left=3_000), "lag_seconds": 30 * 3600} | changes
    (shown,) = build_lights(answer(record=RecordSource(**values))).sources
    assert (shown.light, words in shown.sentence) == (light, True)


def test_what_is_not_known_is_said_and_is_not_green() -> None:
    """Without an answer there is one light, which is neither good nor bad, with the reason."""
    shown = build_lights(Unknown("the collector does not answer in time"))
    (only,) = shown.sources
    assert (shown.at, only.light) == (None, Light.UNKNOWN)
    page = render_overview(replace(make_overview(), sources=shown), 1, False, "w")
    assert "Not known: the collector does not answer in time." in page
    assert 'class="light unknown"' in page


def test_the_overview_says_each_light_in_form_and_word() -> None:
    """A colour alone says nothing to one person in twelve; hostile words of a source stay text."""
    shown = build_lights(answer(polled(20), polled(20, name="receivers", error="<b>no</b>"), polled(999, name="x")))
    page = render_overview(replace(make_overview(), sources=shown), 1, False, "w")
    for light in ("green", "amber", "red"):
        assert f'class="light {light}"' in page
        assert LIGHT_WORDS[Light(light)] in page
    assert len({page[page.index(f'class="light {light}"') :].split(">")[1] for light in ("green", "amber", "red")}) == 3
    assert "<b>no</b>" not in page
    assert "3,000 of 4,000 credits left today" in page


def test_airports_that_are_not_live_are_listed_with_the_reason() -> None:
    """Only so many: a thousand would bury the page."""
    feed = polled(20, settled_airports={f"K{number:03}": "too far" for number in range(500)})
    assert len(show(feed).not_live) == MOST_REASONS
    page = render_overview(replace(make_overview(), sources=build_lights(answer(feed))), 1, False, "w")
    assert "K000</a>: too far" in page


@given(
    st.floats(0, 10**7),
    st.integers(0, 10**6),
    st.lists(st.sampled_from(["KJFK", "LICC"]), unique=True),
    st.sampled_from(["", "the source answered 503"]),
    st.integers(0, 4_000),
)
def test_a_light_is_green_only_if_something_is_heard_now(ago_s, aircraft, live, error, left) -> None:
    """And each light of each source fits into the JSON of the overview and comes back unchanged."""
    feed = polled(ago_s, aircraft=aircraft, live_airports=live, error=error)
    shown = show(feed, left)
    assert (shown.light is Light.GREEN) <= (ago_s < SILENT_AFTER_S + 1 and bool(live) and not error)
    assert (shown.light is Light.RED) == (ago_s > SILENT_AFTER_S + 0.001) or abs(ago_s - SILENT_AFTER_S) < 1
    overview = replace(make_overview(), sources=build_lights(answer(feed, left=left)))
    assert OVERVIEW_ADAPTER.validate_json(OVERVIEW_ADAPTER.dump_json(overview)) == overview


def agreement(*days: tuple[int, int, int], is_trusted: bool = True) -> GetAgreementResponse:
    """Return the collector's answer about departures: for each day before AT flights recorded, live, and matched."""
    return GetAgreementResponse(
        directions=[
            DirectionAgreement(direction=flights_pb.DIRECTION_ARRIVALS, is_trusted=True),
            DirectionAgreement(
                direction=flights_pb.DIRECTION_DEPARTURES,
                is_trusted=is_trusted,
                days=[
                    DayAgreement(
                        day=stamp(datetime(2026, 3, 3 - back, tzinfo=UTC)), recorded=day[0], live=day[1], matched=day[2]
                    )
                    for back, day in enumerate(days)
                ],
            ),
        ]
    )


def test_the_airports_page_shows_how_well_live_agrees() -> None:
    """Recall and precision by day; a direction without days is left out, and no part is made of no flights."""
    built = build_agreement(agreement((200, 190, 180), (0, 0, 0)))
    (departures,) = built.directions
    assert (departures.direction, departures.days[0].day) == (Direction.DEPARTURES, date(2026, 3, 3))
    assert [(each.recall, each.precision) for each in departures.days] == [(0.9, 0.947), (None, None)]
    page = render_airport(replace(build_detail([]), agreement=built), "w")
    assert "90 %" in page
    assert "95 %" in page
    assert "are not trusted live" not in page


def test_a_direction_that_is_not_trusted_is_said_so() -> None:
    """Its people are told by the record alone; the page says why."""
    page = render_airport(
        replace(build_detail([]), agreement=build_agreement(agreement((100, 50, 50), is_trusted=False))), "w"
    )
    assert "Departures are not trusted live." in page


@pytest.mark.parametrize(
    ("told", "words"),
    [(GetAgreementResponse(), "Nothing to compare yet"), (Unknown("it is away"), "Not known: it is away.")],
)
def test_an_agreement_that_is_not_there_is_said(told, words) -> None:
    """Never live, or not known, are two things."""
    assert words in render_airport(replace(build_detail([]), agreement=build_agreement(told)), "w")
