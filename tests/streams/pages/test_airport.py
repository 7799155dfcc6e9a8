"""Tests of the page of an airport: its windows, its alerts, and the geometry of its charts."""

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from domain.alerts import AlertState, Bound
from domain.interests import Direction
from domain.measures import Measure
from domain.traffic import Coverage, Observation, Traffic
from domain.windows import HOUR_S, AlignedTo, Window, instant, seconds
from streams.pages.airport import (
    DETAIL_ADAPTER,
    MAX_CHARTED_THRESHOLDS,
    AirportDetail,
    ChartedAlert,
    Series,
    ThresholdShown,
    build_airport_detail,
)
from streams.pages.axes import PLOT_HEIGHT, PLOT_TOP
from streams.pages.charts import build_chart
from streams.pages.rendering import render_airport
from streams.pages.sparklines import build_sparkline
from streams.pages.usual_band import find_level
from streams.pages.windows import MAX_WINDOWS, MIN_WINDOWS, WindowCoverage, WindowShown
from tests.domain.logs import BASE, an_interest, compute_expected_alerts, interests, interleaved
from tests.domain.test_percents import DAYTIME, a_percent, busy_weeks, hours
from tests.domain.test_rule import seen
from tests.domain.test_usual import MONDAY
from tests.domain.usual_logs import DAY_S
from tests.streams.events import interest_set, observed
from tests.streams.join_state_on_dicts import JoinStateOnDicts

NOW = BASE + timedelta(days=100)
HOUR = timedelta(hours=1)


def build_detail(log, *own_interests, window: Window = Window.ONE_HOUR) -> AirportDetail:
    """Build the data of KJFK's page after some interests and a log of observations."""
    join = JoinStateOnDicts()
    for number, interest in enumerate(own_interests):
        join.fold(interest_set(interest, number + 1))
    for number, each in enumerate(log):
        join.fold(observed("KJFK", number + 1, each))
    return build_airport_detail(join.state, "KJFK", window, NOW, ())


def map_windows(series: Series) -> dict[float, tuple[int, WindowCoverage]]:
    """Return count and coverage of the windows by hours after BASE, without empty windows that are not covered."""
    return {
        (each.start - BASE) / HOUR: (each.count, each.known)
        for each in series.windows
        if each.known is not WindowCoverage.UNCOVERED or each.count
    }


def test_a_threshold_in_percent_has_a_line_of_steps_and_signs() -> None:
    """Its line has the height of the level of each hour; the signs are those of the windows that are shown."""
    log = [*busy_weeks(50, DAYTIME), hours(50, DAYTIME | {12: 4})]
    percent, flights = a_percent(airport="KJFK"), a_percent(airport="KJFK", low_percent=None, high=40)
    detail = build_detail(log, percent, replace(flights, interest_id=UUID(int=9)))
    assert [(each.measure, each.threshold) for each in detail.thresholds] == [("flights", 40), ("percent", 50)]
    departures = detail.series[0]
    assert [each.threshold for each in departures.thresholds] == [40]
    shown = {(each.state, (each.start - instant((MONDAY + 50) * DAY_S)) / HOUR) for each in departures.statements}
    assert {("FIRING", 12.0), ("RESOLVED", 13.0)} <= shown
    page = render_airport(detail, "w")
    assert "fewer than 50 % of the usual" in page
    assert [(each.measure, each.threshold) for each in departures.percents] == [("percent", 50)]
    noon = next(each for each in departures.windows if (each.start - instant((MONDAY + 50) * DAY_S)) / HOUR == 12)
    assert noon.doubled_usual == 20
    drawn = build_chart(departures)
    assert drawn is not None
    assert [line.label for line in drawn.steps] == ["fewer than 50 % of the usual"]
    under = {bar.tooltip.partition(": ")[2] for bar in drawn.bars if "under" in bar.css_class}
    assert "4 departures (usually 10), closed, from the night's record" in under
    assert ", usually 0 to 10; thresholds" in drawn.summary
    assert 'class="usual-edge"' in page
    assert '<td class="n">4</td><td class="n">10</td>' in page


def test_the_airports_days_have_a_band_of_their_own_usual() -> None:
    """Also in the weeks after clocks changed, when days by UTC have none; the level of the percent lies within it."""
    first = seconds(datetime(2013, 2, 1, tzinfo=UTC))
    log = [
        Observation(
            Direction.DEPARTURES, begin, begin + DAY_S, tuple(range(begin, begin + DAY_S, HOUR_S)), Coverage.COMPLETE
        )
        for begin in range(first, first + 45 * DAY_S, DAY_S)
    ]
    since = datetime(2013, 3, 10, tzinfo=UTC)
    by_utc = a_percent(airport="KJFK", window=Window.ONE_DAY, effective_from=since)
    local = replace(by_utc, interest_id=UUID(int=9), aligned_to=AlignedTo.AIRPORT, low_percent=99)
    detail = build_detail(log, by_utc, local, window=Window.ONE_DAY)
    utc, _, own = detail.series
    reached = {(f"{each.start:%d %b}", each.count, each.doubled_usual) for each in own.windows}
    assert {("09 Mar", 24, 48), ("10 Mar", 23, 48), ("11 Mar", 24, 48), ("16 Mar", 24, 48)} <= reached
    assert {each.doubled_usual for each in utc.windows if each.start.date() > date(2013, 3, 11)} == {None}
    assert [each.threshold for each in own.percents] == [99]
    signs = [(each.state, f"{each.start:%d %b}") for each in own.statements]
    assert signs == [("FIRING", "10 Mar"), ("RESOLVED", "11 Mar")]
    drawn = build_chart(own)
    assert drawn is not None
    assert drawn.usual.area
    assert [line.label for line in drawn.steps] == ["fewer than 99 % of the usual"]


def test_each_window_is_shown_with_its_coverage() -> None:
    """A window is closed, touched by a gap, open, or not covered before the first coverage."""
    log = [seen(0, 2, (0.1, 0.2, 1.5)), seen(2, 3.5, (), Coverage.GAP), seen(3.5, 6, (4.5,)), seen(6, 6.5, (6.2,))]
    departures, arrivals = build_detail(log).series
    assert map_windows(departures) == {
        0: (2, WindowCoverage.CLOSED),
        1: (1, WindowCoverage.CLOSED),
        2: (0, WindowCoverage.GAP),
        3: (0, WindowCoverage.GAP),
        4: (1, WindowCoverage.CLOSED),
        5: (0, WindowCoverage.CLOSED),
        6: (1, WindowCoverage.OPEN),
    }
    assert map_windows(arrivals) == {}
    assert [each.start for each in arrivals.windows] == [each.start for each in departures.windows]
    assert departures.windows[0].known is WindowCoverage.UNCOVERED
    assert len(departures.windows) == MIN_WINDOWS[Window.ONE_HOUR]


@pytest.mark.parametrize("window", Window)
def test_a_chart_shows_the_last_windows(window) -> None:
    """A chart shows at most three days of hours, two weeks of six hours, or ninety days."""
    log = [seen(day * 24, day * 24 + 24, (day * 24 + 13.5,)) for day in range(95)]
    series = build_detail(log, window=window).series[0]
    assert len(series.windows) == MAX_WINDOWS[window]
    assert all(later.start - earlier.start == window.length for earlier, later in pairwise(series.windows))
    assert series.windows[-1].start + window.length == BASE + timedelta(days=95)
    assert sum(each.count for each in series.windows) == MAX_WINDOWS[window] * window.hours // 24


def test_days_whose_coverage_is_discarded_come_from_the_history() -> None:
    """Counts are kept for ninety days, but coverage for forty: older days are marked as from the history."""
    log = [seen(day * 24, day * 24 + 24, (day * 24 + 13.5,)) for day in range(70)]
    series = build_detail(log, window=Window.ONE_DAY).series[0]
    found = [each.known for each in series.windows if each.known is not WindowCoverage.UNCOVERED]
    assert found.count(WindowCoverage.FROM_HISTORY) > 25
    assert found == sorted(found, key=lambda each: each is WindowCoverage.CLOSED)
    assert all(each.count == 1 for each in series.windows if each.known is WindowCoverage.FROM_HISTORY)


def test_an_airport_without_coverage_has_no_chart() -> None:
    """The page of an airport that has interests but no flights says that nothing is covered."""
    detail = build_detail([], an_interest())
    assert [build_chart(each) for each in detail.series] == [None, None]
    assert "Nothing is covered yet" in render_airport(detail, "w")
    assert "no low alert without coverage" in render_airport(detail, "w")


@given(log=interleaved(), interest=interests)
@settings(max_examples=60)
def test_the_alerts_of_an_interest_are_on_the_chart(log, interest) -> None:
    """The chart has the alerts of the brute-force model, except STILL, for an interest in effect since long ago."""
    interest = replace(interest, effective_from=BASE - timedelta(days=300), repeat=False, airport="KJFK")
    detail = build_detail(log, interest, window=interest.window)
    series = next((each for each in detail.series if each.direction is interest.direction), None)
    assert series is not None
    shown = {(each.bound.value, each.state.value, each.start) for each in series.statements}
    expected = compute_expected_alerts(interest, log)
    first = series.windows[0].start if series.windows else NOW
    assert shown == {each for each in expected if each[2] >= first}
    assert all(each.interests == 1 for each in series.statements)


def test_interests_with_the_same_threshold_are_counted_together() -> None:
    """Ten interests share three thresholds; departures and short windows come first."""
    own_interests = [an_interest(interest_id=UUID(int=number)) for number in range(10)]
    own_interests[0] = replace(own_interests[0], high=9)
    own_interests[1] = replace(own_interests[1], direction=Direction.BOTH, window=Window.SIX_HOURS, high=None, low=1)
    detail = build_detail([seen(0, 1, (0.1, 0.2, 0.3))], *own_interests)
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
    six = build_detail([seen(0, 1)], *own_interests, window=Window.SIX_HOURS)
    assert [each.direction for each in six.series] == [Direction.DEPARTURES, Direction.ARRIVALS, Direction.BOTH]


def test_coverage_is_shown_with_its_gaps() -> None:
    """Gaps are in order, the newest first; the lag is measured against the clock."""
    log = [seen(0, 2), seen(2, 3, (), Coverage.GAP), seen(3, 5), seen(6, 7)]
    departures, arrivals = build_detail(log).coverage
    assert (departures.covered_from, departures.watermark) == (BASE, BASE + 7 * HOUR)
    assert departures.gaps == ((BASE + 5 * HOUR, BASE + 6 * HOUR), (BASE + 2 * HOUR, BASE + 3 * HOUR))
    assert departures.lag_s == (NOW - BASE - 7 * HOUR).total_seconds()
    assert (arrivals.watermark, arrivals.lag_s) == (None, None)


def test_the_json_has_the_data_of_the_page() -> None:
    """The JSON has times as ISO 8601 in UTC, and no user."""
    decoded = json.loads(DETAIL_ADAPTER.dump_json(build_detail([seen(0, 1, (0.1, 0.2, 0.3))], an_interest())))
    assert decoded["series"][0]["windows"][-1] == {
        "start": "2013-02-08T00:00:00Z",
        "count": 3,
        "known": "closed",
        "provenance": "settled",
        "is_begun": True,
        "doubled_usual": None,
    }
    assert decoded["series"][0]["statements"][0]["state"] == "FIRING"
    assert decoded["thresholds"][0]["interests"] == 1
    assert str(an_interest().user_id) not in json.dumps(decoded)


def make_series(counts, thresholds=(), window=Window.ONE_HOUR, statements=(), known=WindowCoverage.CLOSED) -> Series:
    """Return a series of departures whose windows have these counts, the first window at BASE."""
    return Series(
        Direction.DEPARTURES,
        window,
        tuple(WindowShown(BASE + index * window.length, count, known) for index, count in enumerate(counts)),
        tuple(thresholds),
        tuple(statements),
    )


def make_threshold(bound: Bound, threshold: int, for_windows: int = 1) -> ThresholdShown:
    return ThresholdShown(Direction.DEPARTURES, Window.ONE_HOUR, bound, threshold, for_windows, 1)


_thresholds = st.lists(
    st.builds(make_threshold, st.sampled_from(Bound), st.integers(0, 100_000)), max_size=MAX_CHARTED_THRESHOLDS
)


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=90), _thresholds, st.sampled_from(Window))
def test_a_chart_with_any_counts_stays_within_its_frame(counts, thresholds, window) -> None:
    """Bars stay apart and on the axis, ticks are in order, and labels never overlap."""
    drawn = build_chart(make_series(counts, thresholds, window))
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


_usual = st.none() | st.integers(0, 40_001)


@given(
    st.lists(st.tuples(st.integers(0, 20_000), _usual), min_size=1, max_size=90),
    _thresholds,
    st.lists(st.tuples(st.sampled_from(Bound), st.integers(1, 10_000)), max_size=MAX_CHARTED_THRESHOLDS),
)
def test_a_chart_with_any_usual_stays_within_its_frame(windows, thresholds, percents) -> None:
    """The steps are at the level of each judged window, or the threshold is named as far above all counts."""
    series = make_series([count for count, _ in windows], thresholds)
    shown = tuple(replace(each, doubled_usual=usual) for each, (_, usual) in zip(series.windows, windows, strict=True))
    wanted = tuple(replace(make_threshold(bound, value), measure=Measure.PERCENT) for bound, value in percents)
    drawn = build_chart(replace(series, windows=shown, percents=wanted))
    assert drawn is not None
    bottom = PLOT_TOP + PLOT_HEIGHT
    paths = [drawn.usual.edge, *(line.path for line in drawn.steps)]
    heights = [float(y) for path in paths for y in re.findall(r"(?:M\d+ |V)([\d.]+)", path)]
    assert all(PLOT_TOP - 0.2 <= y <= bottom for y in heights)
    judged = sum(usual is not None and usual >= 10 for _, usual in windows)
    for path in (line.path for line in drawn.steps):
        assert len(re.findall(r"H\d+", path)) == judged
    assert drawn.usual.area.count("Z") == sum(usual is not None for _, usual in windows)
    label_positions = [*(line.label_y for line in drawn.lines), *(line.label_y for line in drawn.steps)]
    names = sorted(label_y for label_y in label_positions if label_y is not None)
    assert all(lower - upper >= 15 for upper, lower in pairwise(names))
    assert len(drawn.lines) + len(drawn.undrawn_thresholds) + (len(drawn.steps) if judged else len(percents)) == len(
        thresholds
    ) + len(percents)
    for bar, window in zip(drawn.bars, shown, strict=True):
        levels = [(line.bound, find_level(line, window)) for line in (*thresholds, *wanted)]
        is_past = {bound for bound, level in levels if level is not None and bound.is_breached(window.count, level)}
        assert ("over" in bar.css_class) is (Bound.HIGH in is_past)
        assert ("under" in bar.css_class) is (is_past == {Bound.LOW})


def test_windows_in_breach_are_visible_even_without_flights() -> None:
    """The bar of a window below a low threshold has a least height."""
    drawn = build_chart(make_series([0, 5, 30], [make_threshold(Bound.HIGH, 20), make_threshold(Bound.LOW, 1)]))
    assert [bar.css_class for bar in drawn.bars] == ["closed under", "closed", "closed over"]
    assert drawn.bars[0].height >= 3
    assert drawn.bars[2].tooltip == "Fri 8 Feb 02:00–03:00: 30 departures, closed, from the night's record"


@pytest.mark.parametrize(
    ("known", "kind"),
    [(WindowCoverage.OPEN, "open"), (WindowCoverage.GAP, "gap"), (WindowCoverage.UNCOVERED, "not-covered")],
)
def test_only_a_closed_window_breaches_a_low_threshold(known, kind) -> None:
    """A window that is not closed has no low breach, since more flights may follow."""
    drawn = build_chart(make_series([0], [make_threshold(Bound.LOW, 3)], known=known))
    assert [bar.css_class for bar in drawn.bars] == [kind]


def test_a_threshold_far_above_the_counts_is_named_and_not_drawn() -> None:
    """A line far above the counts would flatten the bars, so only the name of the threshold is shown."""
    drawn = build_chart(make_series([3, 4], [make_threshold(Bound.HIGH, 5000), make_threshold(Bound.HIGH, 5)]))
    assert drawn.undrawn_thresholds == ("more than 5000",)
    assert [line.label for line in drawn.lines] == ["more than 5"]


def test_a_window_with_alerts_has_a_marker() -> None:
    """The marker has the symbol of the gravest alert, and all alerts in its tooltip."""
    alerts = [
        ChartedAlert(BASE, Bound.LOW, AlertState.RESOLVED, 1, 1, 3),
        ChartedAlert(BASE, Bound.HIGH, AlertState.FIRING, 20, 2, 1),
        ChartedAlert(BASE + HOUR, Bound.LOW, AlertState.FIRING, 1, 1, 3),
    ]
    first, second = build_chart(make_series([30, 0, 5], statements=alerts)).markers
    assert (first.symbol, first.css_class, second.symbol) == ("▲", "firing high", "▼")
    assert first.tooltip == (
        "Fri 8 Feb 00:00–01:00: FIRING: more than 20, 2 windows in a row (1 interest); "
        "RESOLVED: fewer than 1 (3 interests)"
    )


def test_neighbouring_windows_with_gaps_share_one_band() -> None:
    """A hatched band with a seam would look like two gaps."""
    windows = make_series([1, 0, 0, 1]).windows
    gapped = (windows[0], *(replace(each, known=WindowCoverage.GAP) for each in windows[1:3]), windows[3])
    (band,) = build_chart(replace(make_series([1, 0, 0, 1]), windows=gapped)).bands
    assert (band.x, band.width, band.css_class) == (25, 50, "gap")


@given(st.lists(st.integers(0, 10_000), max_size=48), st.integers(48, 60))
def test_the_last_value_of_a_sparkline_is_at_its_right_end(values, slots) -> None:
    """The newest hour is at the same position for every airport."""
    drawn = build_sparkline(values, slots)
    assert len(drawn.heights) == slots
    assert all(0 <= height <= 100 for height in drawn.heights)
    assert not any(drawn.heights[: slots - len(values)])
    if any(values):
        assert max(drawn.heights) == 100


def test_an_airport_without_traffic_has_no_windows() -> None:
    """An airport without coverage and flights has empty series."""
    assert Traffic().arrivals.watermark is None
    assert all(each.windows == () for each in build_detail([]).series)


def test_windows_by_the_airports_clock_have_a_chart_of_their_own() -> None:
    """Beside the charts by UTC, with the thresholds of that clock alone, and named for it."""
    by_utc = an_interest(window=Window.ONE_DAY, high=5)
    local = an_interest(interest_id=UUID(int=9), window=Window.ONE_DAY, high=7, aligned_to=AlignedTo.AIRPORT)
    log = [seen(0, 72, [hour for hour in range(72) for _ in range(1)])]
    detail = build_detail(log, by_utc, local, window=Window.ONE_DAY)
    assert [(each.direction, each.clock) for each in detail.series] == [
        ("departures", "UTC"),
        ("arrivals", "UTC"),
        ("departures", "America/New_York"),
    ]
    first, _, own = detail.series
    assert [each.threshold for each in first.thresholds] == [5]
    assert [each.threshold for each in own.thresholds] == [7]
    assert {each.start.hour for each in own.windows} == {0}
    assert [each.start for each in own.statements] == [each.start for each in own.windows if each.count > 7][:1]
    page = render_airport(detail, "a test")
    assert "Departures a day, by the clock of America/New_York" in page
    assert "1 day, by the airport's clock" in page
    assert len(build_detail(log, by_utc, window=Window.ONE_DAY).series) == 2
    assert len(build_detail(log, local).series) == 2, "an hour is an hour"
