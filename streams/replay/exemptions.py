"""The rules that exempt an alert from the comparison: only one side has the alert, and the log cannot show why."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from domain.alerts import Alert, AlertState, Bound
from domain.calendar import WEEK_HOURS, WEEKS_BACK, find_grid
from domain.hourly_counts import DAY_HOURS
from domain.interests import Direction
from domain.percent_counts import LOOKBACK_HOURS, list_earlier_windows
from domain.traffic import Coverage
from domain.usual import NO_USUAL, Usual
from domain.windows import HOUR_S, AlignedTo, Window, seconds
from streams.entries import AirportState
from streams.replay.log import FoldedEvent
from towerwatch.alerts.v1 import events_pb2 as alerts_pb
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import events_pb2 as interests_pb
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, partition_of

_BASE_HOURS: Final = WEEKS_BACK * WEEK_HOURS + DAY_HOURS
"""Hours before a window whose counts what is usual in it may follow from; clocks move by a day at most."""


class Exemption(StrEnum):
    """The reason why an alert that only one side has is not counted as a difference; the value is the text shown."""

    EARLIER_LOG = "it was raised from a log that was lost since, and written anew"
    INTEREST_GONE = "its interest, or that version of it, is no longer in the log (compaction)"
    INTEREST_CHANGED = "its interest was changed or removed later: how far it was judged until then is not in the log"
    FLIGHTS_GONE = "flights of its windows have left the log (retention)"
    LATE_FLIGHTS = (
        "late or retracted flights, or a filled gap, corrected its windows: "
        "whether the interest was known by then is not in the log"
    )
    ALERT_GONE = "it may have left alerts.raised.v1 (retention)"
    PENDING = "the stream has not acknowledged all events that it follows from"
    AFTER_REPLAY = "it follows from events that came after the replay"


@dataclass(frozen=True, slots=True)
class ComparedAlert:
    """An alert as `verify` needs it to find an exemption or show a difference: without its user and its counts."""

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
    """Partition of alerts.raised.v1 in which the alert lies, or would lie."""
    cause_ms: int
    """Time at which the event that caused the alert was published (milliseconds since 1970)."""
    is_percent: bool = False
    """True: its threshold is in percent of what is usual. False: in flights."""
    aligned_to: AlignedTo = AlignedTo.UTC

    def list_hours(self, usual: Usual) -> range:
        """Return the hours (since 1970) whose counts decide the alert: its window and the `for_windows` windows before.

        With percents the windows before are the last that were not skipped; `usual`: the usual counts of the airport.
        If these are no longer retained, all hours are returned in which such windows are searched for.
        """
        grid = find_grid(self.airport, self.window, self.aligned_to)
        number = grid.find_number(self.window_start)
        oldest = number - self.for_windows
        if self.is_percent:
            days = usual.select_days(self.direction)
            oldest = list_earlier_windows(days, grid, number, self.for_windows)[-1]
            if not days or grid.find_begin(oldest) // HOUR_S // DAY_HOURS < min(days):
                oldest = number - LOOKBACK_HOURS // grid.hours
        return range(grid.find_begin(oldest) // HOUR_S, -(-grid.find_begin(number + 1) // HOUR_S))


def build_compared_alert(alert: Alert, cause_ms: int) -> ComparedAlert:
    """Build the comparable form of a computed alert; `cause_ms`: when its event was published (ms since 1970).

    The partition is that in which the alert would lie, by its user.
    """
    return ComparedAlert(
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
        is_percent=alert.percent is not None,
        aligned_to=alert.aligned_to,
    )


def decode_compared_alert(value: bytes) -> ComparedAlert:
    """Decode a value of alerts.raised.v1 to the comparable form.

    The partition is computed from the user, not taken from a record. Raises DecodeError, KeyError or ValueError.
    """
    alert = alerts_pb.AlertRaised.FromString(value)
    return ComparedAlert(
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
        is_percent=alert.HasField("percent"),
        aligned_to=AlignedTo.AIRPORT if alert.aligned_to == interests_pb.ALIGNED_TO_AIRPORT else AlignedTo.UTC,
    )


class ExemptionFinder:
    """Finds the exemption of an alert, from facts about the log that are collected while the log is folded.

    First every event of the log is added by `add_event`; then `find_exemption` is called for the alerts that only one
    side has. It finds five of the exemptions: EARLIER_LOG, INTEREST_GONE, INTEREST_CHANGED, FLIGHTS_GONE and
    LATE_FLIGHTS.
    """

    def __init__(self, truncated: Iterable[int]) -> None:
        """`truncated`: the partitions of flights.observed.v1 whose beginning was deleted by retention."""
        self._truncated = frozenset(truncated)
        self._versions: dict[UUID, list[int | None]] = {}
        """By interest, its versions in the order of the log. None: removed."""
        self._known_from: dict[tuple[str, Direction], int] = {}
        """By airport and direction of truncated partitions: the end of the first interval (s since 1970) that was
        covered when it was due. Days of history come later, and lie before it."""
        self._corrected_hours: defaultdict[tuple[str, Direction], set[int]] = defaultdict(set)
        """By airport and direction, the hours that were corrected after coverage began: by late or retracted flights,
        or because they lay in a gap that was filled."""
        self._usual: dict[str, Usual] = {}
        """By airport, what is usual after the last batch."""
        self._anew_ms: dict[str, int] = {}
        """By airport whose flights were published again, when the last of those that were told was published."""

    @property
    def has_interests(self) -> bool:
        """True if the log has, or had, any interest; False if it has no event of one."""
        return bool(self._versions)

    def add_event(self, event: FoldedEvent) -> None:
        """Collect the facts of an event, in the order of the log; does nothing for an event that was not folded.

        Of an interest: its version, or its removal. Of a batch: when it was published, if it is past; the end of the
        first complete interval, if the partition is truncated; and the hours of flights before the watermark, of
        retracted flights and of filled gaps, which correct windows.
        """
        if event.result is None:
            return
        if event.batch is None:
            self._record_version(event.record.key, event.record.value)
            return
        if isinstance(event.result.state, AirportState):
            self._usual[event.batch.airport] = event.result.state.traffic.usual
        seen = event.batch.observation
        flow = event.batch.airport, seen.direction
        if seen.coverage is Coverage.COMPLETE and event.record.partition in self._truncated and not seen.is_history:
            # The time right before it was covered by batches that have left the log, whatever older days the log has.
            is_cut = event.batch.has_earlier_coverage and (event.watermark is None or event.watermark < seen.begin)
            if flow not in self._known_from or is_cut:
                self._known_from[flow] = seen.end
        if event.batch.is_past:  # a new beginning, and nothing that corrects what was raised
            self._anew_ms[event.batch.airport] = event.record.timestamp
            self._corrected_hours.pop(flow, None)
        elif event.watermark is not None:
            late = {at // HOUR_S for at in seen.event_times if at < event.watermark}
            retracted = {at // HOUR_S for at, _ in seen.retracted}
            filled = {hour for begin, end in event.filled for hour in range(begin // HOUR_S, (end - 1) // HOUR_S + 1)}
            if late or retracted or filled:
                self._corrected_hours[flow] |= late | retracted | filled

    def _record_version(self, key: bytes, value: bytes | None) -> None:
        """Append to an interest's versions the version that was set, or None for its removal (value None).

        The interest is found by the id in the key. Raises ValueError or DecodeError for an invalid key or value.
        """
        interest_id = UUID(key.decode().partition("/")[2])
        version = None if value is None else int(interests_pb.InterestSet.FromString(value).version)
        self._versions.setdefault(interest_id, []).append(version)

    def find_exemption(self, alert: ComparedAlert) -> Exemption | None:
        """Return the first reason why the log cannot show whether the alert was due. None: the log can show it.

        In this order: its event was published before the flights that were told were published again; the alert's
        version is not in the log; the version was followed by another or a removal; a part of the alert's hours lies
        before the known flights of a truncated partition (or, with percents, of the weeks before these hours); a late
        or retracted flight, or a filled gap, corrected one of the alert's hours.
        """
        if alert.cause_ms <= self._anew_ms.get(alert.airport, -1):
            return Exemption.EARLIER_LOG
        versions = self._versions.get(alert.interest_id, [])
        if alert.version not in versions:
            return Exemption.INTEREST_GONE
        if versions[-1] != alert.version:
            return Exemption.INTEREST_CHANGED
        flows = [(alert.airport, part) for part in alert.direction.parts]
        hours = alert.list_hours(self._usual.get(alert.airport, NO_USUAL))
        if partition_of(alert.airport, FLIGHTS_OBSERVED) in self._truncated:
            known_from = [self._known_from.get(flow) for flow in flows]
            first = hours.start - _BASE_HOURS if alert.is_percent else hours.start
            if any(begin is None or first * HOUR_S < begin for begin in known_from):
                return Exemption.FLIGHTS_GONE
        corrected = [self._corrected_hours[flow] for flow in flows if flow in self._corrected_hours]
        if any(not each.isdisjoint(hours) for each in corrected):
            return Exemption.LATE_FLIGHTS
        return None
