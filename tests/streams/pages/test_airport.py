"""The page of an airport: its windows, what is said of them, and the geometry of its charts."""

import json
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from domain.alerts import AlertState, Bound
from domain.interests import Direction
from domain.traffic import Coverage, Traffic
from domain.windows import Window
from streams.pages.airport import (
    DETAIL_ADAPTER,
    MAX_CHARTED_THRESHOLDS,
    MAX_WINDOWS,
    MIN_WINDOWS,
    AirportDetail,
    ChartedAlert,
    Series,
    ThresholdShown,
    WindowCoverage,
    WindowShown,
    build_airport_detail,
)
from streams.pages.charts import PLOT_HEIGHT, PLOT_TOP, build_chart, build_sparkline
from streams.pages.rendering import render_airport
from tests.domain.logs import BASE, an_interest, compute_expected_alerts, interests, interleaved
from tests.domain.test_rule import seen
from tests.streams.events import interest_set, observed
from tests.streams.join_state_on_dicts import JoinStateOnDicts

NOW = BASE + timedelta(days=100)
HOUR = timedelta(hours=1)


def detail_of(log, *wishes, window: Window = Window.ONE_HOUR) -> AirportDetail:
    bench = JoinStateOnDicts()
    for number, wish in enumerate(wishes):
        bench.fold(interest_set(wish, number + 1))
    for number, each in enumerate(log):
        bench.fold(observed("KJFK", number + 1, each))
    return build_airport_detail(bench.state, "KJFK", window, NOW, ())


def known(series: Series) -> dict[float, tuple[int, WindowCoverage]]:
    """Count and knowledge by hours after BASE, without what lies before coverage."""
    return {
        (each.start - BASE) / HOUR: (each.count, each.known)
        for each in series.windows
        if each.known is not WindowCoverage.UNCOVERED or each.count
    }


def test_each_window_is_shown_with_what_is_known_of_it() -> None:
    """Closed, touched by a gap, open; and nothing before coverage."""
    log = [seen(0, 2, (0.1, 0.2, 1.5)), seen(2, 3.5, (), Coverage.GAP), seen(3.5, 6, (4.5,)), seen(6, 6.5, (6.2,))]
    departures, arrivals = detail_of(log).series
    assert known(departures) == {
        0: (2, WindowCoverage.CLOSED),
        1: (1, WindowCoverage.CLOSED),
        2: (0, WindowCoverage.GAP),
        3: (0, WindowCoverage.GAP),
        4: (1, WindowCoverage.CLOSED),
        5: (0, WindowCoverage.CLOSED),
        6: (1, WindowCoverage.OPEN),
    }
    assert known(arrivals) == {}
    assert [each.start for each in arrivals.windows] == [each.start for each in departures.windows]
    assert departures.windows[0].known is WindowCoverage.UNCOVERED
    assert len(departures.windows) == MIN_WINDOWS[Window.ONE_HOUR]


@pytest.mark.parametrize("window", Window)
def test_the_last_windows_are_shown(window) -> None:
    """Three days of hours, two weeks of quarter days, ninety days; as far as there are any."""
    log = [seen(day * 24, day * 24 + 24, (day * 24 + 13.5,)) for day in range(95)]
    series = detail_of(log, window=window).series[0]
    assert len(series.windows) == MAX_WINDOWS[window]
    assert all(later.start - earlier.start == window.length for earlier, later in pairwise(series.windows))
    assert series.windows[-1].start + window.length == BASE + timedelta(days=95)
    assert sum(each.count for each in series.windows) == MAX_WINDOWS[window] * window.hours // 24


def test_days_whose_coverage_is_forgotten_come_from_the_history() -> None:
    """Ninety days are kept; what was not covered forty days ago is known of none of them."""
    log = [seen(day * 24, day * 24 + 24, (day * 24 + 13.5,)) for day in range(70)]
    series = detail_of(log, window=Window.ONE_DAY).series[0]
    found = [each.known for each in series.windows if each.known is not WindowCoverage.UNCOVERED]
    assert found.count(WindowCoverage.FROM_HISTORY) > 25
    assert found == sorted(found, key=lambda each: each is WindowCoverage.CLOSED)
    assert all(each.count == 1 for each in series.windows if each.known is WindowCoverage.FROM_HISTORY)


def test_an_airport_without_coverage_has_no_chart() -> None:
    """Only interests are known of it."""
    detail = detail_of([], an_interest())
    assert [build_chart(each) for each in detail.series] == [None, None]
    assert "Nothing is covered yet" in render_airport(detail, "w")
    assert "no low alert without coverage" in render_airport(detail, "w")


@given(log=interleaved(), wish=interests)
@settings(max_examples=60)
def test_what_is_said_to_an_interest_is_on_the_chart(log, wish) -> None:
    """By the brute-force model; STILL and what was withdrawn aside. Of an interest in effect since long before."""
    wish = replace(wish, effective_from=BASE - timedelta(days=300), repeat=False, airport="KJFK")
    detail = detail_of(log, wish, window=wish.window)
    series = next((each for each in detail.series if each.direction is wish.direction), None)
    assert series is not None
    shown = {(each.bound.value, each.state.value, each.start) for each in series.statements}
    expected = compute_expected_alerts(wish, log)
    first = series.windows[0].start if series.windows else NOW
    assert shown == {each for each in expected if each[2] >= first}
    assert all(each.interests == 1 for each in series.statements)


def test_interests_are_counted_and_thresholds_shared() -> None:
    """Ten people, three thresholds; departures and short windows first."""
    wishes = [an_interest(interest_id=UUID(int=number)) for number in range(10)]
    wishes[0] = replace(wishes[0], high=9)
    wishes[1] = replace(wishes[1], direction=Direction.BOTH, window=Window.SIX_HOURS, high=None, low=1)
    detail = detail_of([seen(0, 1, (0.1, 0.2, 0.3))], *wishes)
    assert detail.interests == 10
    assert [
        (each.direction, each.window, each.bound, each.threshold, each.interests) for each in detail.thresholds
    ] == [
        (Direction.DEPARTURES, Window.ONE_HOUR, Bound.HIGH, 2, 8),
        (Direction.DEPARTURES, Window.ONE_HOUR, Bound.HIGH, 9, 1),
        (Direction.BOTH, Window.SIX_HOURS, Bound.LOW, 1, 1),
    ]
    assert [each.interests for each in detail.breaches] == [8]
    assert [each.direction for each in detail.series] == [Direction.DEPARTURES, Direction.ARRIVALS]
    six = detail_of([seen(0, 1)], *wishes, window=Window.SIX_HOURS)
    assert [each.direction for each in six.series] == [Direction.DEPARTURES, Direction.ARRIVALS, Direction.BOTH]


def test_coverage_is_told_with_its_gaps() -> None:
    """The newest first, with lag against the clock."""
    log = [seen(0, 2), seen(2, 3, (), Coverage.GAP), seen(3, 5), seen(6, 7)]
    departures, arrivals = detail_of(log).coverage
    assert (departures.covered_from, departures.watermark) == (BASE, BASE + 7 * HOUR)
    assert departures.gaps == ((BASE + 5 * HOUR, BASE + 6 * HOUR), (BASE + 2 * HOUR, BASE + 3 * HOUR))
    assert departures.lag_s == (NOW - BASE - 7 * HOUR).total_seconds()
    assert (arrivals.watermark, arrivals.lag_s) == (None, None)


def test_the_json_is_what_the_page_shows() -> None:
    """Times as ISO 8601 in UTC."""
    told = json.loads(DETAIL_ADAPTER.dump_json(detail_of([seen(0, 1, (0.1, 0.2, 0.3))], an_interest())))
    assert told["series"][0]["windows"][-1] == {"start": "2013-02-08T00:00:00Z", "count": 3, "known": "closed"}
    assert told["series"][0]["statements"][0]["state"] == "FIRING"
    assert told["thresholds"][0]["interests"] == 1
    assert str(an_interest().user_id) not in json.dumps(told)


def a_series(counts, thresholds=(), window=Window.ONE_HOUR, statements=(), known=WindowCoverage.CLOSED) -> Series:
    return Series(
        Direction.DEPARTURES,
        window,
        tuple(WindowShown(BASE + index * window.length, count, known) for index, count in enumerate(counts)),
        tuple(thresholds),
        tuple(statements),
    )


def a_threshold(bound: Bound, threshold: int, for_windows: int = 1) -> ThresholdShown:
    return ThresholdShown(Direction.DEPARTURES, Window.ONE_HOUR, bound, threshold, for_windows, 1)


_thresholds = st.lists(
    st.builds(a_threshold, st.sampled_from(Bound), st.integers(0, 100_000)), max_size=MAX_CHARTED_THRESHOLDS
)


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=90), _thresholds, st.sampled_from(Window))
def test_whatever_the_counts_a_chart_stays_within_its_frame(counts, thresholds, window) -> None:
    """Bars on the axis and under the top, in order and apart; ticks round and in order; names never on each other."""
    drawn = build_chart(a_series(counts, thresholds, window))
    bottom = PLOT_TOP + PLOT_HEIGHT
    for bar in drawn.bars:
        assert PLOT_TOP - 0.2 <= bar.y <= bottom
        assert bar.y + bar.height == pytest.approx(bottom, abs=0.2)
    assert all(left.x + left.width < right.x for left, right in pairwise(drawn.bars))
    assert drawn.bars[-1].x + drawn.bars[-1].width <= 100
    heights = [bar.height for bar in drawn.bars if "under" not in bar.css_class]
    plain = [count for count, bar in zip(counts, drawn.bars, strict=True) if "under" not in bar.css_class]
    assert sorted(plain) == [count for _, count in sorted(zip(heights, plain, strict=True))]
    assert 2 <= len(drawn.y_ticks) <= 6
    assert drawn.y_ticks[0].label == "0"
    assert all(upper.position < lower.position for lower, upper in pairwise(drawn.y_ticks))
    names = sorted(line.label_y for line in drawn.lines if line.label_y is not None)
    assert all(lower - upper >= 15 for upper, lower in pairwise(names))
    assert len(drawn.lines) + len(drawn.undrawn_thresholds) == len(thresholds)
    assert all(PLOT_TOP - 0.2 <= line.y <= bottom for line in drawn.lines)
    assert all(0 <= tick.position <= 97 for tick in drawn.x_ticks)


def test_windows_past_a_threshold_stand_out_even_when_empty() -> None:
    """None of its flights is what a low threshold is about."""
    drawn = build_chart(a_series([0, 5, 30], [a_threshold(Bound.HIGH, 20), a_threshold(Bound.LOW, 1)]))
    assert [bar.css_class for bar in drawn.bars] == ["closed under", "closed", "closed over"]
    assert drawn.bars[0].height >= 3
    assert drawn.bars[2].tooltip == "Fri 8 Feb 02:00–03:00: 30 departures, closed"


@pytest.mark.parametrize(
    ("known", "kind"),
    [(WindowCoverage.OPEN, "open"), (WindowCoverage.GAP, "gap"), (WindowCoverage.UNCOVERED, "not-covered")],
)
def test_a_window_that_is_not_closed_is_under_no_threshold(known, kind) -> None:
    """More flights may come."""
    drawn = build_chart(a_series([0], [a_threshold(Bound.LOW, 3)], known=known))
    assert [bar.css_class for bar in drawn.bars] == [kind]


def test_a_threshold_far_above_the_counts_is_named_and_not_drawn() -> None:
    """It would flatten the rest."""
    drawn = build_chart(a_series([3, 4], [a_threshold(Bound.HIGH, 5000), a_threshold(Bound.HIGH, 5)]))
    assert drawn.undrawn_thresholds == ("more than 5000",)
    assert [line.label for line in drawn.lines] == ["more than 5"]


def test_what_is_said_is_a_sign_with_its_words() -> None:
    """The gravest first; forms differ, not only colours."""
    said = [
        ChartedAlert(BASE, Bound.LOW, AlertState.RESOLVED, 1, 1, 3),
        ChartedAlert(BASE, Bound.HIGH, AlertState.FIRING, 20, 2, 1),
        ChartedAlert(BASE + HOUR, Bound.LOW, AlertState.FIRING, 1, 1, 3),
    ]
    first, second = build_chart(a_series([30, 0, 5], statements=said)).markers
    assert (first.symbol, first.css_class, second.symbol) == ("▲", "firing high", "▼")
    assert first.tooltip == (
        "Fri 8 Feb 00:00–01:00: FIRING: more than 20, 2 windows in a row (1 interest); "
        "RESOLVED: fewer than 1 (3 interests)"
    )


def test_gaps_next_to_each_other_are_one_band() -> None:
    """A hatch with seams would look like two."""
    windows = a_series([1, 0, 0, 1]).windows
    gapped = (windows[0], *(replace(each, known=WindowCoverage.GAP) for each in windows[1:3]), windows[3])
    (band,) = build_chart(replace(a_series([1, 0, 0, 1]), windows=gapped)).bands
    assert (band.x, band.width, band.css_class) == (25, 50, "gap")


@given(st.lists(st.integers(0, 10_000), max_size=48), st.integers(48, 60))
def test_a_sparkline_ends_at_its_right_end(values, slots) -> None:
    """The newest hour stands at the same place for every airport."""
    drawn = build_sparkline(values, slots)
    assert len(drawn.heights) == slots
    assert all(0 <= height <= 100 for height in drawn.heights)
    assert not any(drawn.heights[: slots - len(values)])
    if any(values):
        assert max(drawn.heights) == 100


def test_an_empty_traffic_has_no_windows() -> None:
    """Nothing was ever heard of the airport but interests."""
    assert Traffic().arrivals.watermark is None
    assert all(each.windows == () for each in detail_of([]).series)
