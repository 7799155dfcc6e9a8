"""The collector's part of the export of a person's data, decoded from its gRPC answers. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from domain.interests import Direction, Interest
from domain.windows import AlignedTo, Window
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import events_pb2 as interests_pb, interest_service_pb2 as service_pb


@dataclass(frozen=True, slots=True)
class StoredInterest:
    """An interest as the collector keeps it."""

    interest: Interest
    created_at: datetime
    updated_at: datetime
    told_version: int
    """The newest version whose alerts are known to be mailed; 0: none."""


@dataclass(frozen=True, slots=True)
class FormerInterest:
    """A version of an interest that is not in force any more."""

    interest: Interest
    since: datetime
    """The time at which it was set."""
    until: datetime
    """The time at which it was changed or removed."""


@dataclass(frozen=True, slots=True)
class WriteRecord:
    """The collector's counts that limit one person's changes and costly reads."""

    paid_microcredits: int
    """Millionths of the source's credits that count as paid."""
    minute: datetime | None
    """Begin of the minute in which changes were counted last; None: none were."""
    writes: int
    """The number of changes in that minute."""
    past_windows_until: datetime | None
    """The time at which the budget of past windows is whole again; None: none was used."""
    read_minute: datetime | None
    """Begin of the minute in which costly reads were counted last; None: none were."""
    reads: int
    """The number of costly reads in that minute."""


@dataclass(frozen=True, slots=True)
class CollectorRecord:
    """All that the collector keeps about one person."""

    interests: Sequence[StoredInterest] = ()
    writes: WriteRecord | None = None
    """None: nothing is counted."""
    unheard_notices: Sequence[str] = ()
    """ICAO codes of airports of which the person was told that nobody hears them."""
    retired_notices: Sequence[str] = ()
    """ICAO codes of which the person was told that they were retired."""
    former_interests: Sequence[FormerInterest] = ()
    """Former versions of interests, the oldest first; also of removed ones."""


def decode_record(user_id: UUID, pages: Sequence[service_pb.ExportPersonResponse]) -> CollectorRecord:
    """Merge all pages of the collector's answer about a person, at least one, into one record.

    Raises ValueError for a value that this version does not know, and for an interest of another person.
    """
    interests = tuple(_decode_stored_interest(each) for page in pages for each in page.interests)
    first = pages[0]
    former = tuple(
        FormerInterest(decode_interest(each.interest), _to_instant(each.since), _to_instant(each.until))
        for each in first.former_interests
    )
    named = [each.interest for each in interests] + [each.interest for each in former]
    if any(each.user_id != user_id for each in named):
        raise ValueError("an interest of another person")
    return CollectorRecord(
        interests,
        _decode_writes(first.person) if first.HasField("person") else None,
        tuple(first.unheard_notices),
        tuple(first.retired_notices),
        former,
    )


def _decode_stored_interest(stored: service_pb.StoredInterest) -> StoredInterest:
    """Return an interest with what its row holds. Raises ValueError for a value that this version does not know."""
    return StoredInterest(
        decode_interest(stored.interest),
        _to_instant(stored.created_at),
        _to_instant(stored.updated_at),
        stored.told_version,
    )


def decode_interest(message: interests_pb.InterestSet) -> Interest:
    """Return the interest of a message. Raises ValueError for a value that this version does not know."""
    direction = flights_pb.Direction.Name(message.direction).removeprefix("DIRECTION_")
    window = interests_pb.Window.Name(message.window).removeprefix("WINDOW_")
    aligned_to = interests_pb.AlignedTo.Name(message.aligned_to).removeprefix("ALIGNED_TO_")
    try:
        return Interest(
            interest_id=UUID(message.interest_id),
            user_id=UUID(message.user_id),
            airport=message.airport,
            direction=Direction[direction],
            window=Window[window],
            high=_get_optional(message, "high"),
            low=_get_optional(message, "low"),
            for_windows=message.for_windows,
            repeat=message.repeat,
            effective_from=_to_instant(message.effective_from),
            version=message.version,
            high_percent=_get_optional(message, "high_percent"),
            low_percent=_get_optional(message, "low_percent"),
            aligned_to=AlignedTo.UTC if aligned_to == "UNSPECIFIED" else AlignedTo[aligned_to],
        )
    except KeyError as error:
        raise ValueError(f"an interest with the value {error}") from None


def _decode_writes(person: service_pb.PersonRecord) -> WriteRecord:
    """Return the counts of a message that limit a person's changes."""
    return WriteRecord(
        person.paid,
        _to_instant(person.minute) if person.HasField("minute") else None,
        person.writes,
        _to_instant(person.past_windows_until) if person.HasField("past_windows_until") else None,
        _to_instant(person.read_minute) if person.HasField("read_minute") else None,
        person.reads,
    )


def _get_optional(message: Message, name: str) -> int | None:
    """Return the value of an optional number of a message; None if it is absent."""
    return int(getattr(message, name)) if message.HasField(name) else None


def _to_instant(stamp: Timestamp) -> datetime:
    """Return the aware instant of a message."""
    return stamp.ToDatetime(UTC)
