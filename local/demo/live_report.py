"""The verdict about a live run, and the report of it: how much was seen live, how soon, and what was wrong."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Final

from collector.live.feed_state import build_rules
from collector.live.opensky_feeds import OpenSkyFeed
from domain.alerts import Alert, AlertState, Bound
from domain.interests import Interest
from local.demo.expected import ExpectedCoverage, compute_expected_coverage
from local.demo.judgement import (
    Statement,
    compare_flights,
    compare_statements,
    find_knowable,
    find_statements_in_force,
    find_untold,
    find_window_edge,
    is_contradicted,
    move_flights,
    name_mailed_statement,
    name_statement,
    select_timetable,
)
from local.demo.live_log import LiveLog, RaisedAlerts, Target
from local.demo.plan import DAY, LEARNED_FROM, DemoPlan
from local.demo.screen import Screen
from local.opensky.flights import Timetable
from notifier.mail.alert_header import AlertHeaderFields, select_header_fields

IN_TIME: Final = timedelta(minutes=10)
"""Time after an alert could be known within which it shall be mailed."""
_SHOWN: Final = 20
"""Differences of one kind that are printed."""


@dataclass(frozen=True, slots=True)
class DeliveredAlert:
    """An alert in a mail, and when the mail was delivered, by the stack's clock."""

    alert: AlertHeaderFields
    at: datetime


@dataclass(frozen=True, slots=True)
class LiveRun:
    """The messages that a live run has published, and its mails."""

    settled: LiveLog
    """The log once the night's record of all days was in it."""
    last: LiveLog
    """The log after the last mail that is counted."""
    raised: RaisedAlerts
    delivered: Sequence[DeliveredAlert]


@dataclass(frozen=True, slots=True)
class LiveVerdict:
    """The figures of a live run, and what was wrong with it."""

    live_share: float
    """Share of the time that was covered live, from 0 to 1."""
    expected: int
    """Number of the statements that must be in force."""
    delays: tuple[timedelta, ...]
    """Of each of them that was mailed before the record of its day appeared: the time since it could be known."""
    withdrawn: int
    """Number of alerts that were withdrawn."""
    lows: int
    """Number of alerts that said that there were few movements."""
    flights: int
    """Number of flights in force, of the scenario's days."""
    moved: int
    """Number of these whose time was told live in another hour than the record has."""
    faults: tuple[str, ...]
    """What was wrong, in sentences; empty: nothing."""


class LiveTruth:
    """The timetable's part that a live run is about, and what must be known of it after the night."""

    def __init__(self, timetable: Timetable, interests: Sequence[Interest], plan: DemoPlan) -> None:
        self.plan = plan
        self.interests = interests
        self.targets: list[Target] = sorted(
            {(each.airport, part) for each in interests for part in each.direction.parts}
        )
        before = LEARNED_FROM if plan.is_learning else DAY
        self._begin, self._end = plan.first_day - before, plan.end + 2 * DAY
        self._timetable = select_timetable(timetable, self.targets, self._begin, self._end)
        self.coverage = {
            airport: covered
            for airport, covered in compute_expected_coverage(timetable, interests, plan).items()
            if covered is not None
        }

    def judge(self, run: LiveRun) -> LiveVerdict:
        """Return the verdict about a run."""
        faults = [*_find_unmailed(run)]
        if not run.raised.are_all_there:
            faults.append(f"the alerts raised are not those that follow from the log: {run.raised}")
        end = self.plan.covered_until
        coverage: dict[Target, ExpectedCoverage] = {
            target: self.coverage[target[0]] for target in self.targets if target[0] in self.coverage
        }
        flights = compare_flights(self._timetable, run.settled.flights, coverage, end)
        faults += [f"a flight of the record is not in force: {each}" for each in flights.missing]
        faults += [f"a flight in force is not in the record: {each}" for each in flights.extra]
        told = move_flights(self._timetable, flights.told_at, self._begin, self._end)
        in_force = find_statements_in_force(run.settled.alerts)
        expected: list[tuple[Interest, Statement]] = []
        for interest in self.interests:
            if interest.airport not in self.coverage:
                continue
            found = compare_statements(told, interest, in_force, self.coverage[interest.airport], end)
            expected += [(interest, each) for each in found.expected]
            faults += [f"not said, or withdrawn: {describe_statement(each)}" for each in found.missing]
            faults += [f"in force, and not so: {describe_statement(each)}" for each in found.wrong]
        faults += self._find_contradicted(run.last.alerts)
        return LiveVerdict(
            live_share=run.settled.measure_live_share(self.targets, self.plan.begin, end),
            expected=len(expected),
            delays=tuple(self._list_delays(run.delivered, expected)),
            withdrawn=sum(each.state is AlertState.WITHDRAWN for each in run.settled.alerts),
            lows=sum(each.bound is Bound.LOW and each.state.is_breach for each in run.settled.alerts),
            flights=len(flights.told_at),
            moved=sum(said // 3_600 != true // 3_600 for (_, (_, true)), said in flights.told_at.items()),
            faults=tuple(faults),
        )

    def _find_contradicted(self, alerts: Iterable[Alert]) -> list[str]:
        """Return a sentence for each alert, withdrawn or not, that the truth contradicts beyond the stated error."""
        by_kind = {(each.airport, each.direction, each.window): each for each in self.interests}
        return [
            f"the truth contradicts, beyond the stated error: {describe_statement(name_statement(each))}, {each.count}"
            for each in alerts
            if (interest := by_kind.get((each.airport, each.direction, each.window))) is not None
            and is_contradicted(self._timetable, interest, each)
        ]

    def _list_delays(
        self, delivered: Iterable[DeliveredAlert], expected: Iterable[tuple[Interest, Statement]]
    ) -> list[timedelta]:
        """Return of each expected statement that was mailed live how long after it could be known that was."""
        mailed_at: dict[Statement, datetime] = {}
        for each in delivered:
            alert = each.alert
            if alert.state is not AlertState.WITHDRAWN:
                mailed_at.setdefault(name_mailed_statement(alert), each.at)
        delays = []
        turn_up_s = max(build_rules(OpenSkyFeed.longest_interval_s).turn_up_s.values())
        for interest, statement in expected:
            at = mailed_at.get(statement)
            knowable = find_knowable(
                self._timetable, interest, statement, timedelta(seconds=turn_up_s), self.coverage[interest.airport]
            )
            if at is not None and knowable is not None and at < self._find_record(interest, statement):
                delays.append(max(at - knowable, timedelta(0)))
        return delays

    def _find_record(self, interest: Interest, statement: Statement) -> datetime:
        """Return when the record appears that has a window's last flights; the clock's stop if it never does."""
        day = (find_window_edge(interest, statement.window_start, 1) - timedelta(seconds=1)).date()
        appears = self.plan.schedule.find_completion_time(day)
        return self.plan.stop if appears is None else datetime.fromtimestamp(appears, self.plan.stop.tzinfo)


def _find_unmailed(run: LiveRun) -> list[str]:
    """Return a sentence for each statement that no mail told, and for each mail without an alert that was raised."""
    mailed = [each.alert for each in run.delivered]
    unexplained = Counter(mailed) - Counter(map(select_header_fields, run.last.alerts))
    return [
        *(f"raised, and not mailed: {describe_statement(each)}" for each in find_untold(run.settled.alerts, mailed)),
        *(f"mailed, and never raised, or twice: {each}" for each in unexplained),
    ]


def describe_statement(statement: Statement) -> str:
    """Return a statement in words."""
    what = "back to normal" if statement.is_about_end else f"{statement.bound} breached"
    return (
        f"{statement.airport} {statement.direction} in {statement.window}, {what}, {statement.window_start:%d %b %H:%M}"
    )


def print_live_report(screen: Screen, verdict: LiveVerdict, log: LiveLog, latency: str) -> None:
    """Print the figures of a live run, and what was wrong. `latency`: from flight event to mail, in real seconds."""
    rows = [
        ("seen live", f"{verdict.live_share:.0%} of the time; the night's record has filled the rest"),
        ("flights", f"{verdict.flights:,}; {log.retracted:,} were told live and taken back"),
        ("alerts", f"{len(log.alerts):,}, of them {verdict.withdrawn:,} withdrawals"),
        ("true after the night", f"{verdict.expected:,} by the timetable: alerts that last, and ends of alerts"),
        ("of these mailed live", _describe_delays(verdict)),
        ("told of few movements", f"{verdict.lows:,} times"),
        ("from flight event to delivered mail", latency),
    ]
    screen.print_table(rows)
    for fault in verdict.faults[:_SHOWN]:
        screen.print_line(f"  {fault}")
    if len(verdict.faults) > _SHOWN:
        screen.print_line(f"  and {len(verdict.faults) - _SHOWN} more of these")
    if not verdict.faults:
        screen.print_line("  every alert in force is the timetable's, and no mail said more than positions can show")


def _describe_delays(verdict: LiveVerdict) -> str:
    """Return how many alerts came live, and how long after they could be known."""
    if not verdict.delays:
        return "none"
    minutes = [each / timedelta(minutes=1) for each in verdict.delays]
    in_time = sum(each <= IN_TIME for each in verdict.delays)
    return (
        f"{len(minutes):,}; {in_time:,} within {IN_TIME // timedelta(minutes=1)} minutes of the clock after they could "
        f"be known, median {median(minutes):.1f}, worst {max(minutes):.1f}"
    )
