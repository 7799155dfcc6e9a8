"""What is kept about a person is exported: each column of each table that names them, and nothing of anybody else."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import pytest
from sqlalchemy import Table, select, update

from collector.errors import BadCursorError
from collector.interest_versions import FormerVersion, InterestVersionRow
from collector.model import OUTBOX, SCHEMA, InterestRow, PersonRow, RetiredNoticeRow, UnheardNoticeRow
from collector.person_export import ExportPage, PersonExports, PersonRecord, StoredInterest
from domain.interests import Direction, Interest
from domain.windows import AlignedTo, Window
from tests.collector.conftest import ANN, BOB, NOON, ON_SQLITE, Service, wish

EXPORTED: Final = {"interests", "interest_versions", "people", "unheard_notices", "retired_notices"}
"""The tables that hold something about a person."""
NOT_EXPORTED: Final = {("interest_versions", "id")}
"""The columns that say nothing about the person: a number that the table gives its rows."""


def names_person(table: Table) -> bool:
    """Return True if a table has a column with the id of a person; the outbox, which has it in its bytes, aside."""
    return "user_id" in table.columns and table is not OUTBOX.rows


def test_every_table_that_names_a_person_is_exported() -> None:
    """Whoever adds one adds it to the export, too."""
    assert {name for name, table in SCHEMA.tables.items() if names_person(table)} == EXPORTED


CREATED, UPDATED, EFFECTIVE = NOON - timedelta(days=3), NOON - timedelta(days=2), NOON - timedelta(days=1)


def store_rows(service: Service) -> None:
    """Store a row of Ann and one of Bob in each table, with a value in each column."""
    rows = []
    for person, airport in ((ANN, "KJFK"), (BOB, "LICC")):
        interest = InterestRow(
            interest_id=person, user_id=person, airport=airport, direction="both", window_length="6h",
            aligned_to="airport", high=31, low=None, high_percent=None, low_percent=33, for_windows=4, repeat=True,
            effective_from=EFFECTIVE, version=5, told_version=2, created_at=CREATED, updated_at=UPDATED,
        )  # fmt: skip
        former = InterestVersionRow(
            interest_id=person, user_id=person, airport=airport, direction="arrivals", window_length="1d",
            aligned_to="utc", high=None, low=32, high_percent=134, low_percent=None, for_windows=3, repeat=False,
            effective_from=EFFECTIVE, version=4, since_at=CREATED, until_at=UPDATED,
        )  # fmt: skip
        until = 1_360_000_000_000 + person.int
        rows += [
            interest,
            former,
            PersonRow(
                user_id=person,
                paid=7_000 + person.int,
                minute=22_000_000,
                writes=9,
                past_windows_until=until,
                read_minute=22_000_001,
                reads=8,
            ),
            UnheardNoticeRow(airport=airport, user_id=person),
            RetiredNoticeRow(airport=airport, user_id=person),
        ]
    with service.database.transaction() as session:
        session.add_all(rows)
    assert {row.__tablename__ for row in rows} == EXPORTED


def test_every_column_is_exported(service: Service) -> None:
    """As it is stored; of another person nothing."""
    store_rows(service)
    interest = Interest(
        interest_id=ANN, user_id=ANN, airport="KJFK", direction=Direction.BOTH, window=Window.SIX_HOURS, high=31,
        low=None, for_windows=4, repeat=True, effective_from=EFFECTIVE, version=5, high_percent=None, low_percent=33,
        aligned_to=AlignedTo.AIRPORT,
    )  # fmt: skip
    before = replace(
        interest, direction=Direction.ARRIVALS, window=Window.ONE_DAY, high=None, low=32, high_percent=134,
        low_percent=None, for_windows=3, repeat=False, version=4, aligned_to=AlignedTo.UTC,
    )  # fmt: skip
    assert PersonExports(service.database).load_page(ANN, "") == ExportPage(
        [StoredInterest(interest, CREATED, UPDATED, told_version=2)],
        PersonRecord(
            7_001,
            datetime.fromtimestamp(22_000_000 * 60, UTC),
            9,
            datetime.fromtimestamp(1_360_000_000, UTC) + timedelta(milliseconds=1),
            datetime.fromtimestamp(22_000_001 * 60, UTC),
            8,
        ),
        ["KJFK"],
        ["KJFK"],
        [FormerVersion(before, CREATED, UPDATED)],
    )


@pytest.mark.parametrize(
    ("table", "column"),
    [
        (name, column.name)
        for name in sorted(EXPORTED)
        for column in SCHEMA.tables[name].columns
        if (name, column.name) not in NOT_EXPORTED
    ],
)
@ON_SQLITE
def test_each_column_changes_the_export(service: Service, table: str, column: str) -> None:
    """A column that is added to a table of a person is in the export, too: another value makes another answer."""
    store_rows(service)
    exports = PersonExports(service.database)
    before = exports.load_page(ANN, "")
    rows = SCHEMA.tables[table]
    with service.database.transaction() as session:
        mine = rows.c.user_id == ANN
        present = session.execute(select(rows.c[column]).where(mine)).scalar_one()
        session.execute(update(rows).where(mine).values({column: find_other_value(column, present)}))
    assert exports.load_page(ANN, "") != before


def find_other_value(column: str, present: object) -> object:
    """Return another value that the column may have; a number if it has none at present."""
    words = {"airport": "EDDM", "direction": "departures", "window_length": "1h"}
    if column == "aligned_to":
        return "utc" if present == "airport" else "airport"
    match present:
        case bool():
            return not present
        case None:
            return 41
        case int():
            return present + 1
        case datetime():
            return present + timedelta(minutes=1)
        case UUID():
            return UUID(int=77)
    return words[column]


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
