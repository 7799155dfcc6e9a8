"""What is kept about a person is exported: each column of each table that names them, and nothing of anybody else."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from sqlalchemy import Table

from collector.errors import BadCursorError
from collector.interest_versions import FormerVersion, InterestVersionRow
from collector.model import OUTBOX, SCHEMA, InterestRow, PersonRow, RetiredNoticeRow, UnheardNoticeRow
from collector.person_export import ExportPage, PersonExports, PersonRecord, StoredInterest
from domain.interests import Direction, Interest
from domain.windows import AlignedTo, Window
from tests.collector.conftest import ANN, BOB, NOON, Service, wish

EXPORTED: Final = {"interests", "interest_versions", "people", "unheard_notices", "retired_notices"}
"""The tables that hold something about a person."""


def names_person(table: Table) -> bool:
    """Return True if a table has a column with the id of a person; the outbox, which has it in its bytes, aside."""
    return "user_id" in table.columns and table is not OUTBOX.rows


def test_every_table_that_names_a_person_is_exported() -> None:
    """Whoever adds one adds it to the export, too."""
    assert {name for name, table in SCHEMA.tables.items() if names_person(table)} == EXPORTED


def test_every_column_is_exported(service: Service) -> None:
    """As it is stored; of another person nothing."""
    created, updated, effective = NOON - timedelta(days=3), NOON - timedelta(days=2), NOON - timedelta(days=1)
    rows = []
    for person, airport in ((ANN, "KJFK"), (BOB, "LICC")):
        interest = InterestRow(
            interest_id=person, user_id=person, airport=airport, direction="both", window_length="6h",
            aligned_to="airport", high=31, low=None, high_percent=None, low_percent=33, for_windows=4, repeat=True,
            effective_from=effective, version=5, told_version=2, created_at=created, updated_at=updated,
        )  # fmt: skip
        former = InterestVersionRow(
            interest_id=person, user_id=person, airport=airport, direction="arrivals", window_length="1d",
            aligned_to="utc", high=None, low=32, high_percent=134, low_percent=None, for_windows=3, repeat=False,
            effective_from=effective, version=4, since_at=created, until_at=updated,
        )  # fmt: skip
        until = 1_360_000_000_000 + person.int
        rows += [
            interest,
            former,
            PersonRow(user_id=person, paid=7_000 + person.int, minute=22_000_000, writes=9, past_windows_until=until),
            UnheardNoticeRow(airport=airport, user_id=person),
            RetiredNoticeRow(airport=airport, user_id=person),
        ]
    with service.database.transaction() as session:
        session.add_all(rows)
    assert {row.__tablename__ for row in rows} == EXPORTED
    interest = Interest(
        interest_id=ANN, user_id=ANN, airport="KJFK", direction=Direction.BOTH, window=Window.SIX_HOURS, high=31,
        low=None, for_windows=4, repeat=True, effective_from=effective, version=5, high_percent=None, low_percent=33,
        aligned_to=AlignedTo.AIRPORT,
    )  # fmt: skip
    before = replace(
        interest, direction=Direction.ARRIVALS, window=Window.ONE_DAY, high=None, low=32, high_percent=134,
        low_percent=None, for_windows=3, repeat=False, version=4, aligned_to=AlignedTo.UTC,
    )  # fmt: skip
    assert PersonExports(service.database).load_page(ANN, "") == ExportPage(
        [StoredInterest(interest, created, updated, told_version=2)],
        PersonRecord(
            7_001,
            datetime.fromtimestamp(22_000_000 * 60, UTC),
            9,
            datetime.fromtimestamp(1_360_000_000, UTC) + timedelta(milliseconds=1),
        ),
        ["KJFK"],
        ["KJFK"],
        [FormerVersion(before, created, updated)],
    )


def test_nothing_is_changed_and_nobody_is_nobody(service: Service) -> None:
    """Not even a row of a person is made."""
    exports = PersonExports(service.database)
    service.set(wish(), BOB)
    assert exports.load_page(ANN, "") == ExportPage([], None, [], [], [])
    assert exports.load_page(BOB, "") == exports.load_page(BOB, "")
    with service.database.transaction() as session:
        assert session.get(PersonRow, ANN) is None


def test_a_page_that_is_just_full_is_the_last_one(service: Service) -> None:
    """No empty page follows; a token from another's export shows nothing of theirs."""
    for airport in ("KJFK", "LICC", "EDDF"):
        service.set(wish(airport), ANN)
        service.set(wish(airport), BOB)
    exports = PersonExports(service.database, page_size=3)
    full = exports.load_page(ANN, "")
    assert (len(full.interests), full.next_token) == (3, "")
    first = PersonExports(service.database, page_size=1).load_page(BOB, "")
    rest = exports.load_page(ANN, first.next_token)
    assert all(each.interest.user_id == ANN for each in rest.interests)
    with pytest.raises(BadCursorError):
        exports.load_page(ANN, "1; DROP TABLE interests")
