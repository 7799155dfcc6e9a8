from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given, strategies as st

from domain.alerts import Alert
from notifier.errors import UndecodableError
from notifier.messages import Retry, decode_confirmation_request, decode_raised_alert, decode_retry, encode_retry
from streams.messages import encode_alert
from tests.notifier.alerts import ALERT, CAUSE, NOW, alerts
from towerwatch.alerts.v1.events_pb2 import AlertRaised, AlertRetry
from towerwatch.users.v1.events_pb2 import UserChanged, UserConfirmed, UserDeleted, UserRegistered


@given(alerts)
def test_what_the_stream_says_is_what_is_read(alert: Alert) -> None:
    """The stream's encoder and our decoder agree on every alert, to the microsecond of its cause."""
    raised = decode_raised_alert(encode_alert(alert, CAUSE))
    assert (raised.alert, raised.cause_published_at) == (alert, CAUSE)


@pytest.mark.parametrize("sealed", [False, True])
def test_a_retry_carries_its_alerts_unchanged(sealed: bool) -> None:
    """In their order; fields of a newer version of the contract survive the way through the retry topic."""
    newer = encode_alert(ALERT, CAUSE) + bytes((0xFA, 0x7F, 1, 42))  # field 2047, one byte
    values = (newer, encode_alert(replace(ALERT, alert_id=uuid4()), CAUSE), newer)
    retry = Retry(tuple(map(decode_raised_alert, values)), 3, NOW + timedelta(seconds=9), NOW, sealed)
    again = decode_retry(encode_retry(retry))
    assert again == retry
    assert [each.original.endswith(bytes((0xFA, 0x7F, 1, 42))) for each in again.alerts] == [True, False, True]


def test_a_retry_from_before_the_later_fields_is_of_one_alert() -> None:
    """An older notifier wrote one alert, and knew of no seal."""
    message = AlertRetry(attempt=2)
    message.alert.ParseFromString(encode_alert(ALERT, CAUSE))
    message.not_before.FromDatetime(NOW)
    message.first_attempt_at.FromDatetime(NOW)
    retry = decode_retry(message.SerializeToString())
    assert ([each.alert for each in retry.alerts], retry.attempt, retry.sealed) == ([ALERT], 2, False)


def test_a_retry_of_several_people_is_undecodable() -> None:
    """One person's mail never tells another's alerts."""
    values = (ALERT, replace(ALERT, alert_id=uuid4(), user_id=uuid4()))
    retry = Retry(tuple(decode_raised_alert(encode_alert(each, CAUSE)) for each in values), 1, NOW, NOW)
    with pytest.raises(UndecodableError):
        decode_retry(encode_retry(retry))


@pytest.mark.parametrize(
    "change",
    [
        {"alert_id": "7"},
        {"user_id": ""},
        {"interest_id": "x" * 32},
        {"state": 99},
        {"bound": 0},
        {"window": 99},
        {"direction": 99},
        {"airport": "KJFK\r\nBcc: x"},
        {"airport": ""},
        {"episode_id": "7"},
    ],
)
def test_nonsense_is_undecodable(change: dict[str, object]) -> None:
    """Unknown enum members, bad ids and what could break out of a header are refused at the door."""
    message = AlertRaised.FromString(encode_alert(ALERT, CAUSE))
    for field, value in change.items():
        setattr(message, field, value)
    with pytest.raises(UndecodableError):
        decode_raised_alert(message.SerializeToString())


@pytest.mark.parametrize("value", [None, b"", b"\xff", b"\x0a\x05"])
def test_no_alert_at_all_is_undecodable(value: bytes | None) -> None:
    """Tombstones, empty and broken values are no alerts."""
    for decode in (decode_raised_alert, decode_retry):
        with pytest.raises(UndecodableError):
            decode(value)


def test_times_outside_of_the_calendar_are_undecodable() -> None:
    """A protobuf timestamp can hold what no datetime can."""
    message = AlertRaised.FromString(encode_alert(ALERT, CAUSE))
    for seconds in (2**62, -1, 253_370_764_800):  # the last: the year 9999, whose last window ends beyond
        message.window_start.seconds = seconds
        with pytest.raises(UndecodableError):
            decode_raised_alert(message.SerializeToString())


def test_an_alert_from_before_the_later_fields_is_whole() -> None:
    """What was raised by an older stream is told with what it says; only its thread and earlier counts are unknown."""
    message = AlertRaised.FromString(encode_alert(replace(ALERT, earlier=(1, None), episode_id=ALERT.alert_id), CAUSE))
    for field in ("earlier_counts", "earlier_known", "episode_id"):
        message.ClearField(field)
    assert decode_raised_alert(message.SerializeToString()).alert == ALERT


def test_counts_need_to_be_known_or_not() -> None:
    """Counts of which nobody says whether they are known would be drawn as what they are not."""
    message = AlertRaised.FromString(encode_alert(replace(ALERT, earlier=(1, None)), CAUSE))
    message.earlier_known.pop()
    with pytest.raises(UndecodableError):
        decode_raised_alert(message.SerializeToString())


@given(st.binary(max_size=80))
def test_no_bytes_break_the_decoders(value: bytes) -> None:
    """Any bytes are either decoded or refused with our own error."""
    for decode in (decode_raised_alert, decode_retry, decode_confirmation_request):
        with suppress(UndecodableError):
            decode(value)


def test_a_retry_without_its_times_is_undecodable() -> None:
    """Without them nobody knows when to try, or when to give up."""
    message = AlertRetry(attempt=1)
    message.alert.ParseFromString(encode_alert(ALERT, CAUSE))
    with pytest.raises(UndecodableError):
        decode_retry(message.SerializeToString())


def test_only_registrations_ask_for_a_mail() -> None:
    """Confirmations, deletions, tombstones and changes that we do not know yet are passed over."""
    user = str(ALERT.user_id)
    assert decode_confirmation_request(None) is None
    assert decode_confirmation_request(UserChanged(user_id=user, confirmed=UserConfirmed()).SerializeToString()) is None
    assert decode_confirmation_request(UserChanged(user_id=user, deleted=UserDeleted()).SerializeToString()) is None
    assert decode_confirmation_request(UserChanged(user_id=user).SerializeToString()) is None
    wish = decode_confirmation_request(
        UserChanged(user_id=user, registered=UserRegistered(confirmation_id="c1")).SerializeToString()
    )
    assert wish is not None
    assert (wish.user_id, wish.confirmation_id) == (ALERT.user_id, "c1")


def test_instants_are_aware() -> None:
    """The instants of a retry are aware: they are compared with the clock."""
    raised = decode_raised_alert(encode_alert(ALERT, CAUSE))
    retry = decode_retry(encode_retry(Retry((raised,), 1, NOW, NOW)))
    assert isinstance(retry.not_before, datetime)
    assert retry.not_before.utcoffset() == timedelta(0)


def test_of_more_earlier_counts_than_any_chart_shows_the_last_are_taken() -> None:
    """Whoever may write to the topic shall not make one mail as costly as they like."""
    message = AlertRaised.FromString(encode_alert(replace(ALERT, earlier=tuple(range(5_000))), CAUSE))
    assert decode_raised_alert(message.SerializeToString()).alert.earlier == tuple(range(4_952, 5_000))
