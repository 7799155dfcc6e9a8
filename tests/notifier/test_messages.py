from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given, strategies as st

from collector.messages import encode_airport_unheard, encode_code_retired
from domain.alerts import Alert
from notifier.errors import UndecodableError
from notifier.messages import (
    RaisedNotice,
    Retry,
    ScheduledConfirmation,
    ScheduledNotice,
    decode_confirmation_request,
    decode_raised_alert,
    decode_raised_notice,
    decode_retry,
    encode_retry,
)
from streams.messages import encode_alert
from tests.notifier.alerts import ALERT, CAUSE, NOTICE, NOW, RETIRED, alerts, build_retired_notice
from towerwatch.alerts.v1.events_pb2 import AlertRaised, AlertRetry
from towerwatch.notices.v1.events_pb2 import AirportUnheard
from towerwatch.users.v1.events_pb2 import UserChanged, UserConfirmed, UserDeleted, UserRegistered

NOTICE_VALUE = encode_airport_unheard(NOTICE.user_id, NOTICE.airport, NOTICE.since).value or b""


@given(alerts)
def test_an_alert_survives_encoding_and_decoding(alert: Alert) -> None:
    """The stream's encoder and our decoder agree on every alert, and on its cause to the microsecond."""
    raised = decode_raised_alert(encode_alert(alert, CAUSE))
    assert (raised.alert, raised.cause_published_at) == (alert, CAUSE)


@pytest.mark.parametrize("sealed", [False, True])
def test_a_retry_carries_its_alerts_unchanged(sealed: bool) -> None:
    """The alerts keep their order, and fields of a newer version of the contract survive the retry topic."""
    newer = encode_alert(ALERT, CAUSE) + bytes((0xFA, 0x7F, 1, 42))  # field 2047, one byte
    values = (newer, encode_alert(replace(ALERT, alert_id=uuid4()), CAUSE), newer)
    retry = Retry(tuple(map(decode_raised_alert, values)), 3, NOW + timedelta(seconds=9), NOW, sealed)
    again = decode_retry(encode_retry(retry))
    assert again == retry
    assert [each.original.endswith(bytes((0xFA, 0x7F, 1, 42))) for each in again.alerts] == [True, False, True]


def test_a_retry_of_an_older_version_has_one_alert() -> None:
    """An older notifier wrote one alert, and no seal."""
    message = AlertRetry(attempt=2)
    message.alert.ParseFromString(encode_alert(ALERT, CAUSE))
    message.not_before.FromDatetime(NOW)
    message.first_attempt_at.FromDatetime(NOW)
    retry = decode_retry(message.SerializeToString())
    assert ([each.alert for each in retry.alerts], retry.attempt, retry.sealed) == ([ALERT], 2, False)


def test_a_retry_of_several_users_is_undecodable() -> None:
    """A user's mail never contains another user's alerts."""
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
def test_invalid_fields_are_undecodable(change: dict[str, object]) -> None:
    """Unknown enum values, invalid ids and text that could break out of a header are rejected."""
    message = AlertRaised.FromString(encode_alert(ALERT, CAUSE))
    for field, value in change.items():
        setattr(message, field, value)
    with pytest.raises(UndecodableError):
        decode_raised_alert(message.SerializeToString())


@pytest.mark.parametrize("value", [None, b"", b"\xff", b"\x0a\x05"])
def test_tombstones_and_broken_values_are_undecodable(value: bytes | None) -> None:
    """Tombstones, empty values and broken values contain no alert and no notice."""
    for decode in (decode_raised_alert, decode_raised_notice, decode_retry):
        with pytest.raises(UndecodableError):
            decode(value)


def test_times_outside_of_the_calendar_are_undecodable() -> None:
    """A protobuf timestamp can contain times that a datetime cannot."""
    message = AlertRaised.FromString(encode_alert(ALERT, CAUSE))
    for seconds in (2**62, -1, 253_370_764_800):  # the last: the year 9999, whose last window ends beyond
        message.window_start.seconds = seconds
        with pytest.raises(UndecodableError):
            decode_raised_alert(message.SerializeToString())


def test_an_alert_of_an_older_version_is_decoded() -> None:
    """An alert from an older stream lacks only its episode and earlier counts."""
    message = AlertRaised.FromString(encode_alert(replace(ALERT, earlier=(1, None), episode_id=ALERT.alert_id), CAUSE))
    for field in ("earlier_counts", "earlier_known", "episode_id"):
        message.ClearField(field)
    assert decode_raised_alert(message.SerializeToString()).alert == ALERT


@pytest.mark.parametrize("usual", [[], [3], [3, 0, 5]])
def test_what_was_usual_in_other_windows_than_the_earlier_ones_is_not_read(usual: list[int]) -> None:
    """An alert of an older stream has none; another number of them cannot be told apart by window."""
    message = AlertRaised.FromString(encode_alert(replace(ALERT, earlier=(1, None), earlier_usual=(20, None)), CAUSE))
    assert decode_raised_alert(message.SerializeToString()).alert.earlier_usual == (20, None)
    message.earlier_usual[:] = usual
    assert decode_raised_alert(message.SerializeToString()).alert.earlier_usual == ()


def test_earlier_counts_without_known_flags_are_undecodable() -> None:
    """A count that may be unknown would be drawn wrongly."""
    message = AlertRaised.FromString(encode_alert(replace(ALERT, earlier=(1, None)), CAUSE))
    message.earlier_known.pop()
    with pytest.raises(UndecodableError):
        decode_raised_alert(message.SerializeToString())


@given(st.binary(max_size=80))
def test_no_bytes_break_the_decoders(value: bytes) -> None:
    """Any bytes are either decoded or rejected with UndecodableError."""
    for decode in (decode_raised_alert, decode_raised_notice, decode_retry, decode_confirmation_request):
        with suppress(UndecodableError):
            decode(value)


def test_a_retry_without_its_times_is_undecodable() -> None:
    """A retry without its times can be neither scheduled nor given up."""
    message = AlertRetry(attempt=1)
    message.alert.ParseFromString(encode_alert(ALERT, CAUSE))
    with pytest.raises(UndecodableError):
        decode_retry(message.SerializeToString())


def test_only_registrations_request_a_confirmation_mail() -> None:
    """Confirmations, deletions, tombstones and unknown changes return None."""
    user = str(ALERT.user_id)
    assert decode_confirmation_request(None) is None
    assert decode_confirmation_request(UserChanged(user_id=user, confirmed=UserConfirmed()).SerializeToString()) is None
    assert decode_confirmation_request(UserChanged(user_id=user, deleted=UserDeleted()).SerializeToString()) is None
    assert decode_confirmation_request(UserChanged(user_id=user).SerializeToString()) is None
    request = decode_confirmation_request(
        UserChanged(user_id=user, registered=UserRegistered(confirmation_id="c1")).SerializeToString()
    )
    assert request is not None
    assert (request.user_id, request.confirmation_id) == (ALERT.user_id, "c1")


def test_a_retry_carries_its_confirmation_request_unchanged() -> None:
    """Unknown fields survive; a request beside an alert or a notice, or a change that asks for none, is undecodable."""
    value = UserChanged(user_id=str(ALERT.user_id), registered=UserRegistered(confirmation_id="c1")).SerializeToString()
    request = decode_confirmation_request(value + b"\xfa\x07\x01x")
    assert request is not None
    retry = ScheduledConfirmation(request, 7, NOW, NOW - timedelta(hours=1), sealed=True)
    assert decode_retry(encode_retry(retry)) == retry
    message = AlertRetry.FromString(encode_retry(retry))
    message.notice.airport = "KPWM"
    with pytest.raises(UndecodableError):
        decode_retry(message.SerializeToString())
    message.ClearField("notice")
    message.confirmation.confirmed.SetInParent()
    with pytest.raises(UndecodableError):
        decode_retry(message.SerializeToString())


def test_times_of_a_retry_are_aware() -> None:
    """The times are compared with the clock, so they have a time zone."""
    raised = decode_raised_alert(encode_alert(ALERT, CAUSE))
    retry = decode_retry(encode_retry(Retry((raised,), 1, NOW, NOW)))
    assert isinstance(retry.not_before, datetime)
    assert retry.not_before.utcoffset() == timedelta(0)


def test_only_the_last_earlier_counts_are_decoded() -> None:
    """A writer of the topic cannot make a mail arbitrarily expensive."""
    message = AlertRaised.FromString(encode_alert(replace(ALERT, earlier=tuple(range(5_000))), CAUSE))
    assert decode_raised_alert(message.SerializeToString()).alert.earlier == tuple(range(4_952, 5_000))


def test_a_notice_is_decoded_as_the_collector_encodes_it() -> None:
    """The two services agree on each field."""
    assert decode_raised_notice(NOTICE_VALUE) == RaisedNotice(NOTICE, NOTICE_VALUE)


@pytest.mark.parametrize("sealed", [False, True])
def test_a_retry_carries_its_notice_unchanged(sealed: bool) -> None:
    """Fields of a newer version of the contract survive the retry topic."""
    raised = decode_raised_notice(NOTICE_VALUE + bytes((0xFA, 0x7F, 1, 42)))  # field 2047, one byte
    retry = ScheduledNotice(raised, 3, NOW + timedelta(seconds=9), NOW, sealed)
    again = decode_retry(encode_retry(retry))
    assert again == retry
    assert again.raised.original.endswith(bytes((0xFA, 0x7F, 1, 42)))


def test_a_retry_of_a_notice_and_of_an_alert_is_undecodable() -> None:
    """They have mails of their own, and one record must not be two mails."""
    message = AlertRetry.FromString(encode_retry(ScheduledNotice(decode_raised_notice(NOTICE_VALUE), 1, NOW, NOW)))
    message.alert.ParseFromString(encode_alert(ALERT, CAUSE))
    with pytest.raises(UndecodableError):
        decode_retry(message.SerializeToString())


RETIRED_VALUE = encode_code_retired(RETIRED.user_id, RETIRED.airport, RETIRED.successor).value or b""


@pytest.mark.parametrize("successor", ["UCFM", ""])
@pytest.mark.parametrize("sealed", [True, False])
def test_a_notice_of_a_retired_code_survives_the_way_and_a_retry(successor: str, sealed: bool) -> None:
    """It has no day, and keeps the code that leads on, also where none is known."""
    wanted = build_retired_notice(RETIRED.user_id, RETIRED.airport, successor)
    raised = decode_raised_notice(encode_code_retired(wanted.user_id, wanted.airport, successor).value)
    assert raised.notice == wanted
    retry = ScheduledNotice(raised, 3, NOW + timedelta(seconds=9), NOW, sealed)
    assert decode_retry(encode_retry(retry)) == retry


@pytest.mark.parametrize("successor", ["ucfm", "UCF", "UCFM1", "UCFM\r\nBcc: x", "ÜCFM", " UCFM", "\x00"])
def test_a_successor_that_is_no_code_is_undecodable(successor: str) -> None:
    """It stands in the subject and in a header of the mail."""
    message = AirportUnheard.FromString(RETIRED_VALUE)
    message.retired.successor = successor
    with pytest.raises(UndecodableError):
        decode_raised_notice(message.SerializeToString())


def test_a_notifier_from_before_mails_nothing_false_about_a_retired_code() -> None:
    """Without the field that it does not know, the notice has no day: it becomes a dead letter, to be requeued."""
    message = AirportUnheard.FromString(RETIRED_VALUE)
    message.ClearField("retired")
    with pytest.raises(UndecodableError):
        decode_raised_notice(message.SerializeToString())


@pytest.mark.parametrize(
    "change", [{"notice_id": "7"}, {"user_id": ""}, {"airport": "KPWM\r\nBcc: x"}, {"airport": ""}, {"airport": "kpwm"}]
)
def test_invalid_fields_of_a_notice_are_undecodable(change: dict[str, str]) -> None:
    """Invalid ids and text that could break out of a header are rejected."""
    message = AirportUnheard.FromString(NOTICE_VALUE)
    for field, value in change.items():
        setattr(message, field, value)
    with pytest.raises(UndecodableError):
        decode_raised_notice(message.SerializeToString())


@pytest.mark.parametrize("seconds", [None, 2**62, -1, 253_370_764_800])
def test_a_notice_without_a_day_of_the_calendar_is_undecodable(seconds: int | None) -> None:
    """The mail names the day, in the reader's time zone, too."""
    message = AirportUnheard.FromString(NOTICE_VALUE)
    message.ClearField("since")
    if seconds is not None:
        message.since.seconds = seconds
    with pytest.raises(UndecodableError):
        decode_raised_notice(message.SerializeToString())
