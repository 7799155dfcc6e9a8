"""On which grounds an alert that only one side has is a difference, or is none."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction
from domain.traffic import Coverage
from domain.windows import HOUR_S, Window, seconds
from streams.replay.log import Step
from towerwatch.alerts.v1 import events_pb2 as alerts_pb
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import events_pb2 as interests_pb
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, partition_of


class Reason(StrEnum):
    """Why an alert that only one side has is no difference."""

    INTEREST_GONE = "its interest, or that version of it, is no longer in the log (compaction)"
    INTEREST_CHANGED = "its interest was changed or removed later: how far it was judged until then is not in the log"
    FLIGHTS_GONE = "flights of its windows have left the log (retention)"
    LATE_FLIGHTS = "a late flight corrected its windows: whether the interest was known by then is not in the log"
    ALERT_GONE = "it may have left alerts.raised.v1 (retention)"
    PENDING = "the stream has not acknowledged all events that it follows from"
    AFTER_REPLAY = "it follows from events that came after the replay"


@dataclass(frozen=True, slots=True)
class Statement:
    """An alert without its person."""

    alert_id: UUID
    interest_id: UUID
    version: int
    airport: str
    direction: Direction
    window: Window
    window_start: int
    """Seconds since 1970."""
    bound: Bound
    state: AlertState
    for_windows: int
    partition: int
    """Where it lies, or would lie, on alerts.raised.v1."""
    cause_ms: int
    """When the event that it follows from was published (milliseconds since 1970)."""

    @property
    def hours(self) -> range:
        """The hours on whose counts it depends: those of its window, and of the `for_windows` windows before."""
        first = self.window_start // HOUR_S
        return range(first - self.for_windows * self.window.hours, first + self.window.hours)


def statement_of(alert: Alert, cause_ms: int) -> Statement:
    """What an alert says that follows from an event of `cause_ms`."""
    return Statement(
        alert_id=alert.alert_id,
        interest_id=alert.interest_id,
        version=alert.version,
        airport=alert.airport,
        direction=alert.direction,
        window=alert.window,
        window_start=seconds(alert.window_start),
        bound=alert.bound,
        state=alert.state,
        for_windows=alert.for_windows,
        partition=partition_of(str(alert.user_id), ALERTS_RAISED),
        cause_ms=cause_ms,
    )


def decode_statement(value: bytes) -> Statement:
    """A value of alerts.raised.v1. Raises DecodeError, KeyError or ValueError."""
    alert = alerts_pb.AlertRaised.FromString(value)
    return Statement(
        alert_id=UUID(alert.alert_id),
        interest_id=UUID(alert.interest_id),
        version=alert.version,
        airport=alert.airport,
        direction=Direction[flights_pb.Direction.Name(alert.direction).removeprefix("DIRECTION_")],
        window=Window[interests_pb.Window.Name(alert.window).removeprefix("WINDOW_")],
        window_start=alert.window_start.seconds,
        bound=Bound[alerts_pb.Bound.Name(alert.bound).removeprefix("BOUND_")],
        state=AlertState[alerts_pb.State.Name(alert.state).removeprefix("STATE_")],
        for_windows=alert.for_windows,
        partition=partition_of(alert.user_id, ALERTS_RAISED),
        cause_ms=alert.cause_published_at.ToMilliseconds(),
    )


class Grounds:
    """What the log can tell, gathered while it is folded: on these grounds a difference is one, or is not."""

    def __init__(self, truncated: Iterable[int]) -> None:
        """`truncated`: the partitions of flights.observed.v1 whose beginning has been deleted."""
        self._truncated = frozenset(truncated)
        self._versions: dict[UUID, list[int | None]] = {}
        """By interest, its versions in the order of the log; None: it was removed."""
        self._known_from: dict[tuple[str, Direction], int] = {}
        """By flow whose beginning may be deleted: the end of the first interval that is covered by what is left."""
        self._corrected: defaultdict[tuple[str, Direction], set[int]] = defaultdict(set)
        """By flow, the hours to which flights were added after they were covered."""

    def add(self, step: Step) -> None:
        """Take note of an event."""
        if step.outcome is None:
            return
        if step.batch is None:
            self._add_interest(step.record.key, step.record.value)
            return
        seen = step.batch.observation
        flow = step.batch.airport, seen.direction
        if seen.coverage is Coverage.COMPLETE and step.record.partition in self._truncated:
            self._known_from.setdefault(flow, seen.end)
        if step.watermark is not None:
            late = {at // HOUR_S for at in seen.event_times if at < step.watermark}
            if late:
                self._corrected[flow] |= late

    def _add_interest(self, key: bytes, value: bytes | None) -> None:
        interest_id = UUID(key.decode().partition("/")[2])
        version = None if value is None else int(interests_pb.InterestSet.FromString(value).version)
        self._versions.setdefault(interest_id, []).append(version)

    def excuse(self, alert: Statement) -> Reason | None:
        """Why the log cannot tell whether it was to be said; None where it can."""
        versions = self._versions.get(alert.interest_id, [])
        if alert.version not in versions:
            return Reason.INTEREST_GONE
        if versions[-1] != alert.version:
            return Reason.INTEREST_CHANGED
        flows = [(alert.airport, part) for part in alert.direction.parts]
        if partition_of(alert.airport, FLIGHTS_OBSERVED) in self._truncated:
            known_from = [self._known_from.get(flow) for flow in flows]
            if any(begin is None or alert.hours.start * HOUR_S < begin for begin in known_from):
                return Reason.FLIGHTS_GONE
        if any(not self._corrected[flow].isdisjoint(alert.hours) for flow in flows if flow in self._corrected):
            return Reason.LATE_FLIGHTS
        return None
