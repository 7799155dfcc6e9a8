"""Whether a live run was right: what must be in force after the night, and what no mail may have said. Pure.

After the night's record the flights in force are those of the timetable. A flight that was told live keeps the event
time that was told first (docs/adr/0042), which may be some seconds off; so the alerts that must be in force are
those of the timetable with each flight at the time that was told.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import comb
from typing import Final, NamedTuple

from collector.settled.agreement import LEAST_RECALL_PERCENT
from collector.settled.reconciliation import MATCHED_WITHIN
from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction, Interest
from domain.rule import find_interest_grid
from domain.windows import Window, instant, seconds
from local.demo.expected import ExpectedCoverage, build_percent_truth, compute_expected_alerts
from local.demo.live_log import Movement, Target
from local.demo.plan import DAY
from local.opensky.flights import Timetable, TimetableFlight
from notifier.mail.alert_header import AlertHeaderFields, select_header_fields

_STATED_ERROR: Final = 1 - LEAST_RECALL_PERCENT / 100
"""Share of the movements that live may miss: an airport of which it misses more is not covered live (docs/adr/0042)."""
_CHANCE: Final = 1e-4
"""A count is wrong by more than that error if chance alone makes it so wrong less often than this."""
_EDGE: Final = timedelta(seconds=90)
"""A movement so near a window's edge may be told in the window next to it: the time of one is an estimate."""


class Statement(NamedTuple):
    """The subject of an alert: a window of an interest, and its breach or the end of one."""

    airport: str
    direction: Direction
    window: Window
    bound: Bound
    window_start: datetime
    is_about_end: bool


def find_statements_in_force(alerts: Iterable[Alert]) -> dict[Statement, Alert]:
    """Return what was said and not withdrawn since, of alerts in the order in which they were raised."""
    in_force: dict[Statement, Alert] = {}
    for alert in alerts:
        statement = name_statement(alert)
        if alert.state is AlertState.WITHDRAWN:
            in_force.pop(statement, None)
        else:
            in_force[statement] = alert
    return in_force


def name_statement(alert: Alert) -> Statement:
    """Return what an alert speaks of; of a withdrawal, what it withdraws."""
    return Statement(alert.airport, alert.direction, alert.window, alert.bound, alert.window_start, alert.is_about_end)


def find_told(mailed: Iterable[AlertHeaderFields]) -> set[Statement]:
    """Return what a person was told and not told back since, by mails in the order of their delivery."""
    told: set[Statement] = set()
    for each in mailed:
        statement = name_mailed_statement(each)
        if each.state is AlertState.WITHDRAWN:
            told.discard(statement)
        else:
            told.add(statement)
    return told


def name_mailed_statement(alert: AlertHeaderFields) -> Statement:
    """Return what a mailed alert speaks of. A withdrawal of a breach's end says that the window is in breach."""
    is_about_end = alert.state is AlertState.RESOLVED
    if alert.state is AlertState.WITHDRAWN:
        is_about_end = alert.bound.is_breached(alert.count, alert.threshold)
    return Statement(alert.airport, alert.direction, alert.window, alert.bound, alert.window_start, is_about_end)


def find_untold(alerts: Iterable[Alert], mailed: Sequence[AlertHeaderFields]) -> list[Statement]:
    """Return the statements that a person does not know of: of an alert without a mail, or in force and not told.

    Corrections by the night's record come in one mail that lists what remains of them: there only what is in force, and
    what is not any more, must have been told.
    """
    raised = list(alerts)
    missing = Counter(select_header_fields(each) for each in raised if not each.corrects) - Counter(mailed)
    in_force, told = set(find_statements_in_force(raised)), find_told(mailed)
    said = {name_statement(each) for each in raised}
    return [*map(name_mailed_statement, missing), *sorted(in_force - told), *sorted((told & said) - in_force)]


@dataclass(frozen=True, slots=True)
class FlightDifference:
    """The flights by which those in force differ from the timetable's."""

    missing: tuple[tuple[Target, Movement], ...]
    """In the timetable, and not in force."""
    extra: tuple[tuple[Target, Movement], ...]
    """In force, and not in the timetable."""
    told_at: Mapping[tuple[Target, Movement], int]
    """By the flights of the timetable: the time at which they are in force."""


def compare_flights(
    timetable: Timetable,
    in_force: Mapping[Target, frozenset[Movement]],
    coverage: Mapping[Target, ExpectedCoverage],
    end: datetime,
) -> FlightDifference:
    """Compare the flights in force with the timetable's, where the night's record has decided which there are.

    A flight in force is the timetable's if it is of the same aircraft and at most 20 minutes off, one to one. `end`:
    the end of the last recorded day. So near the begin and the end, and near a day without a record, either may lack.
    """
    missing: list[tuple[Target, Movement]] = []
    extra: list[tuple[Target, Movement]] = []
    told_at: dict[tuple[Target, Movement], int] = {}
    for target, covered in coverage.items():
        wide_begin, wide_end = covered.begin - DAY, end + DAY
        there: defaultdict[str, list[int]] = defaultdict(list)
        for icao24, time in list_movements(timetable, target, wide_begin, wide_end):
            there[icao24].append(time)
        told: defaultdict[str, list[int]] = defaultdict(list)
        for icao24, time in in_force.get(target, ()):
            told[icao24].append(time)
        for icao24 in there.keys() | told.keys():
            pairs = _pair_times(sorted(there[icao24]), sorted(told[icao24]))
            for true, said in pairs:
                if true is not None and said is not None:
                    told_at[target, (icao24, true)] = said
                elif true is not None and _is_decided(true, covered, end, margin=timedelta(0)):
                    missing.append((target, (icao24, true)))
                elif said is not None and _is_decided(said, covered, end, margin=MATCHED_WITHIN):
                    extra.append((target, (icao24, said)))
    return FlightDifference(tuple(sorted(missing)), tuple(sorted(extra)), told_at)


def _pair_times(true: Sequence[int], said: Sequence[int]) -> list[tuple[int | None, int | None]]:
    """Return the times of one aircraft's flights in pairs, at most 20 minutes apart; what has no partner, with None."""
    pairs: list[tuple[int | None, int | None]] = []
    i = j = 0
    while i < len(true) or j < len(said):
        if i < len(true) and j < len(said) and abs(true[i] - said[j]) <= MATCHED_WITHIN.total_seconds():
            pairs.append((true[i], said[j]))
            i, j = i + 1, j + 1
        elif j == len(said) or (i < len(true) and true[i] < said[j]):
            pairs.append((true[i], None))
            i += 1
        else:
            pairs.append((None, said[j]))
            j += 1
    return pairs


def _is_decided(time: int, covered: ExpectedCoverage, end: datetime, margin: timedelta) -> bool:
    """Return True if the record has decided about a time, also if it is off by the margin; False if not."""
    return all(
        covered.begin <= moment < end and not any(day <= moment < day + DAY for day in covered.missing_days)
        for moment in (instant(time) - margin, instant(time) + margin)
    )


def list_movements(timetable: Timetable, target: Target, begin: datetime, end: datetime) -> list[Movement]:
    """Return the timetable's movements of an airport and direction in [begin, end), in order."""
    airport, direction = target
    first, last = seconds(begin), seconds(end) - 1
    if direction is Direction.DEPARTURES:
        return [(each.icao24, each.first_seen) for each in timetable.find_departures(airport, first, last)]
    return [(each.icao24, each.last_seen) for each in timetable.find_arrivals(airport, first, last)]


def count_movements(timetable: Timetable, interest: Interest, begin: datetime, end: datetime) -> list[int]:
    """Return the times of the timetable's movements of an interest in [begin, end), in order."""
    return sorted(
        time
        for part in interest.direction.parts
        for _, time in list_movements(timetable, (interest.airport, part), begin, end)
    )


def select_timetable(timetable: Timetable, targets: Iterable[Target], begin: datetime, end: datetime) -> Timetable:
    """Return a timetable with the movements of some airports in [begin, end) alone, which is small."""
    first, last = seconds(begin), seconds(end) - 1
    flights: set[TimetableFlight] = set()
    for airport, direction in targets:
        find = timetable.find_departures if direction is Direction.DEPARTURES else timetable.find_arrivals
        flights.update(find(airport, first, last))
    return Timetable(flights)


def move_flights(
    timetable: Timetable, told_at: Mapping[tuple[Target, Movement], int], begin: datetime, end: datetime
) -> Timetable:
    """Return the timetable with each flight at the times that were told; `begin`, `end`: those of the timetable."""
    moved = []
    for flight in timetable.find_overlapping(seconds(begin), seconds(end)):
        departs = (flight.departure_airport or "", Direction.DEPARTURES), (flight.icao24, flight.first_seen)
        arrives = (flight.arrival_airport or "", Direction.ARRIVALS), (flight.icao24, flight.last_seen)
        first, last = told_at.get(departs, flight.first_seen), told_at.get(arrives, flight.last_seen)
        moved.append(flight._replace(first_seen=first, last_seen=last))
    return Timetable(moved)


@dataclass(frozen=True, slots=True)
class StatementDifference:
    """The statements by which those in force differ from what must be in force."""

    expected: tuple[Statement, ...]
    """What must be in force: what the rule says of the timetable."""
    missing: tuple[Statement, ...]
    """Those of them that are not in force."""
    wrong: tuple[Statement, ...]
    """In force, and not so by the timetable: no breach in that window, or no end of one."""


def compare_statements(
    timetable: Timetable,
    interest: Interest,
    in_force: Iterable[Statement],
    coverage: ExpectedCoverage,
    end: datetime,
) -> StatementDifference:
    """Compare the statements in force about one interest with the rule's, about windows that the record has decided.

    `timetable`: with the flights at the times that were published. Where a day has no record, thresholds in percent are
    not compared: what is usual a week later depends on what was found live of that day. A statement in force that does
    not follow from the record alone is right if its window is a breach, or none, as it says: live may have reported a
    lasting breach in a later window than the rule, after a gap.
    """
    mine = {each for each in in_force if each[:3] == (interest.airport, interest.direction, interest.window)}
    expected = {
        Statement(interest.airport, interest.direction, interest.window, each.bound, each.window_start,
                  each.state is AlertState.RESOLVED)
        for each in compute_expected_alerts(timetable, interest, end, coverage)
    }  # fmt: skip
    breaches = {
        (each.bound, each.window_start)
        for each in compute_expected_alerts(timetable, replace(interest, repeat=True), end, coverage)
        if each.state.is_breach
    }
    decided = {
        each
        for each in mine | expected
        if is_window_decided(interest, each.window_start, coverage, end)
        and not (is_in_percent(interest, each.bound) and coverage.missing_days)
    }
    return StatementDifference(
        tuple(sorted(expected & decided)),
        tuple(sorted((expected - mine) & decided)),
        tuple(sorted(
            each for each in mine & decided if each.is_about_end is ((each.bound, each.window_start) in breaches)
        )),
    )  # fmt: skip


def is_window_decided(interest: Interest, start: datetime, coverage: ExpectedCoverage, end: datetime) -> bool:
    """Return True if the record covers a window and the windows before it on which its state depends, else False.

    These are the `for_windows` windows before it, from `effective_from` on. False also if a day of them is missing, if
    the window ends after `end`, or if it starts before `effective_from`.
    """
    window_end = find_window_edge(interest, start, 1)
    first = max(find_window_edge(interest, start, -interest.for_windows), interest.effective_from)
    if start < interest.effective_from or first < coverage.begin or window_end > end:
        return False
    return not any(first < day + DAY and day < window_end for day in coverage.missing_days)


def find_window_edge(interest: Interest, start: datetime, windows: int) -> datetime:
    """Return the start of the window that is `windows` windows after (below 0: before) the one that starts at `start`.

    With 1 that is the window's end.
    """
    grid = find_interest_grid(interest)
    return instant(grid.find_begin(grid.find_number(seconds(start)) + windows))


def is_in_percent(interest: Interest, bound: Bound) -> bool:
    """Return True if the interest's threshold of a bound is in percent of what is usual, False if not."""
    return (interest.high_percent if bound is Bound.HIGH else interest.low_percent) is not None


def is_contradicted(timetable: Timetable, interest: Interest, alert: Alert) -> bool:
    """Return True if an alert says of a window that it has few movements, and the truth is that it has clearly more.

    Clearly: so many are missing that chance makes it so once in ten thousand, if live misses one movement in five (what
    it may miss). Movements at the window's edges do not count. An alert of another kind is never contradicted.
    """
    if alert.bound is not Bound.LOW or not alert.state.is_breach:
        return False
    begin, end = alert.window_start + _EDGE, alert.window_end - _EDGE
    true = len(count_movements(timetable, interest, begin, end))
    missed = true - alert.count
    return true >= alert.threshold and missed > 0 and compute_tail(true, missed, _STATED_ERROR) < _CHANCE


def compute_tail(number: int, least: int, chance: float) -> float:
    """Return the probability that of so many events, each with that chance, at least `least` occur."""
    return sum(comb(number, k) * chance**k * (1 - chance) ** (number - k) for k in range(least, number + 1))


def find_knowable(
    timetable: Timetable,
    interest: Interest,
    statement: Statement,
    delay: timedelta,
    coverage: ExpectedCoverage | None = None,
) -> datetime | None:
    """Return when a statement could be known from positions; None if the truth does not make it.

    `delay`: how long after a window's end it is known that no movement of it is missing. A high is known with the
    movement that passes it, if the window before is known then. All else is known when the window is. `coverage`: what
    is covered of the airport, for thresholds in percent.
    """
    start, end = statement.window_start, find_window_edge(interest, statement.window_start, 1)
    if statement.bound is not Bound.HIGH or statement.is_about_end:
        return end + delay
    times = count_movements(timetable, interest, start, end)
    high = interest.high
    if interest.high_percent is not None:
        truth = build_percent_truth(timetable, interest, end, coverage or ExpectedCoverage(interest.effective_from))
        usual = truth.compute_usual(start)
        high = None if usual is None else truth.compute_threshold(Bound.HIGH, interest.high_percent, usual)
    if high is None or len(times) <= high:
        return None
    passed = instant(times[high])
    is_reached_first = start > interest.effective_from or interest.high_percent is not None
    return max(passed, start + delay) if is_reached_first else passed
