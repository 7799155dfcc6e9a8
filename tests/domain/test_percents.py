"""Tests of thresholds in percent of the usual: examples, and comparison with the brute-force model for any log."""

from dataclasses import replace
from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from domain.alerts import Alert, Bound
from domain.calendar import Calendar, find_calendar
from domain.changes import NO_TRAFFIC, TrafficChange
from domain.explanation import Usualness, judge_windows
from domain.grids import LOCAL_WINDOWS
from domain.interest_alerts import compute_alerts
from domain.interests import HIGH_PERCENTS, LOW_PERCENTS, Direction, Interest, InterestError, check_thresholds
from domain.measures import compute_percent_level, convert_to_flights
from domain.traffic import Coverage, Observation, Traffic
from domain.usual_fold import fold_with_usual
from domain.windows import HOUR_S, AlignedTo, Window, instant
from tests.domain.logs import an_interest
from tests.domain.percent_model import ModelListener
from tests.domain.test_corrections import describe
from tests.domain.test_threshold_index import build_index, find_alerts
from tests.domain.test_usual import MONDAY, fold_all, usual_logs
from tests.domain.usual_logs import DAY_S, UsualLog, generate_usual_log

AIRPORTS = {
    "UTC": "B000",
    "America/New_York": "KJFK",
    "Australia/Lord_Howe": "YLHI",
    "Pacific/Apia": "NSFA",
    "Europe/Rome": "LIRF",
    "Pacific/Honolulu": "PHNL",
    "Asia/Kathmandu": "VNKT",
    "Australia/Adelaide": "YPAD",
    "Pacific/Chatham": "NZCI",
    "Africa/Cairo": "HECA",
}
"""An airport in each of the zones of the logs."""


def a_percent(**changes) -> Interest:
    """Return an interest in departures below half of the usual, by the hour, with the fields in `changes` replaced."""
    values = {"high": None, "low": None, "low_percent": 50, "airport": "B000"}
    return an_interest(**({"effective_from": instant((MONDAY + 50) * DAY_S)} | values | changes))


def hours(day: int, counts: dict[int, int], begin: int = 0, end: int = 24) -> Observation:
    """Return a message about the hours from `begin` to `end` of a day after MONDAY, with flights by hour."""
    start = (MONDAY + day) * DAY_S
    times = tuple(start + hour * HOUR_S + n for hour, count in counts.items() for n in range(count))
    return Observation(
        Direction.DEPARTURES,
        start + begin * HOUR_S,
        start + end * HOUR_S,
        times,
        Coverage.COMPLETE,
        tuple(range(1, len(times) + 1)),
    )


def busy_weeks(day: int, counts: dict[int, int], weeks: int = 4) -> list[Observation]:
    """Return messages of all days of some weeks before `day`, each with these flights by hour."""
    return [hours(day - back, counts) for back in range(7 * weeks, 0, -1)]


def tell(interest: Interest, log, traffic: Traffic) -> tuple[list[Alert], Traffic]:
    """Return the alerts that messages raise for an interest, and the traffic after them."""
    alerts: list[Alert] = []
    for message in log:
        after = fold_with_usual(traffic, message, find_calendar(interest.airport))
        alerts += compute_alerts(interest, traffic, after)
        traffic = after
    return alerts, traffic


def at_hours(alerts: list[Alert], day: int = 50) -> list[tuple[str, int, int]]:
    """Return state, hour of a day after MONDAY, and count of some alerts."""
    begin = (MONDAY + day) * DAY_S
    return [(a.state.value, int(a.window_start.timestamp() - begin) // HOUR_S, a.count) for a in alerts]


DAYTIME = dict.fromkeys(range(6, 22), 10)
"""Ten flights an hour from 06:00 to 22:00, none at night."""


def test_half_of_the_usual_fires_when_the_hour_closes_and_the_alert_says_what_is_usual():
    """Low: 100 c < 50 u. Five of ten are half, which is no breach; four are."""
    weeks = fold_all(busy_weeks(50, DAYTIME))
    alerts, _ = tell(a_percent(), [hours(50, DAYTIME | {9: 5, 12: 4})], weeks)
    assert at_hours(alerts) == [("FIRING", 12, 4), ("RESOLVED", 13, 10)]
    first, second = alerts
    assert (first.percent, first.doubled_usual, first.threshold, first.base_counts) == (50, 20, 5, (10, 10, 10, 10))
    assert second.episode_id == first.alert_id


def test_nights_neither_alert_nor_end_a_breach():
    """Their usual is below 5: the hour before the morning is the last of the evening, for runs, too."""
    quiet = dict.fromkeys(range(18, 22), 2)
    log = [hours(50, DAYTIME | quiet), hours(51, DAYTIME | {6: 1})]
    alerts, traffic = tell(a_percent(repeat=True), log, fold_all(busy_weeks(50, DAYTIME)))
    assert at_hours(alerts) == [
        ("FIRING", 18, 2),
        *[("STILL", hour, 2) for hour in (19, 20, 21)],
        ("STILL", 30, 1),
        ("RESOLVED", 31, 10),
    ]
    run, _ = tell(a_percent(for_windows=5), log, fold_all(busy_weeks(50, DAYTIME)))
    assert at_hours(run) == [("FIRING", 30, 1), ("RESOLVED", 31, 10)]
    assert run[1].episode_id == run[0].alert_id
    assert build_index([a_percent()]).count_in_breach(fold_all([hours(52, {}, 0, 7)], traffic)) == {
        (Direction.DEPARTURES, Window.ONE_HOUR, Bound.LOW): 1
    }
    assert build_index([a_percent()]).count_in_breach(fold_all([hours(52, {6: 9}, 0, 7)], traffic)) == {}


def test_an_alert_says_what_was_usual_in_the_hours_before():
    """Of each hour whose count it carries, also of those that are skipped; None where nothing was usual."""
    weeks = busy_weeks(50, DAYTIME, weeks=3)
    alerts, _ = tell(a_percent(), [hours(50, DAYTIME | {7: 4})], fold_all(weeks))
    assert alerts[0].earlier == (*[10] * 3, *[0] * 8, 10)
    assert alerts[0].earlier_usual == (*[None] * 5, *[0] * 6, 20)  # the third week before began at midnight
    flights, _ = tell(a_percent(low_percent=None, low=5), [hours(50, DAYTIME)], fold_all(weeks))
    assert {alert.earlier_usual for alert in flights} == {()}


def test_a_night_after_a_breach_is_in_breach_until_the_morning():
    """The last hour that was judged was one."""
    traffic = fold_all([*busy_weeks(50, DAYTIME), hours(50, DAYTIME | {21: 0}), hours(51, {}, 0, 3)])
    assert sum(build_index([a_percent()]).count_in_breach(traffic).values()) == 1


def test_a_high_is_said_as_soon_as_the_count_passes():
    """150 percent of ten are fifteen: the sixteenth flight is one too many. No night before it has to be awaited."""
    weeks = fold_all(busy_weeks(50, DAYTIME))
    interest = a_percent(low_percent=None, high_percent=150)
    morning = hours(50, {6: 16}, 0, 7)
    early = replace(morning, end=morning.end - 1800, event_times=morning.event_times[:15])
    alerts, traffic = tell(interest, [early], weeks)
    assert alerts == []
    alerts, traffic = tell(interest, [replace(early, begin=early.end, end=early.end + 60)], traffic)
    assert at_hours(alerts) == [("FIRING", 6, 16)]
    assert (alerts[0].threshold, alerts[0].percent) == (15, 150)


def test_nothing_is_said_by_percents_of_an_hour_that_was_not_reached():
    """Flights ahead of the coverage count at once, and are judged when the coverage reaches their hour."""
    traffic = fold_all([*busy_weeks(50, DAYTIME), hours(50, {}, 0, 6)])
    interest = a_percent(low_percent=None, high_percent=150)
    ahead = replace(hours(50, {8: 30}, 6, 9), coverage=Coverage.PARTIAL)
    alerts, traffic = tell(interest, [ahead], traffic)
    assert alerts == []
    alerts, traffic = tell(interest, [hours(50, {6: 10, 7: 10}, 6, 8)], traffic)
    assert at_hours(alerts) == [("FIRING", 8, 16)]


def test_an_interest_begins_with_the_first_window_that_is_not_skipped():
    """Set at 02:00, it takes 06:00 for its first window: before it there is none, whatever the evening was like."""
    log = [hours(50, DAYTIME | {20: 0, 21: 0}), hours(51, DAYTIME | {6: 1})]
    interest = a_percent(effective_from=instant((MONDAY + 51) * DAY_S + 2 * HOUR_S))
    alerts, _ = tell(interest, log, fold_all(busy_weeks(50, DAYTIME)))
    assert at_hours(alerts, 51) == [("FIRING", 6, 1), ("RESOLVED", 7, 10)]
    later, _ = tell(replace(interest, for_windows=2), log, fold_all(busy_weeks(50, DAYTIME)))
    assert later == []


@given(seed=st.integers(0, 2**32))
def test_a_removed_interest_leaves_no_trace(seed):
    """An index from which interests of any measure were removed equals one to which they were never added."""
    chance = Random(seed)
    log = UsualLog("UTC", instant((MONDAY + 50) * DAY_S), (), ())
    wanted = [replace(draw_interest(chance, log), interest_id=UUID(int=n)) for n in range(12)]
    removed = chance.sample(wanted, 5)
    thresholds = build_index(wanted)
    for interest in removed:
        thresholds.remove(interest)
    remaining = [interest for interest in wanted if interest not in removed]
    assert thresholds == build_index(remaining)
    assert len(thresholds) == len(remaining)


def test_while_an_interest_learns_nothing_is_said():
    """Fewer than three weeks before are known. With flights as threshold it speaks from the first day on."""
    alerts, _ = tell(a_percent(low=None), [hours(50, {})], fold_all(busy_weeks(50, DAYTIME, weeks=2)))
    assert alerts == []
    mixed = a_percent(high=8)
    alerts, _ = tell(mixed, [hours(50, {12: 9})], fold_all(busy_weeks(50, DAYTIME, weeks=2)))
    assert at_hours(alerts) == [("FIRING", 12, 9), ("RESOLVED", 13, 0)]


def test_a_window_without_a_usual_breaks_a_run_and_is_no_breach_before():
    """What cannot be known is no breach: what comes after it fires anew."""
    past = [*busy_weeks(50, DAYTIME)]
    for back in (7, 14):
        day = past[28 - back]
        gap = replace(hours(50 - back, {}, 9, 10), coverage=Coverage.GAP)
        before, after = (
            replace(day, end=gap.begin, event_times=tuple(at for at in day.event_times if at < gap.begin)),
            replace(day, begin=gap.end, event_times=tuple(at for at in day.event_times if at >= gap.end)),
        )
        past[28 - back] = before
        past += [gap, after]
    past.sort(key=lambda message: message.begin)
    alerts, _ = tell(a_percent(), [hours(50, dict.fromkeys(range(6, 12), 2))], fold_all(past))
    assert at_hours(alerts) == [("FIRING", 6, 2), ("FIRING", 10, 2)]


def test_a_correction_of_a_past_week_judges_nothing_again_and_one_of_the_window_itself_does():
    """The usual stands as it was fixed; the count may turn out otherwise."""
    weeks = fold_all([*busy_weeks(50, DAYTIME), hours(50, DAYTIME | {12: 4})])
    _, traffic = tell(a_percent(), [], weeks)
    alerts, traffic = tell(a_percent(), [hours(day, {12: 90}) for day in (29, 36, 43)], traffic)
    assert alerts == []
    late = replace(hours(50, {12: 1}), event_times=(((MONDAY + 50) * 24 + 12) * HOUR_S + 99,), fingerprints=(99,))
    alerts, _ = tell(a_percent(), [late], traffic)
    assert describe(alerts)[0][0::2] == ("WITHDRAWN FIRING", 5)
    assert (alerts[0].withdrawn_count, alerts[0].doubled_usual) == (4, 20)
    assert alerts[0].base_counts == (100, 100, 100, 10), "as they are known now"


def test_a_run_reaches_back_a_month_at_most():
    """Mondays alone have flights, so the Monday before is the day before; five weeks back nothing is known any more."""
    log = [hours(day, {12: 10} if day % 7 == 0 else {}) for day in range(50)]
    low = a_percent(window=Window.ONE_DAY, effective_from=instant(MONDAY * DAY_S), for_windows=2, repeat=True)
    alerts, _ = tell(low, [hours(day, {}) for day in range(50, 71)], fold_all(log))
    days = [("FIRING", 63 * 24), ("STILL", 70 * 24)]
    assert [(state, hour + 50 * 24) for state, hour, _ in at_hours(alerts)] == days
    longer = replace(low, for_windows=6)
    assert tell(longer, [hours(day, {}) for day in range(50, 99)], fold_all(log))[0] == []


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({"high": 3, "high_percent": 150}, ("high", "high_percent")),
        ({"low": 3, "low_percent": 50}, ("low", "low_percent")),
        ({"high_percent": 100}, ("high_percent",)),
        ({"high_percent": 10_001}, ("high_percent",)),
        ({"low_percent": 100}, ("low_percent",)),
        ({"low_percent": 0}, ("low_percent",)),
        ({}, ("high", "low")),
    ],
)
def test_a_bound_has_flights_or_a_percent_within_reason(values, fields):
    """Both are a contradiction; and the error names the fields."""
    arguments = {"high": None, "low": None, "for_windows": 1} | values
    with pytest.raises(InterestError) as raised:
        check_thresholds(**arguments)
    assert raised.value.fields == fields


def test_bounds_may_have_different_measures():
    """More than forty flights, or less than half of the usual: a person may want both."""
    check_thresholds(40, None, 1, low_percent=50)
    check_thresholds(None, 3, 1, high_percent=101)


@given(
    flights=st.integers(0, 3_000),
    doubled=st.integers(10, 6_000),
    high=st.integers(HIGH_PERCENTS.start, HIGH_PERCENTS.stop),
    low=st.integers(LOW_PERCENTS.start, LOW_PERCENTS.stop),
)
def test_a_level_breaches_a_percent_as_the_count_does(flights, doubled, high, low):
    """By integers alone: the level is compared as flights are, and the percent is a number of flights of its window."""
    is_high, is_low = 200 * flights > high * doubled, 200 * flights < low * doubled
    assert (compute_percent_level(Bound.HIGH, flights, doubled) > high) == is_high
    assert (compute_percent_level(Bound.LOW, flights, doubled) < low) == is_low
    assert (flights > convert_to_flights(Bound.HIGH, high, doubled)) == is_high
    assert (flights < convert_to_flights(Bound.LOW, low, doubled)) == is_low


def test_an_explanation_says_why_a_window_is_not_judged():
    """Skipped at night, unknown in the first weeks, and not reached ahead of the coverage."""
    ahead = replace(hours(51, {8: 3}, 7, 9), coverage=Coverage.PARTIAL)
    log = [*busy_weeks(50, DAYTIME), hours(50, DAYTIME | {12: 4}), hours(51, {}, 0, 7), ahead]
    verdicts = list(judge_windows(a_percent(), fold_all(log)))
    by_hour = {int(each.start.timestamp()) // HOUR_S - (MONDAY + 50) * 24: each for each in verdicts}
    assert (by_hour[12].low, by_hour[12].doubled_usual, by_hour[12].base_counts) == ("FIRING", 20, (10, 10, 10, 10))
    assert (by_hour[3].low, by_hour[3].unjudged, by_hour[3].doubled_usual) == (None, Usualness.SKIPPED, 0)
    assert by_hour[32].unjudged is Usualness.UNREACHED
    early = list(judge_windows(a_percent(effective_from=instant((MONDAY + 40) * DAY_S)), fold_all(log[:20])))
    assert {each.unjudged for each in early} == {Usualness.UNKNOWN}


# Properties of any log.


def draw_interest(chance: Random, log: UsualLog) -> Interest:
    """Return an interest with thresholds of any measure, one of them at least in percent.

    Longer windows have milder percents, as their counts differ less, and begin some days earlier.
    """
    window = chance.choice((Window.ONE_HOUR, Window.ONE_HOUR, *LOCAL_WINDOWS, *LOCAL_WINDOWS))
    high, low = chance.choice((101, 110, 120, 150, 400)), chance.choice((20, 70, 90, 99))
    if window in LOCAL_WINDOWS:
        high, low = chance.choice((101, 101, 102, 110)), chance.choice((90, 98, 99, 99))
    kinds = [
        {"high_percent": high},
        {"low_percent": low},
        {"high_percent": high, "low_percent": low},
        {"high": chance.randint(3, 12), "low_percent": low},
        {"high_percent": high, "low": chance.randint(1, 6)},
    ]
    told = {message.direction for message in log.messages}
    directions = [part for part in Direction if told.issuperset(part.parts)] * 4  # of others nothing is said
    days_before = chance.randint(0, {Window.ONE_HOUR: 0, Window.SIX_HOURS: 3, Window.ONE_DAY: 10}[window])
    return an_interest(
        **{"high": None, "low": None} | chance.choice(kinds),
        airport=AIRPORTS[log.zone],
        direction=chance.choice([*directions, *Direction]),
        window=window,
        for_windows=chance.choice((1, 1, 1, 2, 3)),
        repeat=chance.random() < 0.5,
        effective_from=log.begin + timedelta(minutes=30 * chance.randint(-30, 12)) - timedelta(days=days_before),
        aligned_to=chance.choice((AlignedTo.UTC, AlignedTo.AIRPORT, AlignedTo.AIRPORT))
        if window in LOCAL_WINDOWS
        else AlignedTo.UTC,
    )


def check_statements(seed: int) -> int:
    """Assert that each message of a log raises the alerts of the model for three interests, and count them."""
    chance = Random(seed)
    log = generate_usual_log(chance)
    return sum(check_log(log, draw_interest(chance, log), seed) for _ in range(3))


def check_log(log: UsualLog, interest: Interest, seed: int) -> int:
    """Assert that each message of a log raises the alerts of the model for an interest, and return their number."""
    calendar, listener = Calendar(log.zone), ModelListener(log.zone, interest)
    traffic, told = NO_TRAFFIC, list[UUID]()
    for number, message in enumerate(log.messages, 1):
        after = fold_with_usual(traffic, message, calendar)
        alerts = list(compute_alerts(interest, traffic, after))
        traffic = after
        # The model need not hear what is told of the time before the interest is in effect.
        is_heard = number > len(log.past) or instant(message.end) >= interest.effective_from
        expected = listener.hear(log, number) if is_heard else set()
        assert {alert.alert_id for alert in alerts} == expected, (seed, number)
        assert len(alerts) == len(expected)
        told += [alert.alert_id for alert in alerts]
    outcome = {alert.alert_id for alert in compute_alerts(interest, NO_TRAFFIC, traffic)}
    assert outcome == listener.hear_late(), seed
    assert len(set(told)) == len(told), "no id comes twice"
    verdicts = list(judge_windows(interest, traffic))
    states = {(bound.value, str(state), v.start) for v in verdicts for bound in Bound if (state := v.state_of(bound))}
    assert states == listener.list_states(), seed
    return len(told)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_each_message_says_what_the_model_says(seed):
    """Of thresholds in percent, in flights, and of both measures together, under the ids of the model.

    Who comes after the last message gets what stands, and the explanation shows the same states.
    """
    check_statements(seed)


def test_the_logs_say_something():
    """Else the property would say little: of three interests in a log nine in ten say something, some of them much."""
    assert sum(map(check_statements, range(12))) > 80


@settings(max_examples=12, deadline=None)
@given(log=usual_logs, seed=st.integers(0, 2**32))
def test_the_index_finds_what_the_rule_says_of_each_interest(log, seed):
    """Whatever a message reaches, corrects or fills, the index finds it for each interest, in the rule's order."""
    chance = Random(seed)
    wanted = [replace(draw_interest(chance, log), interest_id=UUID(int=n)) for n in range(12)]
    thresholds, calendar = build_index(wanted), Calendar(log.zone)
    traffic = fold_all(log.past[:-1], calendar=calendar)
    for event in (*log.past[-1:], *log.present):
        after = fold_with_usual(traffic, event, calendar)
        found = find_alerts(thresholds, wanted, TrafficChange(traffic, after))
        for interest in wanted:
            own = [alert for alert in found if alert.interest_id == interest.interest_id]
            assert own == list(compute_alerts(interest, traffic, after))
        traffic = after
    at_once = find_alerts(thresholds, wanted, TrafficChange(NO_TRAFFIC, traffic))
    for interest in wanted:
        own = [alert for alert in at_once if alert.interest_id == interest.interest_id]
        assert own == list(compute_alerts(interest, NO_TRAFFIC, traffic))
