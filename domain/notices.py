"""Notices: messages to users that are no alerts."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid5

_NAMESPACE = UUID("b7e9c1d4-2f35-5a68-9c0e-7d41a8f2036b")
"""The namespace of notice ids (UUIDv5)."""


@dataclass(frozen=True, slots=True)
class UnheardNotice:
    """A notice to a user with an interest at an airport: the source has given no flight of it since a certain day."""

    notice_id: UUID
    user_id: UUID
    airport: str
    """ICAO code."""
    since: datetime
    """Begin of the first day that the source was asked for, UTC."""


@dataclass(frozen=True, slots=True)
class RetiredNotice:
    """A notice to a user with an interest under an airport's code that an update of the table has retired."""

    notice_id: UUID
    user_id: UUID
    airport: str
    """The former ICAO code."""
    successor: str
    """The ICAO code that the airport has now; empty if none is known."""


Notice = UnheardNotice | RetiredNotice


def compute_retired_notice_id(user_id: UUID, airport: str) -> UUID:
    """Return the id of a RetiredNotice (UUIDv5, RFC 9562): equal arguments always give the same id."""
    return uuid5(_NAMESPACE, f"{user_id}|{airport}|retired")


def compute_unheard_notice_id(user_id: UUID, airport: str, since: datetime) -> UUID:
    """Return the id of an UnheardNotice (UUIDv5, RFC 9562): equal arguments always give the same id.

    Another user, airport or time gives another id. The time zone of `since` does not matter.
    """
    return uuid5(_NAMESPACE, f"{user_id}|{airport}|{since.astimezone(UTC).isoformat()}")


def describe_unheard(place: str, since: datetime) -> str:
    """Return a sentence: the source has given no flight of an airport since a day, and what that may mean.

    `place`: the airport's name in the sentence, such as its ICAO code. `since`: the begin of the first day that the
    source was asked for.
    """
    return f"OpenSky has not reported a flight at {place} since {format_day(since)}: nobody may be listening there."


def format_day(moment: datetime) -> str:
    """Return the UTC date of a moment in full: "8 February 2013"."""
    date = moment.astimezone(UTC)
    return f"{date.day} {date:%B} {date.year}"
