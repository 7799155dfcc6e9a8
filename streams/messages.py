"""Decoding and encoding of the Kafka messages: protobuf bytes to the domain's values and back.

Unknown fields are ignored; the fields that the rules need are validated.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from operator import attrgetter
from typing import Final, TypeVar
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from chassis.protobuf import parse_message
from domain.airports import is_icao
from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction, Interest, InterestError, check_alignment, check_thresholds
from domain.known_flights import compute_fingerprints
from domain.live_record import Provenance
from domain.traffic import LONGEST_INTERVAL_S, Coverage, Observation
from domain.windows import AlignedTo, Window, seconds
from streams.errors import UndecodableError
from towerwatch.alerts.v1 import events_pb2 as alerts_pb
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import events_pb2 as interests_pb

T = TypeVar("T", bound=Enum)
N = TypeVar("N", bound=int)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_YEAR_9999: Final = seconds(datetime(9999, 1, 1, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class ObservedFlights:
    """A decoded batch of flights at one airport, in one direction: only times and fingerprints of flights are kept."""

    airport: str
    observation: Observation
    is_past: bool = False
    """True: it is published again because the log was lost, and everything that follows from it was told."""
    begins_anew: bool = False
    """True: what was known of the airport and direction before is void. Only of a batch that is past."""
    has_earlier_coverage: bool = False
    """True: earlier batches covered the time right before this one; whoever knows none of them has lost them."""


def decode_flights(value: bytes | None) -> ObservedFlights:
    """Decode a value of flights.observed.v1: departures to their first-seen times, arrivals to their last-seen times.

    Raises UndecodableError, also without an ICAO code and one direction, or for an interval that is empty, after the
    year 9999, or longer than `LONGEST_INTERVAL_S` (a gap may be longer).
    """
    batch = parse_message(flights_pb.FlightsObserved, value, UndecodableError)
    direction = _find_member(_DIRECTIONS, batch.direction)
    coverage = _find_member(_COVERAGES, batch.coverage)
    begin, end = batch.begin.seconds, batch.end.seconds
    if not is_icao(batch.airport) or direction is Direction.BOTH:
        raise UndecodableError("FlightsObserved without an airport and one direction")
    if not 0 <= begin < end <= _YEAR_9999 or (coverage is not Coverage.GAP and end - begin > LONGEST_INTERVAL_S):
        raise UndecodableError("FlightsObserved without an interval that can be")
    times, fingerprints = _read_flights(batch.flights, direction)
    retracted = tuple(zip(*_read_flights(batch.retracted, direction), strict=True)) if batch.retracted else ()
    is_live = batch.provenance == flights_pb.PROVENANCE_LIVE  # all else has the settled record's word, also "not said"
    provenance = Provenance.LIVE if is_live else Provenance.SETTLED
    seen = Observation(
        direction,
        begin,
        end,
        times,
        coverage,
        fingerprints,
        retracted,
        provenance,
        is_record_part=batch.record_part,
        is_history=batch.history,
    )
    has_earlier_coverage = batch.HasField("covered_from") and batch.covered_from.seconds < begin
    return ObservedFlights(batch.airport, seen, batch.past, batch.past and batch.begins_anew, has_earlier_coverage)


_READ_EVENT_TIME: Final = {
    Direction.DEPARTURES: attrgetter("first_seen.seconds"),
    Direction.ARRIVALS: attrgetter("last_seen.seconds"),
}
"""Reads the event time of a flight, by direction."""


def _read_flights(
    flights: Iterable[flights_pb.Flight], direction: Direction
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the event times of flights, and their fingerprints: of departures first seen, of arrivals last seen."""
    messages = list(flights)  # each pass over a repeated field creates the Python objects of its messages anew
    times = tuple(map(_READ_EVENT_TIME[direction], messages))
    return times, compute_fingerprints([flight.icao24 for flight in messages], times)


def decode_interest_key(key: bytes) -> tuple[str, UUID]:
    """Decode a key "airport/interest_id" of interests.changed.v1 to the airport and the interest's id.

    Raises UndecodableError, also if the id is not in its canonical spelling: another spelling would be another entry.
    """
    try:
        airport, _, text = key.decode().partition("/")
        interest_id = UUID(text)
    except ValueError:
        raise UndecodableError("a key that is not airport/interest_id") from None
    if not is_icao(airport) or str(interest_id) != text:
        raise UndecodableError("a key that is not airport/interest_id")
    return airport, interest_id


def decode_interest(value: bytes) -> Interest:
    """Decode a value of interests.changed.v1 (no tombstone). Raises UndecodableError."""
    return convert_interest(parse_message(interests_pb.InterestSet, value, UndecodableError))


def is_past_interest(value: bytes) -> bool:
    """Return True if a value of interests.changed.v1 is published again because the log was lost; False if it is new.

    Raises UndecodableError.
    """
    return parse_message(interests_pb.InterestSet, value, UndecodableError).past


def convert_interest(message: interests_pb.InterestSet) -> Interest:
    """Convert the contract's interest to the domain's. Raises UndecodableError.

    The airport's form, the ids, the enum values, the time and the thresholds are validated.
    """
    if not is_icao(message.airport):
        raise UndecodableError("InterestSet without an airport")
    try:
        interest = Interest(
            interest_id=UUID(message.interest_id),
            user_id=UUID(message.user_id),
            airport=message.airport,
            direction=_find_member(_DIRECTIONS, message.direction),
            window=_find_member(_WINDOWS, message.window),
            high=message.high if message.HasField("high") else None,
            low=message.low if message.HasField("low") else None,
            for_windows=message.for_windows,
            repeat=message.repeat,
            effective_from=message.effective_from.ToDatetime(UTC),
            version=message.version,
            high_percent=message.high_percent if message.HasField("high_percent") else None,
            low_percent=message.low_percent if message.HasField("low_percent") else None,
            aligned_to=_find_member(_ALIGNMENTS, message.aligned_to or interests_pb.ALIGNED_TO_UTC),
        )
        check_alignment(interest.aligned_to, interest.window)
        check_thresholds(interest.high, interest.low, interest.for_windows, interest.high_percent, interest.low_percent)
    except InterestError:
        raise UndecodableError("InterestSet with thresholds that contradict each other") from None
    except (ValueError, OverflowError):
        raise UndecodableError("InterestSet with an id or a time that is none") from None
    return interest


def _map_enum_numbers(kind: type[T], numbers: Iterable[tuple[str, int]], prefix: str) -> dict[int, T]:
    """Map protobuf enum numbers to the domain's enum members: the names are equal except for the prefix.

    Numbers without a member are left out. Raises KeyError for a member without a number.
    """
    return {number: member for member, number in _map_enum_members(kind, numbers, prefix).items()}


def _map_enum_members(kind: type[T], numbers: Iterable[tuple[str, N]], prefix: str) -> dict[T, N]:
    """Map the domain's enum members to their protobuf enum numbers; see `_map_enum_numbers`."""
    names = {name.removeprefix(prefix): number for name, number in numbers}
    return {member: names[member.name] for member in kind}


_DIRECTIONS: Final = _map_enum_numbers(Direction, flights_pb.Direction.items(), "DIRECTION_")
_COVERAGES: Final = _map_enum_numbers(Coverage, flights_pb.Coverage.items(), "COVERAGE_")
_WINDOWS: Final = _map_enum_numbers(Window, interests_pb.Window.items(), "WINDOW_")
_ALIGNMENTS: Final = _map_enum_numbers(AlignedTo, interests_pb.AlignedTo.items(), "ALIGNED_TO_")

_DIRECTION_NUMBERS: Final = _map_enum_members(Direction, flights_pb.Direction.items(), "DIRECTION_")
_WINDOW_NUMBERS: Final = _map_enum_members(Window, interests_pb.Window.items(), "WINDOW_")
_BOUND_NUMBERS: Final = _map_enum_members(Bound, alerts_pb.Bound.items(), "BOUND_")
_STATE_NUMBERS: Final = _map_enum_members(AlertState, alerts_pb.State.items(), "STATE_")
_PROVENANCE_NUMBERS: Final = _map_enum_members(Provenance, flights_pb.Provenance.items(), "PROVENANCE_")
_ALIGNMENT_NUMBERS: Final = _map_enum_members(AlignedTo, interests_pb.AlignedTo.items(), "ALIGNED_TO_")


def _find_member(members: Mapping[int, T], number: int) -> T:
    """Return the enum member of a protobuf number. Raises UndecodableError for an unknown number."""
    member = members.get(number)
    if member is None:
        raise UndecodableError("a direction, a coverage, a window or a clock that this version does not know")
    return member


def encode_alert(alert: Alert, cause_published_at: datetime) -> bytes:
    """Encode an alert as a value of alerts.raised.v1; `cause_published_at`: when its event was published.

    An unknown earlier count becomes 0 in `earlier_counts` and False in `earlier_known`; no episode becomes "".
    """
    message = alerts_pb.AlertRaised(
        alert_id=str(alert.alert_id),
        interest_id=str(alert.interest_id),
        user_id=str(alert.user_id),
        version=alert.version,
        airport=alert.airport,
        direction=_DIRECTION_NUMBERS[alert.direction],
        window=_WINDOW_NUMBERS[alert.window],
        bound=_BOUND_NUMBERS[alert.bound],
        state=_STATE_NUMBERS[alert.state],
        count=alert.count,
        threshold=alert.threshold,
        for_windows=alert.for_windows,
        withdrawn_count=alert.withdrawn_count,
        earlier_counts=[count or 0 for count in alert.earlier],
        earlier_known=[count is not None for count in alert.earlier],
        episode_id=str(alert.episode_id) if alert.episode_id is not None else "",
        withdrawn_state=(
            alerts_pb.STATE_UNSPECIFIED if alert.withdrawn_state is None else _STATE_NUMBERS[alert.withdrawn_state]
        ),
        revision=alert.revision,
        provenance=(
            flights_pb.PROVENANCE_UNSPECIFIED if alert.provenance is None else _PROVENANCE_NUMBERS[alert.provenance]
        ),
        corrects=alert.corrects,
        count_before=alert.count_before,
        percent=alert.percent,
        doubled_usual=alert.doubled_usual,
        base_counts=alert.base_counts,
        earlier_usual=[0 if doubled is None else doubled + 1 for doubled in alert.earlier_usual],
        live_windows=alert.live_windows,
    )
    _set_time(message.window_start, alert.window_start)
    if alert.aligned_to is not AlignedTo.UTC:
        message.aligned_to = _ALIGNMENT_NUMBERS[alert.aligned_to]
        _set_time(message.window_end, alert.window_end)
    _set_time(message.cause_published_at, cause_published_at)
    return message.SerializeToString()


def _set_time(message: Timestamp, at: datetime) -> None:
    """Set a timestamp to an aware time, exactly. `FromDatetime` would do, but takes longer than all other fields."""
    since = at - _EPOCH
    message.seconds = since.days * 86_400 + since.seconds
    message.nanos = since.microseconds * 1_000
