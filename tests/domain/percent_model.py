"""A slow and plain model of thresholds in percent of the usual (`docs/design.md`), beside that of flights.

It shares no code with the rule: it has the whole log, what is usual in each window (`ModelUsual`), and judges each
window alone, by fractions.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from uuid import UUID

from domain.interests import Interest
from domain.traffic import Observation
from domain.windows import AlignedTo
from tests.domain.brute_force import (
    LENGTHS,
    UNDECIDED,
    UNJUDGED,
    Log,
    ModelAlert,
    ModelInterest,
    ModelTeller,
    judge_model_windows,
)
from tests.domain.corrected_logs import compute_statement_id
from tests.domain.filled_logs import build_filled_log
from tests.domain.usual_logs import ModelUsual, UsualLog

REACH = timedelta(days=31)
"""Time before a window in which the windows before it are searched for: as many as it has where no clock changes."""


@dataclass
class _Windows:
    """The windows of one interest that were reached, with what is known of them."""

    logs: list[Log]
    usual: Mapping[datetime, float | None]
    ends: Mapping[datetime, datetime]
    flights: list[datetime]
    """Those of all directions, in order."""
    places: Mapping[datetime, int]
    """The windows' places in their order."""
    reach: int
    """Number of windows before a window in which the windows before it are searched for."""

    def count(self, start: datetime) -> int:
        """Return the flights that are known in the window."""
        return bisect_left(self.flights, self.ends[start]) - bisect_left(self.flights, start)

    def is_known(self, start: datetime | None, of: datetime) -> bool:
        """Return True if the window can be compared with the window `of`: it has a usual and is covered without a gap.

        False also if it is None, or too far before `of`.
        """
        if start is None or self.places[of] - self.places[start] > self.reach or self.usual[start] is None:
            return False
        return all(
            start >= log.covered[0]
            and not log.has_history_in(start, self.ends[start])
            and not any(begin < self.ends[start] and end > start for begin, end in log.gaps)
            for log in self.logs
        )

    def is_closed(self, start: datetime) -> bool:
        """Return True if the coverage of all directions has reached the window's end."""
        return all(log.covered[1] >= self.ends[start] for log in self.logs)

    def compute_percent(self, start: datetime) -> Fraction:
        """Return the window's flights in percent of what is usual there."""
        return 100 * Fraction(self.count(start)) / Fraction(self.usual[start])


def judge_percents(logs: list[Log], model: ModelUsual, interest: Interest, bound: str, percent: int) -> set[ModelAlert]:
    """Return what follows for one threshold in percent: alerts with all STILL, and the breaches that are UNDECIDED.

    `model`: what is usual in all windows since `effective_from` that were reached.
    """
    if any(log.covered is None for log in logs):
        return set()
    flights = sorted(flight for log in logs for flight in log.flights)
    usual = model.fixed
    places = {start: place for place, start in enumerate(sorted(usual))}
    windows = _Windows(logs, usual, model.ends, flights, places, REACH // LENGTHS[interest.window.value])
    sequence = [start for start in sorted(usual) if usual[start] is None or usual[start] >= 5]
    judge = _judge_high if bound == "high" else _judge_low
    alerts = set()
    for place, start in enumerate(sequence):
        if usual[start] is None or any(start < log.covered[0] for log in logs):
            continue
        if any(log.has_history_in(start, windows.ends[start]) for log in logs):
            alerts.add((bound, UNJUDGED, start))
            continue
        before = [sequence[place - n] if n <= place else None for n in range(1, interest.for_windows + 1)]
        state = judge(windows, start, before, percent)
        if state is not None:
            alerts.add((bound, state, start))
    return alerts


def _judge_high(windows: _Windows, start: datetime, before: list[datetime | None], percent: int) -> str | None:
    """Return the state of a high threshold in the window that starts at `start`; `before`: the windows before it."""
    is_over = windows.compute_percent(start) > percent
    known = [windows.is_known(each, start) for each in before]
    over = [is_one and windows.compute_percent(each) > percent for is_one, each in zip(known, before, strict=True)]
    is_open = [is_one and not windows.is_closed(each) for is_one, each in zip(known, before, strict=True)]
    if not any(is_open):
        if is_over and all(over[:-1]):
            return "STILL" if over[-1] else "FIRING"
        is_final = windows.is_known(start, start) and windows.is_closed(start)
        return "RESOLVED" if all(over) and is_final else None
    is_run_known = all(not opened and each for opened, each in zip(is_open[:-1], over[:-1], strict=True))
    return UNDECIDED if is_over and is_run_known else None


def _judge_low(windows: _Windows, start: datetime, before: list[datetime | None], percent: int) -> str | None:
    """Return the state of a low threshold in the window that starts at `start`; `before`: the windows before it."""
    if not (windows.is_known(start, start) and windows.is_closed(start)):
        return None
    under = [
        windows.is_known(each, start) and windows.is_closed(each) and windows.compute_percent(each) < percent
        for each in before
    ]
    if windows.compute_percent(start) < percent and all(under[:-1]):
        return "STILL" if under[-1] else "FIRING"
    return "RESOLVED" if all(under) else None


class ModelListener:
    """The alerts that the model raises for one interest with thresholds of any measure, message by message."""

    def __init__(self, zone: str, interest: Interest) -> None:
        """`zone`: the zone of the airport's clock."""
        self._interest = interest
        is_local = interest.aligned_to is AlignedTo.AIRPORT
        self._zone = zone if is_local else None
        self._usual = ModelUsual(zone, interest.window.value, interest.effective_from, is_local=is_local)
        self._teller = ModelTeller(interest.repeat)
        self._now: set[ModelAlert] = set()

    def hear(self, log: UsualLog, number: int) -> set[UUID]:
        """Return the ids of the alerts that the first `number` messages raise, without those of earlier calls."""
        logs, for_usual = (
            [
                build_filled_log((each for each in log.messages[:number] if each.direction is part), is_for_usual=usual)
                for part in self._interest.direction.parts
            ]
            for usual in (False, True)
        )
        self._usual.fix_reached(for_usual)
        self._now = self._judge(logs)
        return {compute_statement_id(self._interest, each) for each in self._teller.tell(self._now)}

    def hear_late(self) -> set[UUID]:
        """Return the ids of the alerts that an equal interest would get if it was set now."""
        return {compute_statement_id(self._interest, each) for each in self._teller.tell_late(self._now)}

    def list_states(self) -> set[ModelAlert]:
        """Return the states of all windows now, with all STILL."""
        return {each for each in self._now if each[1] not in (UNDECIDED, UNJUDGED)}

    def _judge(self, logs: list[Log]) -> set[ModelAlert]:
        """Return what follows from the logs for all thresholds of the interest."""
        interest = self._interest
        flights = ModelInterest(
            interest.window.value,
            interest.high,
            interest.low,
            interest.for_windows,
            True,
            interest.effective_from,
            self._zone,
        )
        judged = judge_model_windows(logs, flights)
        for bound, percent in (("high", interest.high_percent), ("low", interest.low_percent)):
            if percent is not None:
                judged |= judge_percents(logs, self._usual, interest, bound, percent)
        return judged


def compute_expected_ids(zone: str, interest: Interest, log: Sequence[Observation]) -> set[UUID]:
    """Return the ids of all alerts that follow from a log without corrections, in which nothing is filled.

    `zone`: the zone of the airport's clock.
    """
    marked = [replace(each, fingerprints=tuple(range(len(each.event_times)))) for each in log]
    listener = ModelListener(zone, interest)
    return listener.hear(UsualLog(zone, interest.effective_from, (), tuple(marked)), len(marked))
