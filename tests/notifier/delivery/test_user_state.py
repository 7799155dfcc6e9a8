"""The state of a user, its transitions and its encoding."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from notifier.delivery.user_state import HOUR, UserState, compute_batch_id

NOW = datetime(2026, 11, 23, tzinfo=UTC)
A, B = UUID(int=1), UUID(int=2)

instants = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))
people = st.builds(
    lambda mailed, way, off, corrected: UserState(tuple(mailed), frozenset(way), tuple(off), corrected),
    st.lists(instants.map(lambda each: each.replace(microsecond=each.microsecond // 1000 * 1000)), max_size=5),
    st.sets(st.uuids(), max_size=5),
    st.lists(
        st.tuples(st.uuids(), instants.map(lambda each: each.replace(microsecond=each.microsecond // 1000 * 1000))),
        max_size=5,
    ),
    st.none() | instants.map(lambda each: each.replace(microsecond=each.microsecond // 1000 * 1000)),
)


@given(people)
def test_a_state_survives_encoding_and_decoding(person: UserState) -> None:
    """Times are equal to the millisecond."""
    assert UserState.decode(person.encode()) == person


@given(instants, st.uuids())
def test_a_new_state_equals_its_decoded_copy(now: datetime, name: UUID) -> None:
    """Otherwise each mail would write the state once more, because of its microseconds."""
    for person in (
        UserState().with_mail_sent(now, (), 12),
        UserState().with_deferred_batches((name,), now, now),
        UserState().with_corrections_sent(now, ()),
    ):
        assert UserState.decode(person.encode()) == person


@pytest.mark.parametrize(
    "entry",
    [None, b"\xff", b"\x12\x01a", b"\x08" + b"\xff" * 8 + b"\x7f"],
    ids=["none", "no message", "no id", "no time of the calendar"],
)
def test_an_undecodable_entry_is_an_empty_state(entry: bytes | None) -> None:
    """A duplicate mail is better than a worker that cannot continue."""
    assert UserState.decode(entry) == UserState()


@given(st.binary(max_size=60))
def test_no_bytes_break_the_decoder(entry: bytes) -> None:
    """Another version may write other entries."""
    assert isinstance(UserState.decode(entry), UserState)


def test_a_batch_id_does_not_depend_on_the_order() -> None:
    """The id depends on the set of the alert ids only."""
    assert compute_batch_id([A, B]) == compute_batch_id([B, A]) != compute_batch_id([A])


@given(st.lists(st.integers(0, 7200), max_size=12), st.integers(1, 5))
def test_no_hour_has_more_mails_than_the_limit(pauses: list[int], per_hour: int) -> None:
    """Mails that wait until the computed time never exceed the limit."""
    now, person, sent = NOW, UserState(), []
    for pause in pauses:
        now += timedelta(seconds=pause)
        now = person.compute_next_mail_time(now, per_hour)
        person = person.with_mail_sent(now, (), per_hour)
        sent.append(now)
    for one, later in zip(sent, sent[per_hour:], strict=False):
        assert later - one >= HOUR
    assert len(person.mailed_at) <= per_hour


def test_a_state_holds_no_more_times_than_the_limit_needs() -> None:
    """A state without limit holds none; otherwise each of thousands of mails in an hour would write the times of all
    before it. Mails that are sent again add none."""
    person = unlimited = UserState()
    for _ in range(100):
        person, unlimited = person.with_mail_sent(NOW, (), 12), unlimited.with_mail_sent(NOW, (), None)
    assert (unlimited, unlimited.compute_next_mail_time(NOW, None)) == (UserState(), NOW)
    assert (len(person.mailed_at), person.compute_next_mail_time(NOW, 12)) == (12, NOW + HOUR)


def test_a_state_expires_after_an_hour_without_mail_in_flight() -> None:
    """A state expires an hour after the last mail and after the time of the last deferred batch, but never while a mail
    is in flight."""
    mailed, put_off = UserState().with_mail_sent(NOW, (), 12), UserState().with_deferred_batches((A,), NOW, NOW)
    for person in (mailed, put_off):
        assert [person.is_expired(NOW + each) for each in (HOUR - timedelta(seconds=1), HOUR)] == [False, True]
    assert not mailed.with_mail_in_flight((A,)).is_expired(NOW + 1000 * HOUR)


def test_a_mail_of_corrections_is_remembered_for_a_day() -> None:
    """So long a setting may keep the next one back; a clock that was ahead keeps it back no longer than that."""
    person = UserState().with_mail_in_flight((A,)).with_corrections_sent(NOW, ())
    assert (person.corrections_mailed_at, person.in_flight_ids) == (NOW, frozenset())
    assert [person.is_expired(NOW + each * HOUR) for each in (23, 24)] == [False, True]
    assert person.with_bounded_mail_times(NOW - 50 * HOUR).corrections_mailed_at == NOW - 50 * HOUR
    assert person.without_batches(()).corrections_mailed_at == NOW


def test_corrections_wait_for_mails_that_are_in_flight_or_deferred() -> None:
    """Until the time of a deferred mail, ten seconds at least; a record of the retry topic may be lost, and is not
    waited for any longer two minutes after its time."""
    minute, moment = timedelta(minutes=1), timedelta(seconds=10)
    person = UserState().with_deferred_batches((A,), NOW, NOW)
    assert person.compute_quiet_time(NOW - 3 * minute) == NOW
    assert person.compute_quiet_time(NOW + minute) == NOW + minute + moment
    assert person.compute_quiet_time(NOW + 2 * minute) == NOW + 2 * minute
    assert UserState().with_mail_in_flight((A,)).compute_quiet_time(NOW) == NOW + moment
    assert UserState().compute_quiet_time(NOW) == NOW


def test_every_transition_ends_the_flight_of_a_mail() -> None:
    """A mail that is sent, deferred or dropped is no longer in flight, and its batches are no longer deferred."""
    person = UserState().with_deferred_batches((A, B), NOW, NOW).with_mail_in_flight([UUID(int=9)])
    mailed = person.with_mail_sent(NOW, (A,), 12)
    assert (mailed.in_flight_ids, mailed.deferred_batches) == (frozenset(), ((B, NOW),))
    assert person.without_batches((A, B)) == UserState()
    later = NOW + timedelta(minutes=1)
    assert person.with_deferred_batches((A,), later, NOW) == UserState(deferred_batches=((B, NOW), (A, later)))


def test_overdue_batches_are_dropped() -> None:
    """A deleted retry must not delay a user for ever, nor make the entry grow."""
    person = UserState().with_deferred_batches((A,), NOW, NOW)
    assert person.with_deferred_batches((B,), NOW + HOUR, NOW + HOUR).deferred_batches == ((B, NOW + HOUR),)


def test_has_newer_retry_compares_times_to_the_millisecond() -> None:
    """The record with the later time is newer than the other record of the same batch."""
    until = NOW + timedelta(microseconds=1_500)
    person = UserState().with_deferred_batches((A,), until, NOW)
    assert person.has_newer_retry(A, NOW)
    assert not person.has_newer_retry(A, until)
    assert not person.has_newer_retry(A, until + timedelta(seconds=1))
    assert not person.has_newer_retry(B, NOW)
