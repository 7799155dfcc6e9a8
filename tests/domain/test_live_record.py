"""Tests of what is remembered of positions, and of the alerts that only correct what was known from them."""

from dataclasses import replace
from random import Random

from hypothesis import given, settings, strategies as st

from domain.alerts import Alert, AlertState
from domain.changes import NO_TRAFFIC, TrafficChange
from domain.interest_alerts import build_alert, compute_alerts
from domain.interests import Direction, Interest
from domain.live_record import MAX_LIVE_STRETCHES, LiveRecord, Provenance, record_message
from domain.rule import find_first_window
from domain.threshold_index import ThresholdIndex
from domain.traffic import Coverage, Observation, Traffic
from domain.window_counts import WindowCounts
from domain.windows import HOUR_S, seconds
from tests.domain.corrected_logs import corrected_logs
from tests.domain.logs import BASE, an_interest, interests
from tests.domain.test_corrections import message

HOUR = BASE.replace(hour=1) - BASE


def live(begin: float, end: float, flights=(), coverage=Coverage.COMPLETE) -> Observation:
    """Return a message of departures from positions; all times are hours after BASE."""
    return replace(message(begin, end, flights, coverage=coverage), provenance=Provenance.LIVE)


def raise_alerts(interest: Interest, log: list[Observation]) -> list[Alert]:
    """Return the alerts of an interest that was set before the first message, as the stream builds them."""
    index, traffic, alerts = ThresholdIndex(), NO_TRAFFIC, []
    index.add(interest)
    for each in log:
        after = traffic.fold(each)
        change = TrafficChange(traffic, after, each.cause)
        alerts += [build_alert(interest, change, a.range_alert, a.threshold) for a in index.find_alerts(change)]
        traffic = after
    return alerts


def describe(alerts: list[Alert]) -> list[tuple[str, int, str, bool]]:
    """Return state, hour after BASE, where the cause comes from, and True if the alert only corrects."""
    return [(str(a.state), (a.window_start - BASE) // HOUR, str(a.provenance), a.corrects) for a in alerts]


def test_what_the_record_changes_of_hours_that_positions_covered_is_a_correction():
    """A level that positions missed, and one that they saw wrongly: both are told as corrections."""
    log = [live(0, 1, (0.1, 0.2, 0.3)), live(1, 2, (1.1,)), message(0, 2, (1.2, 1.3), (0.2,))]
    assert describe(raise_alerts(an_interest(), log)) == [
        ("FIRING", 0, "live", False),
        ("RESOLVED", 1, "live", False),
        ("WITHDRAWN", 0, "settled", True),
        ("WITHDRAWN", 1, "settled", True),
        ("FIRING", 1, "settled", True),
    ]


def test_what_the_record_says_of_hours_that_nobody_knew_is_a_first_statement():
    """Positions broke off at 01:00: the hours after it are known by the record, and told at once."""
    log = [live(0, 1, (0.1,)), message(0, 3, (0.2, 0.3, 1.1, 1.2, 1.3, 2.1))]
    assert describe(raise_alerts(an_interest(), log)) == [
        ("FIRING", 0, "settled", True),
        ("RESOLVED", 2, "settled", False),
    ]


def test_an_early_high_of_an_hour_that_positions_never_covered_is_withdrawn_as_a_correction():
    """What was said from positions is taken back in the mail of corrections, also where they covered nothing."""
    log = [message(0, 1), live(1, 1.5, (1.1, 1.2, 1.3), Coverage.PARTIAL), message(1, 2, (), (1.1, 1.2, 1.3))]
    assert describe(raise_alerts(an_interest(), log)) == [
        ("FIRING", 1, "live", False),
        ("WITHDRAWN", 1, "settled", True),
    ]


def test_what_a_poll_of_today_finds_is_no_word_of_the_record():
    """The source gives departures of today before their day's record: told at once, and not as the record has it."""
    today = message(0, 3, (1.1, 1.2, 1.3), coverage=Coverage.PARTIAL)
    log = [live(0, 1), live(1, 2), live(2, 3), today]
    assert describe(raise_alerts(an_interest(), log)) == [
        ("FIRING", 1, "recent", False),
        ("RESOLVED", 2, "recent", False),
    ]
    part = replace(today, is_record_part=True)
    assert describe(raise_alerts(an_interest(), [*log[:3], part])) == [
        ("FIRING", 1, "settled", True),
        ("RESOLVED", 2, "settled", True),
    ]


def test_what_a_poll_of_today_disproves_is_taken_back_at_once():
    """A low that was said live, and that a departure of today's poll makes untrue, does not wait for the night."""
    log = [live(0, 1, (0.1, 0.2, 0.3)), live(1, 2), message(0, 2, (1.5, 1.6, 1.7), coverage=Coverage.PARTIAL)]
    interest = replace(an_interest(), high=None, low=2)
    assert describe(raise_alerts(interest, log)) == [
        ("FIRING", 1, "live", False),
        ("WITHDRAWN", 1, "recent", False),
    ]


def test_an_interest_that_is_set_is_not_told_that_a_poll_of_today_was_the_record():
    """A high of an hour of which no record is there yet is from the flights so far."""
    traffic = NO_TRAFFIC
    for each in (message(0, 1), message(1, 2, (1.1, 1.2, 1.3), coverage=Coverage.PARTIAL)):
        traffic = traffic.fold(each)
    assert describe(list(compute_alerts(an_interest(), NO_TRAFFIC, traffic))) == [("FIRING", 1, "recent", False)]


def test_a_late_flight_of_hours_before_positions_came_is_no_correction():
    """Hours that the record alone covered are told at once, as ever, also once the airport has become live."""
    log = [message(0, 2, (0.1, 0.2)), live(2, 3), message(1, 2, (0.3,), ()), message(1, 2, (), (0.3,))]
    assert describe(raise_alerts(an_interest(), log)) == [
        ("FIRING", 0, "settled", False),
        ("RESOLVED", 1, "settled", False),
        ("WITHDRAWN", 0, "settled", False),
    ]


def test_an_interest_that_is_set_is_told_where_its_window_is_known_from():
    """Nothing that it is told first is a correction."""
    traffic = NO_TRAFFIC
    for each in (live(0, 1, (0.1, 0.2, 0.3)), message(0, 1), live(1, 2), live(2, 3, (2.1, 2.2, 2.3))):
        traffic = traffic.fold(each)
    assert describe(list(compute_alerts(an_interest(), NO_TRAFFIC, traffic))) == [
        ("FIRING", 0, "settled", False),
        ("RESOLVED", 1, "live", False),
        ("FIRING", 2, "live", False),
    ]


def test_an_alert_says_which_windows_are_known_from_positions_alone():
    """Its own and those before it; a night later the same hours are the record's, and of an hour half of it may be."""
    log = [live(0, 1, (0.1,)), live(1, 2, (1.1,)), message(0, 1, (0.2,)), live(2, 3, (2.1, 2.2, 2.3))]
    (alert,) = [each for each in raise_alerts(an_interest(high=2), log) if each.state is AlertState.FIRING]
    assert alert.earlier == (2, 1)
    assert alert.live_windows == 0b011  # the hour itself, and the one before it
    settled = [message(0, 2, (0.1, 1.1)), message(2, 3, (2.1, 2.2, 2.3))]
    (alert,) = [each for each in raise_alerts(an_interest(high=2), settled) if each.state is AlertState.FIRING]
    assert alert.live_windows == 0


@settings(max_examples=100)
@given(corrected_logs, st.integers(0, 999), interests)
def test_the_live_windows_of_an_alert_are_those_that_the_record_has_not_covered(log, seed, interest):
    """Of each window that an alert names, by what the messages until then covered, second by second in quarters."""
    told = draw_provenances(log, seed)
    traffic = NO_TRAFFIC
    for number, each in enumerate(told):
        after = traffic.fold(each)
        for alert in compute_alerts(interest, traffic, after):
            for back in range(len(alert.earlier) + 1):
                begin = seconds(alert.find_earlier_start(back))
                end = seconds(alert.find_earlier_start(back - 1)) if back else seconds(alert.window_end)
                parts = [after.select_directions(part)[0] for part in interest.direction.parts]
                expected = any(part.live is not None and part.live.is_unsettled(begin, end) for part in parts)
                assert bool(alert.live_windows >> back & 1) is expected, (number, back)
            assert alert.live_windows < 2 << len(alert.earlier)
        traffic = after


def test_many_outages_take_no_more_than_their_share_of_the_state():
    """Stretches without a whole hour are forgotten at once, and the oldest of many."""
    record = None
    for number in range(1_000):
        begin = number * 2 * HOUR_S
        record = record_message(record, Provenance.LIVE, begin, begin + HOUR_S, True, None)
    assert record is not None
    assert len(record.covered) == MAX_LIVE_STRETCHES
    for number in range(1_000):
        begin = (3_000 + number) * HOUR_S + 60
        record = record_message(record, Provenance.LIVE, begin, begin + HOUR_S - 120, True, None)
    assert record is not None
    assert len(record.covered) <= MAX_LIVE_STRETCHES
    assert not record.has_covered(3_000 * HOUR_S, 3_001 * HOUR_S)


stretches = st.tuples(st.integers(0, 60), st.integers(1, 12), st.booleans(), st.booleans())


@given(messages=st.lists(stretches, max_size=20), first=st.integers(0, 70), length=st.integers(1, 3))
def test_an_hour_is_covered_live_if_messages_from_positions_cover_each_of_its_parts(messages, first, length):
    """Compared with a set of all quarters of an hour; windows are whole hours."""
    record, quarters = None, set[int]()
    for begin, more, is_live, is_complete in messages:
        provenance = Provenance.LIVE if is_live else Provenance.SETTLED
        record = record_message(record, provenance, begin * 900, (begin + more) * 900, is_complete, None)
        if is_live and is_complete:
            quarters.update(range(begin, begin + more))
    expected = set(range(first * 4, (first + length) * 4)) <= quarters
    assert (record or LiveRecord(0, 0)).has_covered(first * HOUR_S, (first + length) * HOUR_S) is expected


@given(
    messages=st.lists(stretches, max_size=20),
    watermark=st.none() | st.integers(0, 30),
    first=st.integers(0, 70),
    length=st.integers(1, 24),
)
def test_a_window_is_unsettled_until_the_record_has_covered_all_of_it(messages, watermark, first, length):
    """Also when the record goes on behind a day that it never gives, and in any order of messages.

    Compared with sets of quarters of an hour. Before the first message from positions all is known from the record.
    """
    record, settled, told = None, set(range(watermark or 0)), set[int]()
    for begin, more, is_live, is_complete in messages:
        provenance = Provenance.LIVE if is_live else Provenance.SETTLED
        known_until = None if watermark is None else watermark * 900
        record = record_message(record, provenance, begin * 900, (begin + more) * 900, is_complete, known_until)
        if is_live:
            told = set(range(min({begin} | told), max({begin + more - 1} | told) + 1))
        elif is_complete and told:
            settled.update(range(begin, begin + more))
    window = set(range(first, first + length))
    expected = bool(told & window) and not window <= settled
    assert (record or LiveRecord(0, 0)).is_unsettled(first * 900, (first + length) * 900) is expected


def draw_provenances(log: list[Observation], seed: int) -> list[Observation]:
    """Return the log with some of its messages from positions: those retract nothing."""
    chance = Random(seed)
    return [
        each if each.retracted or chance.random() < 0.4 else replace(each, provenance=Provenance.LIVE) for each in log
    ]


@settings(max_examples=150, deadline=None)
@given(log=corrected_logs, interest=interests)
def test_an_airport_that_is_settled_alone_has_no_corrections_and_nothing_to_remember(log, interest):
    """Installations without positions see no change: neither in what is told, nor in what is stored."""
    alerts = raise_alerts(interest, log)
    assert not any(alert.corrects for alert in alerts)
    assert {alert.provenance for alert in alerts} <= {Provenance.SETTLED, Provenance.RECENT}
    traffic = fold(log)
    assert traffic.arrivals.live is None
    assert traffic.departures.live is None


@settings(max_examples=300, deadline=None)
@given(log=corrected_logs, seed=st.integers(0, 2**32), interest=interests)
def test_a_correction_is_what_the_record_says_anew_of_windows_that_positions_covered(log, seed, interest):
    """Provenance changes three fields of an alert and nothing else; they follow from the log, as ADR 43 says."""
    told = draw_provenances(log, seed)
    index, traffic, before_log = ThresholdIndex(), NO_TRAFFIC, list[Observation]()
    index.add(interest)
    plain = [without_provenance(alert) for alert in raise_alerts(interest, log)]
    found = []
    for each in told:
        after = traffic.fold(each)
        change = TrafficChange(traffic, after, each.cause)
        for short in index.find_alerts(change):
            alert = build_alert(interest, change, short.range_alert, short.threshold)
            assert alert.provenance is each.cause
            assert alert.corrects is (alert.count_before is not None)
            assert alert.corrects is is_correction(alert, interest, before_log, each, traffic, after)
            found.append(without_provenance(alert))
        traffic = after
        before_log.append(each)
    assert found == plain


def without_provenance(alert: Alert) -> Alert:
    """Return the alert as it would be if nobody knew where its cause comes from."""
    return replace(alert, provenance=None, corrects=False, count_before=None, live_windows=0)


def fold(log: list[Observation]) -> Traffic:
    """Return the traffic after a log."""
    traffic = NO_TRAFFIC
    for each in log:
        traffic = traffic.fold(each)
    return traffic


def is_correction(
    alert: Alert, interest: Interest, log: list[Observation], cause: Observation, before: Traffic, after: Traffic
) -> bool:
    """Return True if the alert that `cause` raises after `log` corrects what was live, by the definition alone."""
    if cause.cause is not Provenance.SETTLED:
        return False
    begin = seconds(alert.window_start)
    end = begin + alert.window.hours * HOUR_S
    of_direction = [each for each in log if each.direction in interest.direction.parts]
    lives = [each for each in of_direction if each.provenance is Provenance.LIVE]
    if alert.state is AlertState.WITHDRAWN:
        return any(
            min(each.begin for each in part) < end and begin < max(each.end for each in part)
            for direction in (Direction.ARRIVALS, Direction.DEPARTURES)
            if (part := [each for each in lives if each.direction is direction])
        )
    if not any(_cover(lives, direction, begin, end) for direction in interest.direction.parts):
        return False
    counts = [WindowCounts(each, interest.direction, interest.window) for each in (before, after)]
    number = begin // (alert.window.hours * HOUR_S)
    first = find_first_window(interest)
    concerned = [each for each in range(number - interest.for_windows, number) if each >= first]
    was_known = counts[0][number].is_closed
    return was_known and not any(counts[1][each].is_closed and not counts[0][each].is_closed for each in concerned)


def _cover(log: list[Observation], direction: Direction, begin: int, end: int) -> bool:
    """Return True if complete messages of the direction cover each half hour of [begin, end)."""
    complete = [each for each in log if each.coverage is Coverage.COMPLETE and each.direction is direction]
    halves = {at for each in complete for at in range(each.begin, each.end, HOUR_S // 2)}
    return set(range(begin, end, HOUR_S // 2)) <= halves
