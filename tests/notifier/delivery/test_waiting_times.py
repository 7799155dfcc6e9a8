"""Between which times alerts of a user wait in alerts.waiting.v1, as the notifier stores it."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, strategies as st

from notifier.delivery.waiting_times import OVERFLOW_PAUSE, READING_TIME, WaitingTimes, add_waiting_alert

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))
TIMES = st.builds(WaitingTimes, MOMENTS, MOMENTS, st.integers(0, 2**62), st.integers(0, 2**62))


@given(TIMES)
def test_times_are_decoded_as_they_were_encoded(times: WaitingTimes) -> None:
    """No time loses precision: an alert must not count as due before its record does."""
    assert WaitingTimes.decode(times.encode()) == times


@given(st.binary(max_size=60))
def test_an_entry_that_nobody_wrote_counts_as_none(entry: bytes) -> None:
    """A table that another version wrote must not end the worker."""
    assert WaitingTimes.decode(entry) is None or entry.count(b" ") == 3


@given(st.none() | TIMES, st.booleans())
def test_after_one_more_newer_alerts_wait_for_an_hour_and_a_while(times: WaitingTimes | None, is_new: bool) -> None:
    """Whatever a wrong clock has stored: the last is due in an hour, no older one later, and then the wait ends."""
    after = add_waiting_alert(times, NOW, 5, is_new=is_new)
    assert after.last_due == NOW + OVERFLOW_PAUSE >= after.first_due
    assert after.keeps_waiting(NOW + OVERFLOW_PAUSE)
    assert not after.keeps_waiting(NOW + OVERFLOW_PAUSE + READING_TIME)


def test_a_new_alert_makes_no_older_one_wait_again() -> None:
    """An alert that is due and not read yet is older: only one that was looked at, and waits again, goes before it."""
    first = add_waiting_alert(None, NOW, 5, is_new=True)
    later = add_waiting_alert(first, NOW + OVERFLOW_PAUSE + timedelta(minutes=1), 9, is_new=True)
    assert (later.first_due, later.since_offset) == (first.first_due, 5)
    again = add_waiting_alert(later, NOW + OVERFLOW_PAUSE + timedelta(minutes=2), 3, is_new=False)
    assert (again.first_due, again.again_offset) == (NOW + 2 * OVERFLOW_PAUSE + timedelta(minutes=2), 3)
    anew = add_waiting_alert(again, NOW + timedelta(days=1), 40, is_new=True)
    assert anew.since_offset == 40
