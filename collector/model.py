"""The collector's tables."""

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, Integer, MetaData, String, UniqueConstraint, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chassis.db.database import TABLE_OPTIONS, UtcDateTime
from chassis.db.outbox import Outbox
from domain.interests import Direction, Interest
from domain.windows import Window

SCHEMA: Final = MetaData()
OUTBOX: Final = Outbox(SCHEMA)

_ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers only INTEGER keys by itself


class Base(DeclarativeBase):
    metadata = SCHEMA


class InterestRow(Base):
    """An interest as its newest version has it."""

    __tablename__ = "interests"
    __table_args__ = (
        UniqueConstraint("user_id", "airport", "direction", "window_length", name="uq_interests_what_of_whom"),
        Index("ix_interests_airport", "airport", "direction"),
        TABLE_OPTIONS,
    )

    interest_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(Uuid)
    airport: Mapped[str] = mapped_column(String(4))
    direction: Mapped[str] = mapped_column(String(10))
    window_length: Mapped[str] = mapped_column(String(2))
    high: Mapped[int | None]
    low: Mapped[int | None]
    for_windows: Mapped[int]
    repeat: Mapped[bool]
    effective_from: Mapped[datetime] = mapped_column(UtcDateTime)
    version: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)

    def value(self) -> Interest:
        """The interest as the domain has it."""
        return Interest(
            interest_id=self.interest_id,
            user_id=self.user_id,
            airport=self.airport,
            direction=Direction(self.direction),
            window=Window(self.window_length),
            high=self.high,
            low=self.low,
            for_windows=self.for_windows,
            repeat=self.repeat,
            effective_from=self.effective_from,
            version=self.version,
        )


class CoverageRow(Base):
    """The cursor of one airport and direction: all flights in [covered_from, covered_until) are stored, and told of.

    What is stored from before `covered_from` lies before a gap, or waits to be swept.
    """

    __tablename__ = "coverage"
    __table_args__ = TABLE_OPTIONS

    airport: Mapped[str] = mapped_column(String(4), primary_key=True)
    direction: Mapped[str] = mapped_column(String(10), primary_key=True)
    covered_from: Mapped[datetime] = mapped_column(UtcDateTime)
    covered_until: Mapped[datetime] = mapped_column(UtcDateTime)
    corrected_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """What lies before was collected once more, or late enough the first time. None: nothing was."""
    incomplete_correction: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Where the last correction began whose answer lacked flights that are stored: it is asked for a second time."""


class FlightRow(Base):
    """A flight, once for its departure and once for its arrival."""

    __tablename__ = "flights"
    __table_args__ = (
        UniqueConstraint("airport", "direction", "icao24", "first_seen", name="uq_flights_seen_once"),
        Index("ix_flights_event_time", "airport", "direction", "event_time"),
        ForeignKeyConstraint(("airport", "direction"), ("coverage.airport", "coverage.direction")),
        TABLE_OPTIONS,
    )

    id: Mapped[int] = mapped_column(_ID, primary_key=True, autoincrement=True)
    airport: Mapped[str] = mapped_column(String(4))
    direction: Mapped[str] = mapped_column(String(10))
    icao24: Mapped[str] = mapped_column(String(6))
    callsign: Mapped[str] = mapped_column(String(8))
    first_seen: Mapped[datetime] = mapped_column(UtcDateTime)
    last_seen: Mapped[datetime] = mapped_column(UtcDateTime)
    event_time: Mapped[datetime] = mapped_column(UtcDateTime)
    """What was first published: first_seen of a departure, last_seen of an arrival."""
    other_airport: Mapped[str] = mapped_column(String(4))


class TurnRow(Base):
    """When an airport and direction was last asked for, whatever came of it: whose turn it is follows from that."""

    __tablename__ = "turns"
    __table_args__ = TABLE_OPTIONS

    airport: Mapped[str] = mapped_column(String(4), primary_key=True)
    direction: Mapped[str] = mapped_column(String(10), primary_key=True)
    asked_at: Mapped[datetime] = mapped_column(UtcDateTime)


class CreditsRow(Base):
    """What the source was paid on one day; there is one row, which knows its day."""

    __tablename__ = "credits"
    __table_args__ = TABLE_OPTIONS

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    day: Mapped[datetime] = mapped_column(UtcDateTime)
    """The UTC midnight that the day begins with, on the service's clock."""
    spent: Mapped[int]
    """By us, as we count it."""
    unaccounted: Mapped[int]
    """What is spent beyond that, as the source says."""
    paused_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Before then the source wants no request."""


class LeadershipRow(Base):
    """The newest term of a leader; there is one row. Who stores holds its lock, and has this term."""

    __tablename__ = "leadership"
    __table_args__ = TABLE_OPTIONS

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    term: Mapped[int] = mapped_column(BigInteger)
