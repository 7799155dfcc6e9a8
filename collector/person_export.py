"""The export of everything that the collector keeps about a person, read in pages. ADR 64."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from chassis.db.database import Database
from collector.errors import BadCursorError
from collector.interest_versions import FormerVersion, load_versions_of_user
from collector.model import InterestRow, PersonRow, RetiredNoticeRow, UnheardNoticeRow
from domain.interests import Interest

PAGE_SIZE: Final = 1_000
"""Most interests in a page, so that its message stays far below the 4 MB that gRPC accepts."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StoredInterest:
    """A stored interest, with the times at which it was set and changed, and its last version that was mailed."""

    interest: Interest
    created_at: datetime
    updated_at: datetime
    told_version: int
    """The newest version whose alerts are known to be mailed; 0: none."""


@dataclass(frozen=True, slots=True)
class PersonRecord:
    """The counts that limit one person's changes and costly reads."""

    paid: int
    """Microcredits; see `collector.settled.shares`."""
    minute: datetime | None
    """Begin of the minute in which writes were counted last; None: none were."""
    writes: int
    past_windows_until: datetime | None
    """The time at which the person's budget of past windows is whole again; None: none was used."""
    read_minute: datetime | None
    """Begin of the minute in which costly reads were counted last; None: none were."""
    reads: int


@dataclass(frozen=True, slots=True)
class ExportPage:
    """A page of what is kept about a person; all but the interests is in the first one."""

    interests: Sequence[StoredInterest]
    """In the order of their ids."""
    person: PersonRecord | None = None
    unheard_notices: Sequence[str] = ()
    """ICAO codes of the airports that the person was told to be unheard, in their order."""
    retired_notices: Sequence[str] = ()
    """ICAO codes that the person was told to be retired, in their order."""
    former_versions: Sequence[FormerVersion] = ()
    """Former versions of the person's interests, the oldest first; at most MAX_VERSIONS."""
    next_token: str = ""
    """The token of the next page; empty: this is the last one."""


class PersonExports:
    """The use case of reading what is kept about a person. Safe for several threads."""

    def __init__(self, database: Database, page_size: int = PAGE_SIZE) -> None:
        self._database = database
        self._page_size = page_size

    def load_page(self, user_id: UUID, token: str) -> ExportPage:
        """Return the page with this token, the first one if it is empty; a page without content for unknown users.

        Raises BadCursorError for a token that this service has not issued, and DatabaseUnavailableError.
        """
        after = _parse_token(token)
        with self._database.reading() as session:
            interests, next_token = self._load_interests(session, user_id, after)
            if after is not None:
                return ExportPage(interests, next_token=next_token)
            return ExportPage(
                interests,
                _load_person(session, user_id),
                _load_airports(session, UnheardNoticeRow, user_id),
                _load_airports(session, RetiredNoticeRow, user_id),
                load_versions_of_user(session, user_id),
                next_token,
            )

    def _load_interests(self, session: Session, user_id: UUID, after: UUID | None) -> tuple[list[StoredInterest], str]:
        """Return the interests after an id (None: from the first one on), and the token of the next page."""
        query = select(InterestRow).where(InterestRow.user_id == user_id).order_by(InterestRow.interest_id)
        if after is not None:
            query = query.where(InterestRow.interest_id > after)
        rows = session.scalars(query.limit(self._page_size + 1)).all()
        shown = rows[: self._page_size]
        found = [StoredInterest(each.value(), each.created_at, each.updated_at, each.told_version) for each in shown]
        return found, str(shown[-1].interest_id) if len(rows) > len(shown) else ""


def _parse_token(token: str) -> UUID | None:
    """Return the id after which the page with this token begins; None for the first page. Raises BadCursorError."""
    try:
        return UUID(token) if token else None
    except ValueError:
        raise BadCursorError("page_token must be that of the answer before") from None


def _load_person(session: Session, user_id: UUID) -> PersonRecord | None:
    """Return the counts that limit a person's changes and reads; None if nothing was counted."""
    row = session.get(PersonRow, user_id)
    if row is None:
        return None
    return PersonRecord(
        row.paid,
        _EPOCH + timedelta(minutes=row.minute) if row.minute else None,
        row.writes,
        _EPOCH + timedelta(milliseconds=row.past_windows_until) if row.past_windows_until else None,
        _EPOCH + timedelta(minutes=row.read_minute) if row.read_minute else None,
        row.reads,
    )


def _load_airports(
    session: Session, marks: type[UnheardNoticeRow] | type[RetiredNoticeRow], user_id: UUID
) -> Sequence[str]:
    """Return, in their order, the ICAO codes about which a person was notified; `marks`: the table of that notice."""
    return session.scalars(select(marks.airport).where(marks.user_id == user_id).order_by(marks.airport)).all()
