"""The tables of the collector's database."""

from dataclasses import fields
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chassis.db.database import TABLE_OPTIONS, UtcDateTime
from chassis.db.outbox import Outbox
from domain.interests import Direction, Interest
from domain.windows import AlignedTo, Window

SCHEMA: Final = MetaData()
OUTBOX: Final = Outbox(SCHEMA)

_ENUMS: Final = ("direction", "window", "aligned_to")
_STORED_AS_THEY_ARE: Final = tuple(each.name for each in fields(Interest) if each.name not in _ENUMS)
"""The fields of an interest that have columns of the same name and type."""
AUTO_ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers only INTEGER keys by itself


class Base(DeclarativeBase):
    """The base class of all tables."""

    metadata = SCHEMA


class LiveOutcome(StrEnum):
    """The outcome of a movement that was published live."""

    PUBLISHED = "published"
    """The record of its day is not known yet."""
    MATCHED = "matched"
    """The settled record has the flight, too."""
    RETRACTED = "retracted"
    """The settled record does not have it: it was taken back."""


class InterestRow(Base):
    """An interest as it is now; at most one per user, airport, direction, window and clock. Its removal deletes it."""

    __tablename__ = "interests"
    __table_args__ = (
        UniqueConstraint(
            "user_id", "airport", "direction", "window_length", "aligned_to", name="uq_interests_windows_of_whom"
        ),
        Index("ix_interests_airport", "airport", "direction"),
        TABLE_OPTIONS,
    )

    interest_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(Uuid)
    airport: Mapped[str] = mapped_column(String(4))
    direction: Mapped[str] = mapped_column(String(10))
    window_length: Mapped[str] = mapped_column(String(2))
    aligned_to: Mapped[str] = mapped_column(String(7), server_default="utc", default="utc")
    high: Mapped[int | None]
    low: Mapped[int | None]
    high_percent: Mapped[int | None]
    low_percent: Mapped[int | None]
    for_windows: Mapped[int]
    repeat: Mapped[bool]
    effective_from: Mapped[datetime] = mapped_column(UtcDateTime)
    version: Mapped[int] = mapped_column(BigInteger)
    told_version: Mapped[int] = mapped_column(BigInteger, server_default="0", default=0)
    """The newest version of which is noted that its alerts were raised and mailed, as far as there were any."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)

    def value(self) -> Interest:
        """Return the row's present values as a frozen domain `Interest`."""
        stored = {name: getattr(self, name) for name in _STORED_AS_THEY_ARE}
        direction, window = Direction(self.direction), Window(self.window_length)
        return Interest(**stored, direction=direction, window=window, aligned_to=AlignedTo(self.aligned_to))


class CoverageRow(Base):
    """The cursor of one airport and direction: all flights in [covered_from, covered_until) are stored and published.

    Stored flights from before `covered_from` are from before a gap, or will be deleted by the retention.
    """

    __tablename__ = "coverage"
    __table_args__ = TABLE_OPTIONS

    airport: Mapped[str] = mapped_column(String(4), primary_key=True)
    direction: Mapped[str] = mapped_column(String(10), primary_key=True)
    covered_from: Mapped[datetime] = mapped_column(UtcDateTime)
    covered_until: Mapped[datetime] = mapped_column(UtcDateTime)
    corrected_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Flights before this time need no correction: collected twice, or late enough once. None: as `covered_from`."""
    incomplete_correction: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Begin of the last correction whose answer lacked stored flights: that correction is made once more."""
    doubted_day: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Begin of an interval whose answer is doubted: it had no flight, but the airport usually has some, or had on that
    day, if this is before `covered_until`: the interval of a correction."""
    doubted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Time of the first such answer; some time later the interval is asked for again. None: no answer is doubted."""
    told_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Coverage of which is noted that its alerts were raised and mailed ends here. None: none is noted yet."""
    gap_from: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Begin of the last range that will never be collected. None: there was none yet."""
    gap_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """End of that range."""


class FlightRow(Base):
    """A departure or an arrival of a flight at an airport with coverage."""

    __tablename__ = "flights"
    __table_args__ = (
        UniqueConstraint("airport", "direction", "icao24", "first_seen", name="uq_flights_seen_once"),
        Index("ix_flights_event_time", "airport", "direction", "event_time"),
        Index("ix_flights_latest", "airport", "direction", "id"),
        ForeignKeyConstraint(("airport", "direction"), ("coverage.airport", "coverage.direction")),
        TABLE_OPTIONS,
    )

    id: Mapped[int] = mapped_column(AUTO_ID, primary_key=True, autoincrement=True)
    airport: Mapped[str] = mapped_column(String(4))
    direction: Mapped[str] = mapped_column(String(10))
    icao24: Mapped[str] = mapped_column(String(6))
    callsign: Mapped[str] = mapped_column(String(8))
    first_seen: Mapped[datetime] = mapped_column(UtcDateTime)
    last_seen: Mapped[datetime] = mapped_column(UtcDateTime)
    event_time: Mapped[datetime] = mapped_column(UtcDateTime)
    """As first published: first_seen of a departure, last_seen of an arrival, or a live movement's. Never changes."""
    other_airport: Mapped[str] = mapped_column(String(4))


class LastPollRow(Base):
    """The time of the last API call for an airport and direction, stored before the call; the planner orders by it."""

    __tablename__ = "turns"
    __table_args__ = TABLE_OPTIONS

    airport: Mapped[str] = mapped_column(String(4), primary_key=True)
    direction: Mapped[str] = mapped_column(String(10), primary_key=True)
    asked_at: Mapped[datetime] = mapped_column(UtcDateTime)
    uncounted_begin: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Begin of the last interval whose answer had too many rows that cannot be counted. None: there was none yet."""
    uncounted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Time of that answer; some time later the interval is asked for again."""


class CreditsRow(Base):
    """The credits of one bucket spent on one UTC day, and the pause that the source required for it, if any.

    The table has one row for each bucket (`collector.settled.quota.Bucket`). The first write on a new day sets its
    credits back to 0, and keeps the pause.
    """

    __tablename__ = "credits"
    __table_args__ = TABLE_OPTIONS

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    day: Mapped[datetime] = mapped_column(UtcDateTime)
    """The UTC midnight that the day begins with, on the service's clock."""
    spent: Mapped[int]
    """Credits spent by us, by our own count."""
    unaccounted: Mapped[int]
    """Credits spent beyond our count, as the source reports."""
    paused_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """The source accepts no API call before this time. None: there was no pause yet."""
    live_spent: Mapped[int] = mapped_column(server_default="0", default=0)
    """The part of `spent` for departures of the day itself."""
    level: Mapped[int] = mapped_column(BigInteger, server_default="0", default=0)
    """The round of the people that was served last, in microcredits: who has paid less is counted as having paid this.
    A new day does not change it."""


class PersonRow(Base):
    """The counts of one person that limits and the fair queue need; adding an interest of theirs locks the row."""

    __tablename__ = "people"
    __table_args__ = TABLE_OPTIONS

    user_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    paid: Mapped[int] = mapped_column(BigInteger, default=0)
    """Microcredits; see `collector.settled.shares`."""
    minute: Mapped[int] = mapped_column(BigInteger, default=0)
    """The minute of the last write, counted from the epoch."""
    writes: Mapped[int] = mapped_column(default=0)
    """Number of writes in that minute."""
    read_minute: Mapped[int] = mapped_column(BigInteger, server_default="0", default=0)
    """The minute of the last costly read, counted from the epoch."""
    reads: Mapped[int] = mapped_column(server_default="0", default=0)
    """Number of costly reads in that minute."""
    past_windows_until: Mapped[int] = mapped_column(BigInteger, server_default="0", default=0)
    """When the past windows that the person's changes have had judged are paid off, in milliseconds since the epoch."""


class NightlyRecordRow(Base):
    """The evidence about the source's record of one UTC day and direction; see `collector.settled.evidence`."""

    __tablename__ = "nightly_records"
    __table_args__ = TABLE_OPTIONS

    day: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
    direction: Mapped[str] = mapped_column(String(10), primary_key=True)
    asked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    attempts: Mapped[int]
    airport: Mapped[str | None] = mapped_column(String(4))
    flights: Mapped[int]
    digest: Mapped[str | None] = mapped_column(String(64))
    there_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    whole_since: Mapped[datetime | None] = mapped_column(UtcDateTime)


class UnheardRow(Base):
    """An airport and direction without coverage that was asked for: no flight was in the answers.

    The airport is unheard unless its other direction has coverage; see `collector.unheard`.
    """

    __tablename__ = "unheard"
    __table_args__ = TABLE_OPTIONS

    airport: Mapped[str] = mapped_column(String(4), primary_key=True)
    direction: Mapped[str] = mapped_column(String(10), primary_key=True)
    since: Mapped[datetime] = mapped_column(UtcDateTime)
    """Begin of the first of the intervals, without a hole between them, that were asked for up to `asked_until`."""
    asked_until: Mapped[datetime] = mapped_column(UtcDateTime)
    """End of the last interval that was asked for: the next one begins here."""


class UnheardNoticeRow(Base):
    """The mark that a user was notified of an unheard airport; deleted once the airport is heard."""

    __tablename__ = "unheard_notices"
    __table_args__ = TABLE_OPTIONS

    airport: Mapped[str] = mapped_column(String(4), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)


class RetiredNoticeRow(Base):
    """The mark that a user was notified of a retired code; deleted once the user has no interest under it."""

    __tablename__ = "retired_notices"
    __table_args__ = TABLE_OPTIONS

    airport: Mapped[str] = mapped_column(String(4), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)


class ForeignAnswerRow(Base):
    """The number of foreign answers of one kind: answers in the source's name by somebody else, such as a proxy."""

    __tablename__ = "foreign_answers"
    __table_args__ = TABLE_OPTIONS

    kind: Mapped[str] = mapped_column(String(40), primary_key=True)
    answers: Mapped[int]
    last_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SourceClockRow(Base):
    """The last comparison of the service's clock with the source's. The table has one row."""

    __tablename__ = "source_clock"
    __table_args__ = TABLE_OPTIONS

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    compared_at: Mapped[datetime] = mapped_column(UtcDateTime)
    error_s: Mapped[float] = mapped_column(Float(53))
    """Seconds that the service's clock was ahead of the source's; negative: behind it."""


class EventLogRow(Base):
    """The identity of the log that events are published to, and the state of its readers. The table has one row."""

    __tablename__ = "event_log"
    __table_args__ = TABLE_OPTIONS

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cluster: Mapped[str] = mapped_column(String(64))
    topics: Mapped[str] = mapped_column(Text)
    """JSON: by the name of a topic, its id."""
    ends: Mapped[str] = mapped_column(Text)
    """JSON: by topic and partition, the largest offset that was seen at its end."""
    republishing: Mapped[bool]
    """True from the loss of the log until the stream has read everything that was told before."""
    told_flight_id: Mapped[int] = mapped_column(BigInteger)
    """Flights up to this id are noted as told; `CoverageRow.told_until` is the same for coverage."""
    compared_at: Mapped[float] = mapped_column(Float(53))
    """When a replica last began to compare the interests with the stream's, in seconds since the epoch."""
    out_of_step: Mapped[int]
    """Interests that differed from the stream's in the last comparison."""


class LeadershipRow(Base):
    """The newest leader term. The table has one row; a transaction that stores flights holds its lock and this term."""

    __tablename__ = "leadership"
    __table_args__ = TABLE_OPTIONS

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    term: Mapped[int] = mapped_column(BigInteger)


class LiveMovementRow(Base):
    """A movement that was inferred from positions and published; the settled record decides later what becomes of it.

    Its flight is in the table of flights only once the record has it, too.
    """

    __tablename__ = "live_movements"
    __table_args__ = (
        UniqueConstraint("airport", "direction", "icao24", "event_time", name="uq_live_movements_once"),
        Index("ix_live_movements_event_time", "airport", "direction", "event_time"),
        Index("ix_live_movements_latest", "airport", "direction", "id"),
        TABLE_OPTIONS,
    )

    id: Mapped[int] = mapped_column(AUTO_ID, primary_key=True, autoincrement=True)
    airport: Mapped[str] = mapped_column(String(4))
    direction: Mapped[str] = mapped_column(String(10))
    icao24: Mapped[str] = mapped_column(String(6))
    callsign: Mapped[str] = mapped_column(String(8))  # empty if unknown
    event_time: Mapped[datetime] = mapped_column(UtcDateTime)
    """As published: also what the stream knows the flight by."""
    evidence: Mapped[str] = mapped_column(String(20))
    """A value of `collector.live.movements.Evidence`."""
    feed: Mapped[str] = mapped_column(String(20))
    """The feed of positions that showed it first."""
    found_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """The stated time of the poll that revealed it."""
    outcome: Mapped[str] = mapped_column(String(10))  # a value of LiveOutcome


class LiveCoverageRow(Base):
    """A stretch [begin, end) in which the rule of live coverage says that all movements of an airport were found.

    Stretches of one airport and direction do not overlap; one that goes on where another ended extends it.
    """

    __tablename__ = "live_coverage"
    __table_args__ = (Index("ix_live_coverage_end", "airport", "direction", "end_at"), TABLE_OPTIONS)

    id: Mapped[int] = mapped_column(AUTO_ID, primary_key=True, autoincrement=True)
    airport: Mapped[str] = mapped_column(String(4))
    direction: Mapped[str] = mapped_column(String(10))
    begin_at: Mapped[datetime] = mapped_column(UtcDateTime)
    end_at: Mapped[datetime] = mapped_column(UtcDateTime)
    published: Mapped[bool]
    """False if the airport agreed badly with the record at that time, so that the stretch was not published."""


class LiveAgreementRow(Base):
    """The number of movements of a UTC day that live detection and the settled record share, by airport, direction."""

    __tablename__ = "live_agreement"
    __table_args__ = TABLE_OPTIONS

    airport: Mapped[str] = mapped_column(String(4), primary_key=True)
    direction: Mapped[str] = mapped_column(String(10), primary_key=True)
    day: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
    recorded: Mapped[int]
    """Flights of the record within the stretches of `live_coverage`."""
    live: Mapped[int]
    """Movements that were found live within these stretches."""
    matched: Mapped[int]
    """Those that both have."""
    added: Mapped[int]
    """Flights that the record added to the published ones, of the whole day."""
    retracted: Mapped[int]
    """Movements that were retracted, of the whole day."""
    hourly: Mapped[str] = mapped_column(Text)
    """JSON: for each hour of the day, [flights of the record, movements found live]."""


class LiveStateRow(Base):
    """The state of one feed of positions after its last stored poll, for the leader that takes over."""

    __tablename__ = "live_state"
    __table_args__ = TABLE_OPTIONS

    feed: Mapped[str] = mapped_column(String(20), primary_key=True)
    format: Mapped[str] = mapped_column(String(40))
    """What wrote the body: a state of another format is worth nothing."""
    stated_at: Mapped[float] = mapped_column(Float(53))
    """The time of the last poll in it, in seconds since the epoch, on the source's clock."""
    body: Mapped[bytes] = mapped_column(LargeBinary(1 << 24))
