"""Tests of the explanation of an interest's alerts: the rule's own verdicts, in words."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings

from domain.interests import Direction
from domain.traffic import Coverage, Observation
from domain.windows import HOUR_S, AlignedTo, Window, instant, seconds
from streams.pages.explain import (
    EXPLANATION_ADAPTER,
    WINDOWS_PER_PAGE,
    InterestExplanation,
    describe_interest,
    explain_interest,
    merge_unknown_windows,
)
from streams.pages.rendering import render_explanation
from tests.domain.logs import BASE, an_interest, compute_expected_alerts, interests, interleaved
from tests.domain.test_percents import DAYTIME, a_percent, busy_weeks, hours
from tests.domain.test_rule import seen
from tests.domain.test_usual import MONDAY
from tests.domain.usual_logs import DAY_S
from tests.streams.events import interest_set, observed
from tests.streams.join_state_on_dicts import JoinStateOnDicts

NOW = BASE + timedelta(days=3)
HOUR = timedelta(hours=1)


def build_explanation(log: list[Observation], interest) -> InterestExplanation:
    """Build the explanation of an interest at KJFK after a log of observations."""
    join = JoinStateOnDicts()
    join.fold(interest_set(interest, 1))
    for number, each in enumerate(log):
        join.fold(observed("KJFK", number + 1, each))
    return explain_interest(join.state, interest, NOW)


@given(log=interleaved(), interest=interests)
@settings(max_examples=60)
def test_the_explained_alerts_are_those_of_the_brute_force_model(log, interest) -> None:
    """The explanation has each alert at its window, and the chart has those in its range."""
    explanation = build_explanation(log, interest)
    alerts = {
        (bound.bound.value, bound.state.value, each.start)
        for each in explanation.windows
        for bound in each.bounds
        if bound.said
    }
    assert alerts == compute_expected_alerts(interest, log)
    assert explanation.alert_count == len(alerts)
    charted = {(each.bound.value, each.state.value, each.start) for each in explanation.series.statements}
    first = explanation.series.windows[0].start if explanation.series.windows else NOW
    assert charted == {each for each in alerts if each[2] >= first}
    assert list(explanation.windows) == sorted(explanation.windows, key=lambda each: each.start, reverse=True)


def explain_window(log, hour: int, **changes) -> str:
    """Return the reasons shown for the window `hour` hours after BASE, each after the state of its alert or `-`."""
    explanation = build_explanation(log, an_interest(**changes))
    (window,) = [each for each in explanation.windows if each.start == BASE + hour * HOUR]
    return " | ".join(f"{bound.state if bound.said else '-'}: {bound.why}" for bound in window.shown_bounds)


FULL = (0.1, 0.2, 0.3)
TWO_HOURS = [seen(0, 1, FULL), seen(1, 2, (1.1, 1.2, 1.3))]


@pytest.mark.parametrize(
    ("log", "hour", "changes", "reasons"),
    [
        ([seen(0, 1, FULL)], 0, {}, "FIRING: 3 is more than 2; the window before was not in breach."),
        (TWO_HOURS, 1, {}, "-: 3 is still more than 2; it was said when the breach began."),
        (TWO_HOURS, 1, {"repeat": True}, "STILL: 3 is still more than 2, and the interest wants to be told again."),
        ([*TWO_HOURS, seen(2, 3)], 2, {}, "RESOLVED: 0 is no longer more than 2."),
        ([seen(0, 1, (0.1,))], 0, {}, "-: 1 is not more than 2."),
        ([seen(0, 1, (0.1,))], 0, {"low": 1}, "-: 1 is neither more than 2 nor fewer than 1."),
        ([seen(0, 0.5, (0.1,))], 0, {}, "-: 1 so far is not more than 2."),
        ([seen(0, 1)], 0, {"high": None, "low": 1}, "FIRING: 0 is fewer than 1; the window before was not in breach."),
        (
            [seen(0, 1), seen(1, 1.5, (1.1,))], 1, {"high": None, "low": 3},
            "-: It is open; whether there are fewer than 3 is known when it closes.",
        ),
        (TWO_HOURS, 0, {"for_windows": 2}, "-: 3 is more than 2: 1 of the 2 windows in a row that it takes."),
        (TWO_HOURS, 1, {"for_windows": 2}, "FIRING: 3 is more than 2, and so were the windows before: 2 in a row."),
        (
            [seen(0, 0.5, FULL), seen(0.5, 1.5, (1.1, 1.2, 1.3), Coverage.PARTIAL)], 1, {},
            "-: 3 is more than 2; it is said as soon as the window before is closed.",
        ),
        (
            [seen(0, 1), seen(1, 1.5, (), Coverage.GAP), seen(1.5, 2, (1.7,))], 1, {},
            "-: A gap in coverage touches it: its count is unknown, so it counts as no breach, unless it is filled.",
        ),
        (
            [seen(0, 1), seen(1, 1.5, (), Coverage.GAP), seen(1.5, 2, (1.6, 1.7, 1.8))], 1, {},
            "FIRING: A gap in coverage touches it, but the 3 flights that are known are more than 2 already.",
        ),
        ([seen(-3, 1)], -1, {}, "-: It starts before the interest is in effect, so it is not judged."),
        ([seen(0, 1)], -1, {}, "-: It starts before the first coverage, so it is not judged."),
    ],
)  # fmt: skip
def test_each_judgement_has_its_sentence(log, hour, changes, reasons) -> None:
    """Each kind of window has a sentence that explains an alert, or its absence."""
    assert explain_window(log, hour, **changes) == reasons


QUIET = DAYTIME | {12: 4, 13: 3}
"""A day of ten flights an hour by day, but for noon and one o'clock."""
BUSY_HOURS = [*busy_weeks(50, DAYTIME), hours(50, QUIET), hours(51, {6: 2}, 0, 7)]
TEN = "the usual 10 (10, 10, 10, 10)"


@pytest.mark.parametrize(
    ("hour", "changes", "reasons"),
    [
        (12, {}, f"FIRING: 4 is fewer than 50 % of {TEN}; the window before was not in breach."),
        (13, {}, f"-: 3 is still fewer than 50 % of {TEN}; it was said when the breach began."),
        (14, {}, f"RESOLVED: 10 is no longer fewer than 50 % of {TEN}."),
        (15, {}, f"-: 10 is not fewer than 50 % of {TEN}."),
        (3, {}, "-: It usually has 0 (0, 0, 0, 0), fewer than 5: it is skipped, and neither alerts nor ends a breach."),
        (
            12, {"for_windows": 2},
            f"-: 4 is fewer than 50 % of {TEN}: 1 of the 2 windows in a row that it takes.",
        ),
        (
            13, {"high": 2},
            "-: 3 is still more than 2; it was said when the breach began. | "
            f"-: 3 is still fewer than 50 % of {TEN}; it was said when the breach began.",
        ),
    ],
)  # fmt: skip
def test_each_judgement_by_percents_has_its_sentence(hour, changes, reasons) -> None:
    """It says what is usual, and the counts that this is the median of."""
    assert explain_percents(BUSY_HOURS, hour, **changes) == reasons


def test_why_a_window_is_not_judged_by_percents_is_explained() -> None:
    """Too little is known of the weeks before, or the coverage has not reached the window."""
    ahead = replace(hours(51, {8: 3}, 7, 9), coverage=Coverage.PARTIAL)
    assert explain_percents([*BUSY_HOURS, ahead], 32) == (
        "-: The coverage has not reached its start, and what is usual there is not known before."
    )
    assert explain_percents([*busy_weeks(50, DAYTIME, weeks=2), hours(50, QUIET)], 12) == (
        "-: Of the same window of the five weeks before, fewer than three were known when the coverage reached it: "
        "nothing is usual there, so it is not judged. While the weeks before are collected, learning_until of the "
        "interest in the collector's answers says until when."
    )
    early = {"effective_from": instant((MONDAY + 51) * DAY_S)}
    assert "before the interest is in effect" in explain_percents(BUSY_HOURS, 23, **early)


def test_the_airports_days_are_explained_by_their_own_usual() -> None:
    """With the counts of the days of the weeks before by that clock: that of 23 hours is one of them."""
    first = seconds(datetime(2013, 2, 12, tzinfo=UTC))
    quiet = range(seconds(datetime(2013, 3, 17, 4, tzinfo=UTC)), seconds(datetime(2013, 3, 18, 4, tzinfo=UTC)), HOUR_S)
    log = []
    for begin in range(first, first + 36 * DAY_S, DAY_S):
        times = tuple(at for at in range(begin, begin + DAY_S, HOUR_S) if at not in quiet[:20])
        log.append(Observation(Direction.DEPARTURES, begin, begin + DAY_S, times, Coverage.COMPLETE))
    since = datetime(2013, 3, 12, tzinfo=UTC)
    interest = a_percent(airport="KJFK", window=Window.ONE_DAY, aligned_to=AlignedTo.AIRPORT, effective_from=since)
    explanation = build_explanation(log, interest)
    by_day = {f"{each.start:%d %b}": each for each in explanation.windows}
    assert by_day["17 Mar"].usual == "24 (23, 24, 24, 24)"
    assert by_day["17 Mar"].bounds[0].why == (
        "4 is fewer than 50 % of the usual 24 (23, 24, 24, 24); the window before was not in breach."
    )
    assert by_day["17 Mar"].has_alert
    assert explanation.series.clock == "America/New_York"
    assert {each.doubled_usual for each in explanation.series.windows} >= {48}


def explain_percents(log, hour: int, **changes) -> str:
    """Return the reasons shown for an hour of the day 50 after MONDAY, each after the state of its alert or `-`."""
    explanation = build_explanation(log, a_percent(airport="KJFK", **changes))
    start = instant(((MONDAY + 50) * 24 + hour) * HOUR_S)
    (window,) = [each for each in explanation.windows if each.start == start]
    assert "of the usual" in render_explanation(explanation, 1, False, "w")
    return " | ".join(f"{bound.state if bound.said else '-'}: {bound.why}" for bound in window.shown_bounds)


def test_a_threshold_without_a_breach_is_left_out_if_the_other_has_one() -> None:
    """Both thresholds of an interest are explained only if both are in breach or have a state."""
    log = [seen(0, 1), seen(1, 2, (1.1, 1.2, 1.3))]
    assert explain_window(log, 0, low=1) == "FIRING: 0 is fewer than 1; the window before was not in breach."
    assert explain_window(log, 1, low=1) == (
        "FIRING: 3 is more than 2; the window before was not in breach. | RESOLVED: 3 is no longer fewer than 1."
    )


def test_an_interest_at_an_airport_without_coverage_is_explained() -> None:
    """There is no window to judge, and the page says so."""
    explanation = build_explanation([], an_interest())
    assert explanation.windows == ()
    assert "nothing is covered" in render_explanation(explanation, 1, False, "w")


def test_the_page_shows_the_newest_windows_first_and_can_show_only_alerts() -> None:
    """The windows are shown page by page; the filter leaves only the windows with an alert."""
    log = [seen(0, 1, FULL), seen(1, 60)]
    explanation = build_explanation(log, an_interest())
    newest, oldest = render_explanation(explanation, 1, False, "w"), render_explanation(explanation, 2, False, "w")
    assert newest.count('<tr role="row" data-key') == WINDOWS_PER_PAGE
    assert "Sun 10 Feb 11:00–12:00</th>" in newest
    assert "Fri 8 Feb 00:00–01:00</th>" in oldest.split("Window by window")[1]
    alone = render_explanation(explanation, 1, True, "w")
    assert alone.count('<tr role="row" data-key') == 2
    assert "No window brought an alert." in render_explanation(
        build_explanation([seen(0, 1)], an_interest()), 1, True, "w"
    )


def test_hours_of_one_gap_are_one_row() -> None:
    """Windows that are unknown for the same reason are told once; what is known, or counts otherwise, stays apart."""
    explanation = build_explanation([seen(0, 1, FULL), seen(1, 5, (4.5,), Coverage.GAP), seen(5, 6)], an_interest())
    merged = [each for each in merge_unknown_windows(explanation.windows) if each.start >= BASE]
    hours = [((each.start - BASE) // HOUR, (each.end - BASE) // HOUR, each.count) for each in merged]
    assert hours == [(5, 6, 0), (4, 5, 1), (1, 4, 0), (0, 1, 3)]
    assert "Fri 8 Feb 01:00–04:00</th>" in render_explanation(explanation, 1, False, "w")


@given(log=interleaved(), interest=interests)
@settings(max_examples=30)
def test_merged_windows_hide_no_alert_and_leave_no_hole(log, interest) -> None:
    """The rows are those of all windows, and each that was judged is one by itself."""
    windows = build_explanation(log, interest).windows
    merged = merge_unknown_windows(windows)
    assert [each for each in merged if each.has_alert] == [each for each in windows if each.has_alert]
    assert sum((each.end - each.start for each in merged), timedelta(0)) == sum(
        (each.end - each.start for each in windows), timedelta(0)
    )


def test_the_condition_of_an_interest_is_shown_in_words() -> None:
    """The title has the thresholds, the direction and the number of windows in a row."""
    explanation = build_explanation([], an_interest(low=1, for_windows=3, direction=Direction.BOTH))
    assert describe_interest(explanation) == "more than 2 or fewer than 1 arrivals and departures, 3 windows in a row"
    explanation = build_explanation([], a_percent(high=40, for_windows=2))
    assert describe_interest(explanation) == (
        "departures: more than 40 or fewer than 50 % of the usual, 2 windows in a row"
    )


def test_the_json_names_no_person() -> None:
    """The JSON has every window, and no user."""
    decoded = json.loads(EXPLANATION_ADAPTER.dump_json(build_explanation([seen(0, 60, FULL)], an_interest())))
    assert len(decoded["windows"]) > WINDOWS_PER_PAGE
    assert str(an_interest().user_id) not in json.dumps(decoded)
    assert "user" not in decoded


def test_a_late_interest_has_alerts_only_since_it_is_in_effect() -> None:
    """The chart has the whole history, but alerts only in windows since `effective_from`."""
    late = replace(an_interest(), effective_from=BASE + 30 * HOUR)
    explanation = build_explanation([seen(0, 40, (0.1, 0.2, 0.3, 31.1, 31.2, 31.3))], late)
    assert {(each.start - BASE) / HOUR for each in explanation.series.statements} == {31.0, 32.0}


def test_windows_by_the_airports_clock_are_shown_in_its_time() -> None:
    """The rows and the chart have the airport's days, and say whose clock it is; a day of 23 hours is one row."""
    begin = datetime(2013, 3, 9, tzinfo=UTC)
    interest = an_interest(
        airport="KBOS",
        window=Window.ONE_DAY,
        aligned_to=AlignedTo.AIRPORT,
        high=None,
        low=2,
        effective_from=begin,
    )
    join = JoinStateOnDicts()
    join.fold(interest_set(interest, 1))
    for day in range(4):
        at = seconds(begin) + day * DAY_S
        times = (at + 4 * HOUR_S + 1800, at + 5 * HOUR_S)  # before local midnight from the 10th on, and after it
        join.fold(observed("KBOS", day + 1, Observation(interest.direction, at, at + DAY_S, times, Coverage.COMPLETE)))
    explanation = explain_interest(join.state, interest, NOW)
    known = [each for each in explanation.windows if each.knowledge == "closed"]
    assert [(f"{each.start:%d %b %H:%M}", f"{each.end:%d %b %H:%M}", each.count) for each in known] == [
        ("11 Mar 00:00", "12 Mar 00:00", 2),
        ("10 Mar 00:00", "11 Mar 00:00", 1),
        ("09 Mar 00:00", "10 Mar 00:00", 2),
    ]
    assert [each.bounds[0].state for each in reversed(known)] == [None, "FIRING", "RESOLVED"]
    assert explanation.series.clock == "America/New_York"
    assert [each.count for each in explanation.series.windows][-4:-1] == [2, 1, 2]
    page = render_explanation(explanation, page=1, only_said=False, answered_by="a test")
    assert "Sun 10 Mar</th>" in page
    assert "Window (America/New_York)" in page
    assert "by the airport's clock" in page
