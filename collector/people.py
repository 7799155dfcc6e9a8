"""Storage of the table `people`: what each person has paid of the credits, their writes and costly reads of the present
minute, and the past windows that their changes have had judged.

Each function runs in the caller's transaction. A person is a user id; there is no name.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, case, delete, select, update
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.orm import InstrumentedAttribute, Session

from collector.model import CreditsRow, InterestRow, PersonRow
from collector.settled.quota import Bucket
from collector.settled.shares import NO_PAYMENTS, ROUND, Bill, Payments, charge

T = TypeVar("T")

_MINUTE_MS: Final = 60_000

_BATCH: Final = 500
"""Number of people in one statement."""


def load_payments(session: Session) -> Payments:
    """Return what each person has paid, and the level of the fair queue; nothing is locked."""
    rows = session.execute(select(PersonRow.user_id, PersonRow.paid))
    return Payments(_load_level(session), {row.user_id: row.paid for row in rows})


def charge_people(session: Session, bill: Bill, price: int) -> Mapping[UUID, int]:
    """Charge a call of this price (credits) to the people of its bill, and return what each paid (microcredits).

    The level rises to that of the bill. The caller holds the lock of the credits' row, which exists.
    """
    paid: dict[UUID, int] = {}
    for people in _split(sorted(bill.people)):
        query = select(PersonRow.user_id, PersonRow.paid).where(PersonRow.user_id.in_(people)).with_for_update()
        paid |= {row.user_id: row.paid for row in session.execute(query)}
    payments, parts = charge(Payments(_load_level(session), paid), bill, price)
    for row in session.scalars(select(CreditsRow).where(CreditsRow.id == Bucket.FLIGHTS)):
        row.level = payments.level
    _store_paid(session, payments.paid)
    return parts


def refund_people(session: Session, parts: Mapping[UUID, int]) -> None:
    """Give back what people paid of a call that failed; the level stays."""
    for people in _split(sorted(parts)):
        for row in session.scalars(select(PersonRow).where(PersonRow.user_id.in_(people)).with_for_update()):
            row.paid = max(row.paid - parts[row.user_id], 0)


def join_queue(session: Session, user_id: UUID) -> None:
    """Insert or lock a person's row, and let them begin in the next round if they do not wait in the present one.

    Called before an interest of theirs is added. Without this, those who come anew, or again and again, would be served
    before all others, for ever.
    """
    level = _load_level(session)
    begin = case((PersonRow.paid < level, level + ROUND), else_=PersonRow.paid)
    _upsert(session, [{"user_id": user_id, "paid": level + ROUND, "minute": 0, "writes": 0}], {"paid": begin})


def count_write(session: Session, user_id: UUID, minute: int) -> int:
    """Count a write of a person in a minute (since the epoch), and return the number of writes in it so far.

    A replica whose clock is a minute behind counts in the other's minute. A minute farther ahead was stored by a wrong
    clock, and counts as none.
    """
    return _count_in_minute(session, user_id, minute, PersonRow.minute, PersonRow.writes)


def count_read(session: Session, user_id: UUID, minute: int) -> int:
    """Count a costly read of a person in a minute (since the epoch), and return their number, as `count_write`."""
    return _count_in_minute(session, user_id, minute, PersonRow.read_minute, PersonRow.reads)


def _count_in_minute(
    session: Session,
    user_id: UUID,
    minute: int,
    last: InstrumentedAttribute[int],
    number: InstrumentedAttribute[int],
) -> int:
    """Count one more in the column `number` of a person's row, if the minute in `last` is the present one; else begin.

    Return the number of the minute so far.
    """
    is_same = last.in_([minute, minute + 1])
    values: dict[str, ColumnElement[Any]] = {  # in this order: MySQL assigns one after the other
        number.key: case((is_same, number + 1), else_=1),
        last.key: case((is_same, last), else_=minute),
    }
    row = {"user_id": user_id, "paid": 0, "minute": 0, "writes": 0, last.key: minute, number.key: 1}
    _upsert(session, [row], values)
    return session.scalar(select(number).where(PersonRow.user_id == user_id)) or 0


def pay_past_windows(session: Session, user_id: UUID, price_ms: int, most_ms: int, now_ms: int) -> int:
    """Charge a person for past windows if at most `most_ms` are then left to pay; return by how much it would be more.

    What is left to pay falls by a millisecond each millisecond (a leaky bucket). 0 or less: the price was added. All
    times are in milliseconds, `now_ms` since the epoch. What is an hour more than `most_ms` was stored by a wrong
    clock, and counts as nothing. The person's row is inserted if there is none, and is locked until the transaction
    ends.
    """
    until = PersonRow.past_windows_until
    bounded = case((until < now_ms, now_ms), (until > now_ms + most_ms + 60 * _MINUTE_MS, now_ms), else_=until)
    row = {"user_id": user_id, "paid": 0, "minute": 0, "writes": 0, "past_windows_until": now_ms}
    _upsert(session, [row], {"past_windows_until": bounded})
    due = (session.scalar(select(until).where(PersonRow.user_id == user_id)) or now_ms) + price_ms
    excess = due - (now_ms + most_ms)
    if excess <= 0:
        session.execute(update(PersonRow).where(PersonRow.user_id == user_id).values(past_windows_until=due))
    return excess


def delete_person(session: Session, user_id: UUID) -> None:
    """Delete a person's row; do nothing if there is none."""
    session.execute(delete(PersonRow).where(PersonRow.user_id == user_id))


def delete_idle_people(session: Session, minute: int) -> None:
    """Delete the rows of people who have no interest, have nothing to pay off, and wrote and read nothing lately.

    They have paid no more credits than the level, and no past windows are left to pay. `minute`: the present one. A
    person who comes again begins as with such a row. At most 500 rows are deleted in a call.
    """
    idle = (
        select(PersonRow.user_id)
        .where(
            PersonRow.paid <= _load_level(session),
            PersonRow.minute < minute - 1,
            PersonRow.read_minute < minute - 1,
            PersonRow.past_windows_until <= minute * _MINUTE_MS,
            PersonRow.user_id.not_in(select(InterestRow.user_id)),
        )
        .limit(_BATCH)
    )
    for user_id in session.scalars(idle).all():
        has_interest = select(InterestRow.interest_id).where(InterestRow.user_id == user_id).exists()
        session.execute(delete(PersonRow).where(PersonRow.user_id == user_id, ~has_interest))


def _load_level(session: Session) -> int:
    """Return the level of the fair queue; 0 before the first call."""
    return session.scalar(select(CreditsRow.level).where(CreditsRow.id == Bucket.FLIGHTS)) or NO_PAYMENTS.level


def _store_paid(session: Session, paid: Mapping[UUID, int]) -> None:
    """Store what people have paid."""
    rows = [{"user_id": each, "paid": amount, "minute": 0, "writes": 0} for each, amount in sorted(paid.items())]
    for batch in _split(rows):
        _upsert(session, batch, {"paid": None})


def _split(items: Sequence[T]) -> Iterator[list[T]]:
    """Yield the items in lists of at most `_BATCH`."""
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _upsert(
    session: Session, rows: Sequence[Mapping[str, object]], values: Mapping[str, ColumnElement[Any] | None]
) -> None:
    """Insert rows; of those that exist, set these columns in this order. None: to the value of the row to insert.

    The rows are locked until the transaction ends.
    """
    if session.get_bind().dialect.name == "sqlite":
        statement = sqlite.insert(PersonRow).values(rows)
        inserted = statement.excluded
        session.execute(
            statement.on_conflict_do_update(
                index_elements=[PersonRow.user_id], set_={k: inserted[k] if v is None else v for k, v in values.items()}
            )
        )
        return
    on_mysql = mysql.insert(PersonRow).values(rows)
    news = on_mysql.inserted
    session.execute(on_mysql.on_duplicate_key_update([(k, news[k] if v is None else v) for k, v in values.items()]))
