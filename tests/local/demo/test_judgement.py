"""The judgement of a live run: which differences it sees, and which it allows."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings, strategies as st

from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction, Interest
from domain.windows import Window, seconds
from local.demo.expected import ExpectedCoverage, compute_expected_alerts
from local.demo.judgement import (
    Statement,
    compare_flights,
    compare_statements,
    compute_tail,
    find_knowable,
    find_statements_in_force,
    find_told,
    find_untold,
    is_contradicted,
    is_window_decided,
    move_flights,
)
from local.opensky.flights import Timetable, TimetableFlight
from notifier.mail.alert_header import select_header_fields

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
BEGIN = datetime(2013, 2, 9, tzinfo=UTC)
END = BEGIN + 2 * DAY
DEPARTURES = ("KJFK", Direction.DEPARTURES)
COVERED = ExpectedCoverage(BEGIN)


def build_interest(**changes: object) -> Interest:
    """Return an interest in fewer than 1 and more than 20 departures an hour from KJFK, changed in some fields."""
    interest = Interest(
        UUID(int=1), UUID(int=2), "KJFK", Direction.DEPARTURES, Window.ONE_HOUR, 20, 1, 1, False, BEGIN, 1
    )
    return replace(interest, **changes)  # type: ignore[arg-type]


def build_timetable(times: Iterable[datetime]) -> Timetable:
    """Return a timetable of departures from KJFK at these times, each of an aircraft of its own."""
    return Timetable(
        TimetableFlight(seconds(at), seconds(at) + 3_600, f"{number:06x}", "", "KJFK", "KBOS")
        for number, at in enumerate(times)
    )


def build_alert(state: AlertState = AlertState.FIRING, at: datetime = BEGIN, **changes: object) -> Alert:
    """Return a low alert about a window of KJFK without departures, changed in some fields."""
    alert = Alert(
        alert_id=uuid4(), interest_id=UUID(int=1), user_id=UUID(int=2), version=1, airport="KJFK",
        direction=Direction.DEPARTURES, window=Window.ONE_HOUR, window_start=at, bound=Bound.LOW, state=state,
        count=0, threshold=1, for_windows=1,
    )  # fmt: skip
    return replace(alert, **changes)  # type: ignore[arg-type]


def list_in_force(timetable: Timetable, interest: Interest) -> set[Statement]:
    """Return the statements that the rule makes of a timetable."""
    return {
        Statement(each.airport, each.direction, each.window, each.bound, each.window_start,
                  each.state is AlertState.RESOLVED)
        for each in compute_expected_alerts(timetable, interest, END, COVERED)
    }  # fmt: skip


def test_what_is_withdrawn_is_not_in_force() -> None:
    """A withdrawal takes back a breach or its end, as it says; what comes again is in force again."""
    firing, resolved = build_alert(), build_alert(AlertState.RESOLVED, BEGIN + HOUR, count=3)
    withdrawn = build_alert(AlertState.WITHDRAWN, withdrawn_state=AlertState.FIRING, count=3)
    end_withdrawn = build_alert(AlertState.WITHDRAWN, BEGIN + HOUR, withdrawn_state=AlertState.RESOLVED)
    assert list(find_statements_in_force([firing, resolved]).values()) == [firing, resolved]
    assert list(find_statements_in_force([firing, resolved, withdrawn]).values()) == [resolved]
    assert list(find_statements_in_force([firing, resolved, end_withdrawn]).values()) == [firing]
    again = build_alert(revision=1)
    assert list(find_statements_in_force([firing, withdrawn, again]).values()) == [again]


def test_mails_tell_what_is_in_force() -> None:
    """A mail of a withdrawal has only counts: it takes back an end if the window is in breach, else a breach."""
    alerts = [
        build_alert(),
        build_alert(AlertState.RESOLVED, BEGIN + HOUR, count=3),
        build_alert(AlertState.WITHDRAWN, BEGIN + HOUR, withdrawn_state=AlertState.RESOLVED),
        build_alert(AlertState.WITHDRAWN, withdrawn_state=AlertState.FIRING, count=3),
        build_alert(revision=1),
    ]
    for number in range(len(alerts) + 1):
        mailed = [select_header_fields(each) for each in alerts[:number]]
        assert find_told(mailed) == set(find_statements_in_force(alerts[:number]))


def test_an_alert_without_a_mail_is_found() -> None:
    """Each alert needs a mail of its own, but of corrections only the outcome must be told."""
    firing, again = build_alert(), build_alert(revision=1, corrects=True)
    withdrawn = build_alert(AlertState.WITHDRAWN, withdrawn_state=AlertState.FIRING, count=3, corrects=True)
    mailed = select_header_fields(firing)
    assert find_untold([firing], [mailed]) == []
    assert len(find_untold([firing], [])) == 2  # without a mail, and not told
    assert find_untold([firing, withdrawn], [mailed])
    assert find_untold([firing, withdrawn], [mailed, select_header_fields(withdrawn)]) == []
    assert find_untold([firing, withdrawn, again], [mailed]) == []
    assert find_untold([firing, replace(withdrawn, corrects=False), again], [mailed])


def test_flights_in_force_are_compared_one_to_one() -> None:
    """At most 20 minutes off it is the same flight; one that is missing or too many is found, but not near the end."""
    times = [BEGIN + 2 * HOUR, BEGIN + 3 * HOUR, END - MINUTE]
    timetable = build_timetable(times)
    told = {f"{number:06x}": seconds(at) for number, at in enumerate(times)}
    told["000000"] += 19 * 60
    exact = {DEPARTURES: frozenset(told.items())}
    found = compare_flights(timetable, exact, {DEPARTURES: COVERED}, END)
    assert (found.missing, found.extra) == ((), ())
    assert found.told_at[DEPARTURES, ("000000", seconds(times[0]))] == seconds(times[0]) + 19 * 60
    off = frozenset({*told.items(), ("000001", seconds(times[1]) + 21 * 60), ("00000f", seconds(END - 19 * MINUTE))})
    found = compare_flights(timetable, {DEPARTURES: off}, {DEPARTURES: COVERED}, END)
    assert (found.missing, found.extra) == ((), ((DEPARTURES, ("000001", seconds(times[1]) + 21 * 60)),))
    found = compare_flights(timetable, {DEPARTURES: frozenset()}, {DEPARTURES: COVERED}, END)
    assert [movement[0] for _, movement in found.missing] == ["000000", "000001", "000002"]


def test_what_comes_in_a_day_without_a_record_is_not_decided() -> None:
    """Neither flights nor windows of such a day are compared, nor the window after it."""
    covered = ExpectedCoverage(BEGIN, frozenset({BEGIN + DAY}))
    flight = {DEPARTURES: frozenset({("00000f", seconds(BEGIN + DAY + HOUR))})}
    assert compare_flights(build_timetable([]), flight, {DEPARTURES: covered}, END + DAY).extra == ()
    decided = [
        hour for hour in range(-1, 73) if is_window_decided(build_interest(), BEGIN + hour * HOUR, covered, END + DAY)
    ]
    assert decided == [*range(24), *range(49, 72)]


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.booleans(), st.integers(1, 2))
def test_the_rules_own_statements_are_right_and_any_other_is_not(seed: int, repeat: bool, for_windows: int) -> None:
    """Each statement that is taken away is missing, and each that says the opposite of a window is wrong."""
    chance = Random(seed)
    times = [
        BEGIN + number * HOUR + chance.random() * HOUR for number in range(48) for _ in range(chance.choice((0, 3)))
    ]
    timetable = build_timetable(times)
    interest = build_interest(high=2, repeat=repeat, for_windows=for_windows)
    in_force = list_in_force(timetable, interest)
    found = compare_statements(timetable, interest, in_force, COVERED, END)
    assert (set(found.expected), found.missing, found.wrong) == (in_force, (), ())
    for each in chance.sample(sorted(in_force), min(len(in_force), 3)):
        opposite = each._replace(is_about_end=not each.is_about_end)
        assert compare_statements(timetable, interest, in_force - {each}, COVERED, END).missing == (each,)
        assert compare_statements(timetable, interest, in_force | {opposite}, COVERED, END).wrong == (opposite,)


def test_times_that_were_told_count() -> None:
    """A flight whose time was told in another hour counts there."""
    at = BEGIN + HOUR + timedelta(seconds=20)
    told = {(DEPARTURES, ("000000", seconds(at))): seconds(at) - 40}
    moved = move_flights(build_timetable([at]), told, BEGIN, END)
    assert moved.find_departures("KJFK", seconds(BEGIN), seconds(END))[0].first_seen == seconds(at) - 40


@pytest.mark.parametrize(
    ("true", "said", "contradicted"), [(0, 0, False), (1, 0, False), (5, 0, False), (6, 0, True), (30, 0, True)]
)
def test_silence_in_a_busy_hour_is_contradicted(true: int, said: int, contradicted: bool) -> None:
    """One movement in five may be missed, by chance several in a row; that all of six are is no chance any more."""
    timetable = build_timetable([BEGIN + (number + 2) * MINUTE for number in range(true)])
    assert is_contradicted(timetable, build_interest(), build_alert(count=said)) is contradicted


def test_only_what_says_that_there_is_little_can_be_contradicted() -> None:
    """A high, an end and a withdrawal are judged after the night; movements at the edges may be told next door."""
    timetable = build_timetable([BEGIN + number * MINUTE for number in range(2, 58)])
    assert is_contradicted(timetable, build_interest(), build_alert())
    for other in (AlertState.RESOLVED, AlertState.WITHDRAWN):
        assert not is_contradicted(timetable, build_interest(), build_alert(other))
    assert not is_contradicted(timetable, build_interest(), build_alert(bound=Bound.HIGH, threshold=20, count=21))
    edges = build_timetable([BEGIN + timedelta(seconds=each) for each in range(60)])
    assert not is_contradicted(edges, build_interest(), build_alert())


def test_a_tail_is_that_of_the_binomial_distribution() -> None:
    """Some values that are easy to compute."""
    assert compute_tail(3, 0, 0.2) == pytest.approx(1)
    assert compute_tail(3, 3, 0.2) == pytest.approx(0.008)
    assert compute_tail(2, 1, 0.5) == pytest.approx(0.75)


def test_a_high_is_known_with_its_movement_and_the_rest_with_the_window() -> None:
    """A high waits for the window before; what the truth does not say is never known."""
    times = [BEGIN + HOUR + number * MINUTE for number in range(30)]
    timetable, delay = build_timetable(times), 13 * MINUTE
    high = Statement("KJFK", Direction.DEPARTURES, Window.ONE_HOUR, Bound.HIGH, BEGIN + HOUR, is_about_end=False)
    interest = build_interest()
    assert find_knowable(timetable, interest, high, delay) == times[20]
    assert find_knowable(timetable, replace(interest, high=3), high, delay) == BEGIN + HOUR + delay
    assert find_knowable(timetable, replace(interest, high=30), high, delay) is None
    assert find_knowable(timetable, interest, high._replace(is_about_end=True), delay) == BEGIN + 2 * HOUR + delay
    low = high._replace(bound=Bound.LOW, window_start=BEGIN)
    assert find_knowable(timetable, interest, low, delay) == BEGIN + HOUR + delay
