"""What is remembered of a person."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from notifier.delivery.user_state import HOUR, UserState, compute_batch_id

NOW = datetime(2026, 11, 23, tzinfo=UTC)
A, B = UUID(int=1), UUID(int=2)

instants = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))
people = st.builds(
    lambda mailed, way, off: UserState(tuple(mailed), frozenset(way), tuple(off)),
    st.lists(instants.map(lambda each: each.replace(microsecond=each.microsecond // 1000 * 1000)), max_size=5),
    st.sets(st.uuids(), max_size=5),
    st.lists(
        st.tuples(st.uuids(), instants.map(lambda each: each.replace(microsecond=each.microsecond // 1000 * 1000))),
        max_size=5,
    ),
)


@given(people)
def test_what_is_written_is_what_is_read(person: UserState) -> None:
    """To the millisecond."""
    assert UserState.decode(person.encode()) == person


@given(instants, st.uuids())
def test_what_was_just_made_compares_equal_to_what_is_read(now: datetime, name: UUID) -> None:
    """Else each mail would be written down once more, for its microseconds."""
    for person in (UserState().with_mail_sent(now, (), 12), UserState().with_deferred_batches((name,), now, now)):
        assert UserState.decode(person.encode()) == person


@pytest.mark.parametrize(
    "entry",
    [None, b"\xff", b"\x12\x01a", b"\x08" + b"\xff" * 8 + b"\x7f"],
    ids=["none", "no message", "no id", "no time of the calendar"],
)
def test_what_cannot_be_read_is_nobody_known(entry: bytes | None) -> None:
    """A mail too many is better than a worker that never gets past a person."""
    assert UserState.decode(entry) == UserState()


@given(st.binary(max_size=60))
def test_no_bytes_break_it(entry: bytes) -> None:
    """Another version may write other things."""
    assert isinstance(UserState.decode(entry), UserState)


def test_the_name_of_alerts_is_that_of_their_set() -> None:
    """In whatever order."""
    assert compute_batch_id([A, B]) == compute_batch_id([B, A]) != compute_batch_id([A])


@given(st.lists(st.integers(0, 7200), max_size=12), st.integers(1, 5))
def test_so_many_in_any_hour(pauses: list[int], per_hour: int) -> None:
    """A mail that waits as it is told to never makes one more than there may be."""
    now, person, sent = NOW, UserState(), []
    for pause in pauses:
        now += timedelta(seconds=pause)
        now = person.compute_next_mail_time(now, per_hour)
        person = person.with_mail_sent(now, (), per_hour)
        sent.append(now)
    for one, later in zip(sent, sent[per_hour:], strict=False):
        assert later - one >= HOUR
    assert len(person.mailed_at) <= per_hour


def test_no_more_is_remembered_than_the_limit_asks_for() -> None:
    """Without one nothing: else each of thousands of mails in an hour would write down all those before it. Nor do
    mails that are sent again make it more."""
    person = unlimited = UserState()
    for _ in range(100):
        person, unlimited = person.with_mail_sent(NOW, (), 12), unlimited.with_mail_sent(NOW, (), None)
    assert (unlimited, unlimited.compute_next_mail_time(NOW, None)) == (UserState(), NOW)
    assert (len(person.mailed_at), person.compute_next_mail_time(NOW, 12)) == (12, NOW + HOUR)


def test_when_nothing_of_a_person_matters_any_more() -> None:
    """An hour after the last mail, and after what was put off; and never while a mail is on its way."""
    mailed, put_off = UserState().with_mail_sent(NOW, (), 12), UserState().with_deferred_batches((A,), NOW, NOW)
    for person in (mailed, put_off):
        assert [person.is_expired(NOW + each) for each in (HOUR - timedelta(seconds=1), HOUR)] == [False, True]
    assert not mailed.with_mail_in_flight((A,)).is_expired(NOW + 1000 * HOUR)


def test_whatever_becomes_of_a_mail_it_is_on_its_way_no_longer() -> None:
    """Taken, put off or dropped; and what waited under its names waits no longer."""
    person = UserState().with_deferred_batches((A, B), NOW, NOW).with_mail_in_flight([UUID(int=9)])
    mailed = person.with_mail_sent(NOW, (A,), 12)
    assert (mailed.in_flight_ids, mailed.deferred_batches) == (frozenset(), ((B, NOW),))
    assert person.without_batches((A, B)) == UserState()
    later = NOW + timedelta(minutes=1)
    assert person.with_deferred_batches((A,), later, NOW) == UserState(deferred_batches=((B, NOW), (A, later)))


def test_what_is_long_overdue_is_forgotten() -> None:
    """A retry that was deleted must not hold anybody up for ever, nor the entry grow."""
    person = UserState().with_deferred_batches((A,), NOW, NOW)
    assert person.with_deferred_batches((B,), NOW + HOUR, NOW + HOUR).deferred_batches == ((B, NOW + HOUR),)


def test_it_is_known_what_was_put_off_again() -> None:
    """Of two records of the same alerts the one that may be tried later is the last; to the millisecond, as is kept."""
    until = NOW + timedelta(microseconds=1_500)
    person = UserState().with_deferred_batches((A,), until, NOW)
    assert person.has_newer_retry(A, NOW)
    assert not person.has_newer_retry(A, until)
    assert not person.has_newer_retry(A, until + timedelta(seconds=1))
    assert not person.has_newer_retry(B, NOW)
