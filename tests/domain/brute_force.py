"""A slow and plain model of the alert rule (`docs/design.md`), which the rule is tested against.

The model shares no code with the rule: it has the whole log at once, keeps every flight, and judges each window alone.
"""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

ModelAlert = tuple[str, str, datetime]
"""Bound, state, window start."""

LENGTHS = {"1h": timedelta(hours=1), "6h": timedelta(hours=6), "1d": timedelta(days=1)}
"""The length of a window, by its name."""


@dataclass
class Log:
    """All flights, the coverage and the gaps of one direction at one airport."""

    flights: list[datetime]
    covered: tuple[datetime, datetime] | None
    """Start and end of coverage; None: never covered."""
    gaps: list[tuple[datetime, datetime]]
    history: list[tuple[datetime, datetime]] = field(default_factory=list)
    """Intervals that count only for what is usual: a window that overlaps one is not judged, not even early."""

    def has_history_in(self, begin: datetime, end: datetime) -> bool:
        """Return True if a part of [begin, end) is history."""
        return any(first < end and last > begin for first, last in self.history)


@dataclass
class ModelInterest:
    """The values of an interest on which its alerts depend."""

    window: str
    high: int | None
    low: int | None
    for_windows: int
    repeat: bool
    effective_from: datetime
    zone: str | None = None
    """The zone by whose clock windows begin; None: by UTC."""


@cache
def list_local_starts(zone: str, hours: int, first: datetime, last: datetime) -> list[datetime]:
    """Return the starts of all windows by a zone's clock from `first` to `last`, by looking at the clock all the time.

    A window of 6 hours starts whenever the clock shows a quarter of a day that it never showed before, one of a day
    whenever it shows a new date; nobody looks at the clock more often than every quarter of an hour.
    """
    clock, starts, latest = ZoneInfo(zone), [], None
    at = first
    while at <= last:
        shown = at.astimezone(clock)
        place = shown.date(), shown.hour // hours
        if latest is None or place > latest:
            starts.append(at)
            latest = place
        at += timedelta(minutes=15)
    return starts[1:]  # of the first one nobody saw the beginning


def _list_starts(logs: list[Log], interest: ModelInterest) -> list[datetime]:
    """Return the starts of all windows around the logs, in order."""
    midnight = min(log.covered[0] for log in logs).replace(hour=0, minute=0, second=0) - timedelta(days=1)
    last = max(max([log.covered[1], *log.flights]) for log in logs)
    length = LENGTHS[interest.window]
    if interest.zone is not None:
        until = last.replace(minute=0, second=0) + timedelta(days=4)
        return list_local_starts(interest.zone, length // timedelta(hours=1), midnight - timedelta(days=2), until)
    starts = []
    while midnight <= last + length:
        starts.append(midnight)
        midnight += length
    return starts


def compute_model_alerts(logs: list[Log], interest: ModelInterest) -> set[ModelAlert]:
    """Return all alerts of an interest that follow from the logs of its directions (one or two)."""
    return {alert for alert in judge_model_windows(logs, interest) if alert[1] not in (UNDECIDED, UNJUDGED)}


UNJUDGED = "UNJUDGED"
"""The state of a window that has a part of history: nothing is said of it, and what was said stands."""
UNDECIDED = "UNDECIDED"
"""The state of a window in breach of a high threshold while the window before it (before its run) is still open."""


def judge_model_windows(logs: list[Log], interest: ModelInterest) -> set[ModelAlert]:
    """Return the alerts as `compute_model_alerts`, and besides them the breaches that are UNDECIDED."""
    if any(log.covered is None for log in logs):
        return set()
    starts = _list_starts(logs, interest)
    ends = dict(pairwise(starts))
    flights = sorted(flight for log in logs for flight in log.flights)

    @cache
    def count(start):
        return bisect_left(flights, ends[start]) - bisect_left(flights, start)

    @cache
    def is_never_judged(start):
        if start is None or start < interest.effective_from:
            return True
        for log in logs:
            if start < log.covered[0] or log.has_history_in(start, ends[start]):
                return True
            if any(begin < ends[start] and end > start for begin, end in log.gaps):
                return True
        return False

    def is_closed(start):
        return not is_never_judged(start) and all(log.covered[1] >= ends[start] for log in logs)

    alerts: set[ModelAlert] = set()
    for place, start in enumerate(starts[:-1]):
        before = [starts[place - i] if place >= i else None for i in range(1, interest.for_windows + 1)]
        if any(log.has_history_in(start, ends[start]) for log in logs):
            alerts.update({("high", UNJUDGED, start), ("low", UNJUDGED, start)})
            continue
        is_early = start < interest.effective_from or any(start < log.covered[0] for log in logs)
        if interest.high is not None and not is_early and all(is_never_judged(b) or is_closed(b) for b in before):
            over = [not is_never_judged(b) and count(b) > interest.high for b in before]
            if count(start) > interest.high and all(over[: interest.for_windows - 1]):
                if not all(over):
                    alerts.add(("high", "FIRING", start))
                elif interest.repeat:
                    alerts.add(("high", "STILL", start))
            elif all(over) and is_closed(start):
                alerts.add(("high", "RESOLVED", start))
        elif interest.high is not None and not is_early:
            run = before[:-1]
            is_run_known = all(is_closed(b) and count(b) > interest.high for b in run)
            if count(start) > interest.high and is_run_known:
                alerts.add(("high", UNDECIDED, start))
        if interest.low is not None and is_closed(start):
            under = [is_closed(b) and count(b) < interest.low for b in before]
            if count(start) < interest.low and all(under[: interest.for_windows - 1]):
                if not all(under):
                    alerts.add(("low", "FIRING", start))
                elif interest.repeat:
                    alerts.add(("low", "STILL", start))
            elif all(under):
                alerts.add(("low", "RESOLVED", start))
    return alerts


@dataclass(frozen=True)
class ModelStatement:
    """A statement of the model, to be told apart from equal ones that were withdrawn before."""

    bound: str
    state: str
    """FIRING, RESOLVED, STILL, or "WITHDRAWN a breach", or "WITHDRAWN an end"."""
    start: datetime
    time: int
    """0: the first time that such a statement is made about the window; 1: the second time, after a withdrawal; ..."""


class ModelTeller:
    """What the model says to one interest, message by message (DESIGN, section 4).

    After each message the caller gives the alerts that follow from the log as it is then. What would be said now and
    was not, is said. What was said and is not true now is withdrawn: a breach where there is none, the end of a breach
    where the breach goes on. The end of a breach that never was is forgotten, for nobody has to be told anything: the
    window was calm, and is. Whatever comes again after that is said again, and its number grows. A breach stands, and
    is not said, while it cannot be compared with the window before, which a filled gap has made an open window again.
    """

    def __init__(self, repeat: bool) -> None:
        self.repeat = repeat
        self.told: set[ModelAlert] = set()
        self.times: Counter[tuple[str, str, datetime]] = Counter()
        """By bound, kind ("breach" or "end") and window start, how often such a statement ceased to stand."""

    def tell(self, now: set[ModelAlert]) -> set[ModelStatement]:
        """Return what is said after a message. `now`: the alerts that follow from the log, with all STILL.

        Of UNDECIDED breaches nothing is said, and nothing is withdrawn.
        """
        said: set[ModelStatement] = set()
        state_of = {(bound, start): state for bound, state, start in now}
        for bound, start in {(bound, start) for bound, _, start in self.told}:
            state = state_of.get((bound, start))
            if state == UNJUDGED:
                continue
            in_breach = state in ("FIRING", "STILL", UNDECIDED)
            breaches = {each for each in self.told if each in ((bound, "FIRING", start), (bound, "STILL", start))}
            if breaches and not in_breach:
                said.add(ModelStatement(bound, "WITHDRAWN a breach", start, self.times[bound, "breach", start]))
                self.times[bound, "breach", start] += 1
                self.told -= breaches
            if (bound, "RESOLVED", start) in self.told and state != "RESOLVED":
                if in_breach:
                    said.add(ModelStatement(bound, "WITHDRAWN an end", start, self.times[bound, "end", start]))
                self.times[bound, "end", start] += 1
                self.told.remove((bound, "RESOLVED", start))
        for bound, state, start in now:
            is_said = state not in (UNDECIDED, UNJUDGED) and (state != "STILL" or self.repeat)
            if is_said and (bound, state, start) not in self.told:
                self.told.add((bound, state, start))
                said.add(self.describe((bound, state, start)))
        return said

    def tell_late(self, now: set[ModelAlert]) -> set[ModelStatement]:
        """Return what is said to an equal interest that is set after the last message, for which `now` was given.

        It gets what follows from the log, and of a breach that is UNDECIDED what the first was told and what stands.
        """
        undecided = {(bound, start) for bound, state, start in now if state == UNDECIDED}
        standing = {alert for alert in self.told if (alert[0], alert[2]) in undecided}
        states = {"FIRING", "RESOLVED", *(["STILL"] if self.repeat else [])}
        following = {alert for alert in now if alert[1] in states}
        return {self.describe(alert) for alert in following | standing}

    def describe(self, alert: ModelAlert) -> ModelStatement:
        """Return the statement that an alert would be if it were said now."""
        bound, state, start = alert
        return ModelStatement(*alert, self.times[bound, "end" if state == "RESOLVED" else "breach", start])
