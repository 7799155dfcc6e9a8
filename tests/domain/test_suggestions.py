"""Tests of suggested thresholds: the mails of each level are those of the alert rule, and the nearest is suggested."""

from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from domain.alerts import Bound
from domain.interests import Direction, Interest
from domain.measures import Measure
from domain.preview import FlightHistory, fold_histories, preview_traffic
from domain.suggestions import (
    Frequency,
    LevelHistory,
    LevelWindow,
    Suggestion,
    build_level_history,
    iterate_levels,
    suggest_levels,
)
from domain.traffic import Traffic
from domain.windows import HOUR_S, Window, instant, seconds
from tests.domain.logs import BASE, an_interest

DAY = timedelta(days=1)


def make_history(counts: list[int | None], days: float, measure: Measure = Measure.FLIGHTS) -> LevelHistory:
    """Return a history of windows with these counts (None: lost) that were judged for so many days."""
    windows = [LevelWindow(at, None if each is None else dict.fromkeys(Bound, each)) for at, each in enumerate(counts)]
    return LevelHistory(tuple(windows), None, measure, days * DAY)


def tell_weeks(chance: Random, airport: str) -> tuple[Traffic, int, int]:
    """Return the traffic of some weeks at an airport, and the days (since 1970) of its begin and its end.

    Busy and quiet hours and days, so that windows are skipped by percents; some stories begin too late for a usual.
    """
    begin = seconds(BASE) // (24 * HOUR_S) - 3 + chance.randrange(40)
    days = chance.choice((30, 45, 60))
    histories = []
    scale = chance.choice((1, 4, 15))
    for direction in Direction.BOTH.parts:
        times: list[int] = []
        for hour in range(24 * days):
            usual = 0 if hour % 24 < 6 or (hour // 24) % 7 in (2, 3) else scale
            times += [(begin * 24 + hour) * HOUR_S] * chance.randrange(0, 2 * usual + 1)
        histories.append(FlightHistory(direction, begin * 24 * HOUR_S, (begin + days) * 24 * HOUR_S, times))
    return fold_histories(airport, histories), begin, begin + days


def build_interest(bound: Bound, measure: Measure, level: int, **changes: object) -> Interest:
    """Return an interest with one threshold."""
    name = f"{bound}_percent" if measure is Measure.PERCENT else bound.value
    return an_interest(**({"high": None, "low": None} | {name: level} | changes))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    airport=st.sampled_from(("B000", "KJFK")),
    direction=st.sampled_from(Direction),
    window=st.sampled_from(Window),
    measure=st.sampled_from(Measure),
    bound=st.sampled_from(Bound),
    for_windows=st.integers(1, 5),
    repeat=st.booleans(),
)
def test_the_mails_of_each_level_are_those_of_the_alert_rule(
    seed: int,
    airport: str,
    direction: Direction,
    window: Window,
    measure: Measure,
    bound: Bound,
    for_windows: int,
    repeat: bool,
) -> None:
    """Also of levels that are passed always or never, across skipped windows, and those without a usual."""
    chance = Random(seed)
    traffic, begin, end = tell_weeks(chance, airport)
    first_day = chance.randrange(max(begin, end - 39), end)
    history = build_level_history(traffic, direction, window, measure, first_day * 24 // window.hours)
    levels = [*iterate_levels(history, bound)]
    for level in chance.sample(levels, min(len(levels), 6)):
        interest = build_interest(
            bound,
            measure,
            level,
            airport=airport,
            direction=direction,
            window=window,
            for_windows=for_windows,
            repeat=repeat,
            effective_from=instant(first_day * 24 * HOUR_S),
        )
        alerts = preview_traffic(interest, traffic).alerts
        assert history.count_mails(bound, level, for_windows, repeat=repeat) == len(alerts)


@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("for_windows", [1, 4, 5, 6])
def test_windows_are_sought_as_far_back_as_the_rule_seeks_them(for_windows: int, repeat: bool) -> None:
    """An airport with flights once a week, more each time: the day before a run of five is beyond the 31 days."""
    days, day_s = 85, 24 * HOUR_S
    begin = seconds(BASE) // day_s
    times = [(begin + day) * day_s for day in range(0, days, 7) for _ in range(6 + day // 7)]
    traffic = fold_histories(
        "B000", [FlightHistory(Direction.DEPARTURES, begin * day_s, (begin + days) * day_s, times)]
    )
    first = begin + days - 39
    history = build_level_history(traffic, Direction.DEPARTURES, Window.ONE_DAY, Measure.PERCENT, first)
    assert len(history.windows) > 4  # the days between are skipped
    interest = build_interest(
        Bound.HIGH,
        Measure.PERCENT,
        101,
        airport="B000",
        window=Window.ONE_DAY,
        for_windows=for_windows,
        repeat=repeat,
        effective_from=instant(first * day_s),
    )
    alerts = preview_traffic(interest, traffic).alerts
    assert history.count_mails(Bound.HIGH, 101, for_windows, repeat=repeat) == len(alerts)


@given(
    counts=st.lists(st.none() | st.integers(0, 30), max_size=40),
    days=st.integers(0, 70),
    bound=st.sampled_from(Bound),
    for_windows=st.integers(1, 3),
    repeat=st.booleans(),
)
def test_the_suggested_level_is_the_nearest_that_all_levels_have(
    counts: list[int | None], days: int, bound: Bound, for_windows: int, repeat: bool
) -> None:
    """All levels are tried one by one, from the most extreme to the first that brings enough mails."""
    history = make_history(counts, days)
    found = suggest_levels(history, bound, for_windows, repeat=repeat)
    everything = range(100, -1, -1) if bound is Bound.HIGH else range(1, 101)
    for frequency in Frequency:
        wanted = days / {"month": 30, "week": 7, "day": 1}[frequency.value]
        tried: list[tuple[int, int]] = []
        for level in everything:
            mails = history.count_mails(bound, level, for_windows, repeat=repeat)
            if any(each is not None and bound.is_breached(each, level) for each in counts):
                tried.append((level, mails))
            if tried and mails >= wanted:
                break
        shown = found[frequency]
        fitting = [each for each in tried if wanted / 2 <= each[1] <= max(2 * wanted, 2) and wanted >= 2 / 3]
        if fitting:
            best = min(abs(mails - wanted) for _, mails in fitting)
            expected = next(each for each in fitting if abs(each[1] - wanted) == best)
            assert (shown.level, shown.mails, shown.why_none) == (*expected, None)
        else:
            assert (shown.level, shown.mails) == (None, None)
            assert shown.why_none


def test_a_level_that_is_always_passed_is_not_suggested_for_a_mail_a_month() -> None:
    """More than 0 would have brought one mail in 30 days; more than 59, passed once, is suggested."""
    counts: list[int | None] = [10 + at % 7 for at in range(24 * 30)]
    counts[100] = 60
    history = make_history(counts, 30)
    assert history.count_mails(Bound.HIGH, 0, 1, repeat=False) == 1
    found = suggest_levels(history, Bound.HIGH, 1, repeat=False)
    assert found[Frequency.MONTH] == Suggestion(59, 2, None)
    assert found[Frequency.WEEK].why_none == (
        "No level would have brought about a mail a week: one step makes many of few."
    )


def test_without_enough_knowledge_or_levels_a_sentence_says_so() -> None:
    """Two days say nothing of a month; percents from 101 on may have been passed by no window."""
    two_days = suggest_levels(make_history([3, 9] * 24, 2), Bound.HIGH, 1, repeat=False)
    assert two_days[Frequency.MONTH] == Suggestion(
        None,
        None,
        "Only 2.0 days are known that such a level can judge: too little for a mail a month.",
        "Only 2.0 days are known that such a level can judge: too little.",
    )
    assert two_days[Frequency.WEEK].reason == two_days[Frequency.MONTH].reason
    nothing = suggest_levels(make_history([], 0), Bound.LOW, 1, repeat=False)
    assert {each.why_none for each in nothing.values()} == {
        f"Nothing is known yet that such a level can judge: too little for a mail a {each}." for each in Frequency
    }
    quiet = suggest_levels(make_history([80] * 24 * 35, 35, Measure.PERCENT), Bound.HIGH, 1, repeat=False)
    assert {each.why_none for each in quiet.values()} == {"No level that may be set would have been passed."}
    never = suggest_levels(make_history([5] * 24 * 35, 35), Bound.LOW, 1, repeat=False)
    assert never[Frequency.DAY].why_none == "No level would have brought as much as a mail a day."


@pytest.mark.parametrize(
    ("measure", "bound", "values", "levels"),
    [
        (Measure.FLIGHTS, Bound.HIGH, [0, 0, 5, 9], [8, 4]),
        (Measure.FLIGHTS, Bound.LOW, [0, 0, 5, 9], [1, 6, 10]),
        (Measure.PERCENT, Bound.HIGH, [100, 102, 103, 20_000, 30_000], [10_000, 102, 101]),
        (Measure.PERCENT, Bound.LOW, [0, 98, 99, 150], [1, 99]),
    ],
)
def test_only_levels_that_may_be_set_are_tried(
    measure: Measure, bound: Bound, values: list[int], levels: list[int]
) -> None:
    """The most extreme first; each is breached by other windows than the one before."""
    history = make_history([*values], 4, measure)
    assert [*iterate_levels(replace(history), bound)] == levels
