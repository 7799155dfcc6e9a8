"""Tests of what the airport's page says about where its counts come from: live, the night's record, or from nowhere."""

import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from domain.interests import Direction
from domain.live_record import Provenance
from domain.traffic import Coverage
from domain.windows import HOUR_S, Window, seconds
from streams.pages.airport import DETAIL_ADAPTER, AirportDetail
from streams.pages.charts import build_chart
from streams.pages.overview import summarize_airport
from streams.pages.provenance_lane import classify_window, describe_knowledge, summarize_knowledge
from streams.pages.rendering import render_airport
from streams.pages.windows import WindowCoverage
from tests.domain.corrected_logs import corrected_logs
from tests.domain.logs import BASE, an_interest
from tests.domain.test_live_record import draw_provenances, live
from tests.domain.test_rule import seen
from tests.streams.events import observed
from tests.streams.join_state_on_dicts import JoinStateOnDicts
from tests.streams.pages.test_airport import HOUR, NOW, build_detail

DAY_LOG = (
    seen(0, 24, (0.5, 1.5)),
    live(24, 26, (24.5,)),
    live(27, 29.5, (27.5, 29.2)),
    live(29.5, 30, (30.2,), Coverage.PARTIAL),
)
"""A day of the record; then live, with a hole of an hour, up to 05:30; and a movement of the hour that follows."""


def map_kinds(detail: AirportDetail, direction: int = 0) -> dict[float, str]:
    """Return how each window of a series is known, by hours after BASE, without windows that are not covered."""
    return {
        (each.start - BASE) / HOUR: classify_window(each)
        for each in detail.series[direction].windows
        if each.known is not WindowCoverage.UNCOVERED
    }


def test_hours_are_settled_live_or_gaps_until_the_nights_record_settles_them() -> None:
    """The record makes all hours of its day settled, and fills the gap."""
    before = map_kinds(build_detail(DAY_LOG))
    assert {hour: kind for hour, kind in before.items() if hour >= 22} == {
        22: "settled", 23: "settled", 24: "live", 25: "live", 26: "gap", 27: "live", 28: "live", 29: "live",
    }  # fmt: skip
    after = map_kinds(build_detail([*DAY_LOG, seen(24, 48, (40.5,))]))
    assert set(after.values()) == {"settled"}


def test_a_day_that_the_source_never_gives_stays_live() -> None:
    """The record goes on behind it: only its own days are settled."""
    kinds = map_kinds(build_detail([seen(0, 24), live(24, 50), seen(48, 72)]))
    assert [kinds[hour] for hour in (23, 24, 47, 48, 71)] == ["settled", "live", "live", "settled", "settled"]


def test_an_open_hour_is_live_as_soon_as_positions_tell_of_it() -> None:
    """An hour that is covered in part is live, also if no movement was seen in it."""
    window = build_detail([seen(0, 24), live(24, 24.5)]).series[0].windows[-1]
    assert (window.known, window.provenance, window.is_begun) == (WindowCoverage.OPEN, Provenance.LIVE, True)
    assert (describe_knowledge(window), classify_window(window)) == ("open, seen live so far", "live")


def test_hours_of_which_only_some_movements_are_known_are_not_called_covered() -> None:
    """An airport that is distrusted, or whose polls fail, has movements and no coverage: few flights say nothing."""
    log = [seen(0, 24), live(24, 24.2, (24.1,), Coverage.PARTIAL), live(24, 26.2, (26.1,), Coverage.PARTIAL)]
    detail = build_detail(log)
    windows = detail.series[0].windows[-3:]
    assert [(each.known, each.is_begun, each.provenance) for each in windows] == [
        (WindowCoverage.OPEN, False, Provenance.LIVE),
        (WindowCoverage.OPEN, False, None),
        (WindowCoverage.OPEN, False, Provenance.LIVE),
    ]
    assert {classify_window(each) for each in windows} == {"open"}
    words = ["not covered yet; these were seen live", "not covered yet", "not covered yet; these were seen live"]
    assert [describe_knowledge(each) for each in windows] == words
    assert detail.coverage[0].is_live is False


def test_a_window_of_both_directions_is_live_if_either_is() -> None:
    """Arrivals that are settled make nothing of live departures."""
    interest = replace(an_interest(), direction=Direction.BOTH)
    arrivals = replace(seen(0, 2, (0.3,)), direction=Direction.ARRIVALS)
    detail = build_detail([seen(0, 1), live(1, 2, (1.5,)), arrivals], interest)
    assert [each.direction for each in detail.series][2] is Direction.BOTH
    assert [map_kinds(detail, number)[1] for number in range(3)] == ["live", "settled", "live"]


def test_the_json_says_of_each_window_where_it_comes_from() -> None:
    """Members that were there stay as they were; `provenance` is null where nothing, or not all, is known."""
    decoded = json.loads(DETAIL_ADAPTER.dump_json(build_detail(DAY_LOG)))
    windows = {(each["known"], each["provenance"]) for each in decoded["series"][0]["windows"]}
    assert windows == {("closed", "settled"), ("closed", "live"), ("open", "live"), ("gap", None)}
    departures = decoded["coverage"][0]
    assert (departures["is_live"], departures["settled_until"]) == (True, "2013-02-09T00:00:00Z")


def test_an_airport_says_that_its_newest_coverage_is_live() -> None:
    """The overview and the airport's page have it; without positions, nothing is live."""
    join = JoinStateOnDicts()
    for number, each in enumerate(DAY_LOG):
        join.fold(observed("KJFK", number + 1, each))
    assert summarize_airport(join.state, "KJFK", NOW).departures.is_live
    assert "seen live" in render_airport(build_detail(DAY_LOG), "w")
    settled = build_detail(DAY_LOG[:1])
    assert (settled.coverage[0].is_live, settled.coverage[0].settled_until) == (False, BASE + 24 * HOUR)


def test_the_page_says_it_in_words_and_not_in_colour_alone() -> None:
    """The chart's text for assistive technology counts the windows; the lane's words and its table name each kind."""
    detail = build_detail(DAY_LOG)
    chart = build_chart(detail.series[0])
    assert chart is not None
    assert "Of 30 windows: 24 from the night's record, 5 seen live, 1 with a gap." in chart.summary
    page = render_airport(detail, "w")
    for text in ("closed, seen live", "closed, from the night&#39;s record", "a gap: flights may be missing"):
        assert f"<td>{text}</td>" in page
    assert re.search(r'<g class="live"><title>[^<]*seen live: the night', page)
    assert "seen live, not settled yet" in page
    assert [each.label for each in chart.lane] == ["night's record", "", "", "live"]


@settings(max_examples=100, deadline=None)
@given(log=corrected_logs, seed=st.integers(0, 2**32), window=st.sampled_from(Window))
def test_the_lane_of_any_chart_covers_each_window_once(log, seed, window) -> None:
    """Its stretches touch, fill the width, and no two neighbours are alike; the words count each window once."""
    for series in build_detail(draw_provenances(log, seed), window=window).series:
        chart = build_chart(series)
        if chart is None:
            continue
        assert chart.lane[0].x == 0
        assert chart.lane[-1].end == pytest.approx(100, abs=0.01)
        for left, right in pairwise(chart.lane):
            assert left.end == pytest.approx(right.x, abs=0.01)
            assert left.kind != right.kind
        numbers = [int(number) for number in re.findall(r"\d+", summarize_knowledge(series.windows))]
        assert numbers[0] == len(series.windows) == sum(numbers[1:])


@settings(max_examples=150, deadline=None)
@given(log=corrected_logs, seed=st.integers(0, 2**32))
def test_no_hour_is_called_settled_that_the_record_has_not_covered(log, seed) -> None:
    """A settled window is one that COMPLETE messages of the record cover, from the first message of positions on."""
    told = draw_provenances(log, seed)
    for series in build_detail(told).series[:2]:
        own = [each for each in told if each.direction is series.direction]
        first = next((number for number, each in enumerate(own) if each.provenance is Provenance.LIVE), None)
        if first is None:
            assert all(each.provenance is not Provenance.LIVE for each in series.windows)
            continue
        known_before = max([each.end for each in own[:first]], default=0)
        halves = {
            at
            for each in own[first:]
            if each.provenance is Provenance.SETTLED and each.coverage is Coverage.COMPLETE
            for at in range(each.begin, each.end, HOUR_S // 2)
        }
        for each in series.windows:
            if each.known is WindowCoverage.CLOSED and each.provenance is Provenance.SETTLED:
                start = seconds(each.start)
                window = {half for half in (start, start + HOUR_S // 2) if half >= known_before}
                told_live = any(
                    part.begin < start + HOUR_S and start < part.end
                    for part in own
                    if part.provenance is Provenance.LIVE
                )
                assert window <= halves or not told_live
