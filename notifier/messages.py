"""The decoding of events into domain values, and the encoding of retries. Unknown fields are kept and survive a
retry."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final, TypeVar
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from chassis.protobuf import parse_message
from domain.alerts import Alert, AlertState, Bound
from domain.calendar import WEEKS_BACK
from domain.interests import Direction
from domain.live_record import Provenance
from domain.notices import Notice, RetiredNotice, UnheardNotice
from domain.windows import AlignedTo, Window
from notifier.errors import UndecodableError
from towerwatch.alerts.v1 import events_pb2 as alerts_pb
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import events_pb2 as interests_pb
from towerwatch.notices.v1 import events_pb2 as notices_pb
from towerwatch.users.v1 import events_pb2 as users_pb

E = TypeVar("E", bound=Enum)
N = TypeVar("N", bound=int)

REQUEUED_FROM: Final = "requeued-from"
"""The header of an alert or a notice that an operator requeued from the dead-letter topic; its value is the dead
letter's id."""

_LONGEST_WINDOW: Final = timedelta(days=2)
_MAX_EARLIER_COUNTS: Final = 48
"""Earlier counts of an alert that are read: more than the stream writes, but limited for foreign writers."""

_ICAO: Final = re.compile(r"[A-Z0-9]{4}")

_PROVENANCES: Final[Mapping[int, Provenance]] = {
    flights_pb.PROVENANCE_SETTLED: Provenance.SETTLED,
    flights_pb.PROVENANCE_LIVE: Provenance.LIVE,
    flights_pb.PROVENANCE_RECENT: Provenance.RECENT,
}
"""By its number in the contract; of an unspecified or unknown one a mail says nothing."""


@dataclass(frozen=True, slots=True)
class RaisedAlert:
    """An alert together with the event that raised it."""

    alert: Alert
    cause_published_at: datetime
    original: bytes
    """The serialized AlertRaised message as it was received."""

    @property
    def event_id(self) -> UUID:
        """The id of the alert."""
        return self.alert.alert_id

    @property
    def user_id(self) -> UUID:
        """The user who receives the alert."""
        return self.alert.user_id


@dataclass(frozen=True, slots=True)
class RaisedNotice:
    """A notice together with the event that raised it."""

    notice: Notice
    original: bytes
    """The serialized AirportUnheard message as it was received."""

    @property
    def event_id(self) -> UUID:
        """The id of the notice."""
        return self.notice.notice_id

    @property
    def user_id(self) -> UUID:
        """The user who receives the notice."""
        return self.notice.user_id


@dataclass(frozen=True, slots=True)
class Retry:
    """A deferred mail with alerts in the retry topic."""

    alerts: tuple[RaisedAlert, ...]
    """The alerts of the mail: at least one, all for the same user."""
    attempt: int
    """The number of attempts to send it so far."""
    not_before: datetime
    first_attempt_at: datetime
    """The time from which the age of the mail is counted."""
    sealed: bool = False
    """True if the mail server may already have the mail: it is sent again unchanged, without other alerts."""
    catch_up: bool = False
    """True if the alerts became too old to be mailed singly, and are listed in a catch-up mail; or are corrections."""
    gather_until: datetime | None = None
    """The time until which corrections wait for others. None: the alerts are not kept with corrections."""


@dataclass(frozen=True, slots=True)
class ScheduledNotice:
    """A notice, new or from the retry topic, with the number of its attempts and the time of the next one."""

    raised: RaisedNotice
    attempt: int
    """The number of attempts to send it so far; 0: the notice is new."""
    not_before: datetime
    first_attempt_at: datetime
    """The time from which the age of the mail is counted."""
    sealed: bool = False
    """True if the mail server may already have the mail."""

    @property
    def user_id(self) -> UUID:
        """The user who receives the notice."""
        return self.raised.user_id

    @property
    def mail_key(self) -> str:
        """The id of the mail among those of notices."""
        return str(self.raised.event_id)


@dataclass(frozen=True, slots=True)
class ConfirmationRequest:
    """A request for a confirmation mail: a user registered, or requested another mail."""

    user_id: UUID
    confirmation_id: str
    """The id of this request; a duplicate of the event has the same id."""
    original: bytes = b""
    """The serialized UserChanged message as it was received."""


@dataclass(frozen=True, slots=True)
class ScheduledConfirmation:
    """A confirmation mail, new or deferred in the retry topic: when it may be sent, and how often that was tried."""

    request: ConfirmationRequest
    attempt: int
    """The number of attempts to send it so far; 0: the request is new."""
    not_before: datetime
    first_attempt_at: datetime
    """The time from which the age of the request is counted."""
    sealed: bool = False
    """True if the mail server may already have the mail."""

    @property
    def user_id(self) -> UUID:
        """The user who receives the mail."""
        return self.request.user_id

    @property
    def mail_key(self) -> str:
        """The id of the mail among confirmation mails."""
        return self.request.confirmation_id


def decode_raised_alert(value: bytes | None) -> RaisedAlert:
    """Decode a value of alerts.raised.v1: one alert.

    Raises UndecodableError for None, for bytes that are no AlertRaised, and for a missing, invalid or unknown field
    value.
    """
    return _to_raised_alert(parse_message(alerts_pb.AlertRaised, value, UndecodableError))


def decode_raised_notice(value: bytes | None) -> RaisedNotice:
    """Decode a value of notices.raised.v1: one notice.

    Raises UndecodableError for None, for bytes that are no AirportUnheard, and for a missing or invalid field value.
    """
    return _to_raised_notice(parse_message(notices_pb.AirportUnheard, value, UndecodableError))


def decode_retry(value: bytes | None) -> Retry | ScheduledNotice | ScheduledConfirmation:
    """Decode a value of alerts.retry.v1: a deferred mail (its alerts in their order, notice or request), and its times.

    Raises UndecodableError, also for a record without its times, for alerts of several users, and for a notice or a
    confirmation request beside other things.
    """
    message = parse_message(alerts_pb.AlertRetry, value, UndecodableError)
    if not (message.HasField("not_before") and message.HasField("first_attempt_at")):
        raise UndecodableError("AlertRetry without its times")
    if message.HasField("confirmation"):
        if message.HasField("alert") or message.others or message.HasField("notice"):
            raise UndecodableError("AlertRetry of a confirmation and of something else")
        request = _to_confirmation_request(message.confirmation)
        if request is None:
            raise UndecodableError("AlertRetry of a change that asks for no confirmation mail")
        return ScheduledConfirmation(
            request=request,
            attempt=message.attempt,
            not_before=_to_datetime(message.not_before),
            first_attempt_at=_to_datetime(message.first_attempt_at),
            sealed=message.sealed,
        )
    if message.HasField("notice"):
        if message.HasField("alert") or message.others:
            raise UndecodableError("AlertRetry of a notice and of alerts")
        return ScheduledNotice(
            raised=_to_raised_notice(message.notice),
            attempt=message.attempt,
            not_before=_to_datetime(message.not_before),
            first_attempt_at=_to_datetime(message.first_attempt_at),
            sealed=message.sealed,
        )
    alerts = tuple(_to_raised_alert(each) for each in (message.alert, *message.others))
    if len({each.alert.user_id for each in alerts}) > 1:
        raise UndecodableError("AlertRetry of several people")
    return Retry(
        alerts=alerts,
        attempt=message.attempt,
        not_before=_to_datetime(message.not_before),
        first_attempt_at=_to_datetime(message.first_attempt_at),
        sealed=message.sealed,
        catch_up=message.catch_up,
        gather_until=_to_datetime(message.gather_until) if message.HasField("gather_until") else None,
    )


def encode_retry(retry: Retry | ScheduledNotice | ScheduledConfirmation) -> bytes:
    """Encode a value of alerts.retry.v1, with the original messages, so that unknown fields survive."""
    message = alerts_pb.AlertRetry(attempt=retry.attempt, sealed=retry.sealed)
    match retry:
        case Retry(alerts=(first, *others)):
            message.catch_up = retry.catch_up
            if retry.gather_until is not None:
                message.gather_until.FromDatetime(retry.gather_until)
            message.alert.ParseFromString(first.original)
            for each in others:
                message.others.add().ParseFromString(each.original)
        case ScheduledNotice(raised=raised):
            message.notice.ParseFromString(raised.original)
        case ScheduledConfirmation(request=request):
            message.confirmation.ParseFromString(request.original)
    message.not_before.FromDatetime(retry.not_before)
    message.first_attempt_at.FromDatetime(retry.first_attempt_at)
    return message.SerializeToString()


def decode_confirmation_request(value: bytes | None) -> ConfirmationRequest | None:
    """Decode the request for a confirmation mail in a value of users.changed.v1; only a registration holds one.

    Returns None for a tombstone and for every other change, also for one that this version does not know. Raises
    UndecodableError, also for a registration without a confirmation id.
    """
    if value is None:
        return None
    return _to_confirmation_request(parse_message(users_pb.UserChanged, value, UndecodableError))


def _to_confirmation_request(message: users_pb.UserChanged) -> ConfirmationRequest | None:
    """Convert a UserChanged message to a request, which also holds the message's bytes; None: it asks for no mail.

    Raises UndecodableError for a registration without a confirmation id or with an invalid user id.
    """
    if message.WhichOneof("change") != "registered":
        return None
    if not message.registered.confirmation_id:
        raise UndecodableError("UserRegistered without a confirmation_id")
    return ConfirmationRequest(
        _parse_uuid(message.user_id), message.registered.confirmation_id, message.SerializeToString()
    )


def _to_raised_alert(message: alerts_pb.AlertRaised) -> RaisedAlert:
    """Convert an AlertRaised message to a RaisedAlert, which also holds the message's bytes with unknown fields.

    Keeps the last _MAX_EARLIER_COUNTS earlier counts only; counts that are not known become None. Raises
    UndecodableError if a field is missing or invalid.
    """
    if not (message.HasField("window_start") and message.HasField("cause_published_at")):
        raise UndecodableError("AlertRaised without its times")
    window_start = _to_datetime(message.window_start)
    if not 1970 <= window_start.year < 9999:  # windows before and after it must have a date, too
        raise UndecodableError("AlertRaised of a window out of all time")
    if not _ICAO.fullmatch(message.airport):
        raise UndecodableError("AlertRaised without an ICAO code")
    if len(message.earlier_counts) != len(message.earlier_known):
        raise UndecodableError("AlertRaised with earlier counts of which it is not said whether they are known")
    alert = Alert(
        alert_id=_parse_uuid(message.alert_id),
        interest_id=_parse_uuid(message.interest_id),
        user_id=_parse_uuid(message.user_id),
        version=message.version,
        airport=message.airport,
        direction=_to_enum_member(Direction, flights_pb.Direction.Name, message.direction, "DIRECTION_"),
        window=_to_enum_member(Window, interests_pb.Window.Name, message.window, "WINDOW_"),
        window_start=window_start,
        bound=_to_enum_member(Bound, alerts_pb.Bound.Name, message.bound, "BOUND_"),
        state=_to_enum_member(AlertState, alerts_pb.State.Name, message.state, "STATE_"),
        count=message.count,
        threshold=message.threshold,
        for_windows=max(message.for_windows, 1),
        withdrawn_count=message.withdrawn_count if message.HasField("withdrawn_count") else None,
        earlier=tuple(
            count if known else None
            for count, known in zip(
                message.earlier_counts[-_MAX_EARLIER_COUNTS:], message.earlier_known[-_MAX_EARLIER_COUNTS:], strict=True
            )
        ),
        episode_id=_parse_uuid(message.episode_id) if message.episode_id else None,
        withdrawn_state=_to_withdrawn_state(message.withdrawn_state),
        revision=message.revision,
        provenance=_PROVENANCES.get(message.provenance),
        corrects=message.corrects,
        count_before=message.count_before if message.HasField("count_before") else None,
        percent=message.percent if message.HasField("percent") else None,
        doubled_usual=message.doubled_usual if message.HasField("doubled_usual") else None,
        base_counts=tuple(message.base_counts[:WEEKS_BACK]),
        aligned_to=AlignedTo.UTC if (own_end := _to_own_end(message)) is None else AlignedTo.AIRPORT,
        own_end=own_end,
        earlier_usual=_read_earlier_usual(message),
        live_windows=message.live_windows,
    )
    return RaisedAlert(alert, _to_datetime(message.cause_published_at), message.SerializeToString())


def _read_earlier_usual(message: alerts_pb.AlertRaised) -> tuple[int | None, ...]:
    """Return twice the usual counts of the windows of the earlier counts that are kept; None: nothing is usual there.

    Empty if the message has none, or not as many as earlier counts: then another version of the contract wrote it.
    """
    if len(message.earlier_usual) != len(message.earlier_counts):
        return ()
    return tuple(each - 1 if each else None for each in message.earlier_usual[-_MAX_EARLIER_COUNTS:])


def _to_own_end(message: alerts_pb.AlertRaised) -> datetime | None:
    """Return the end of a window by the airport's clock; None: it is by UTC. Raises UndecodableError for a bad end."""
    if message.aligned_to in (interests_pb.ALIGNED_TO_UNSPECIFIED, interests_pb.ALIGNED_TO_UTC):
        return None
    end, is_known = _to_datetime(message.window_end), message.aligned_to == interests_pb.ALIGNED_TO_AIRPORT
    if not is_known or not timedelta(0) < end - _to_datetime(message.window_start) <= _LONGEST_WINDOW:
        raise UndecodableError("AlertRaised of a window by a clock that is not known, or without an end that can be")
    return end


def _to_withdrawn_state(number: alerts_pb.State.ValueType) -> AlertState | None:
    """Return the state that an alert withdraws; None: unspecified. Raises UndecodableError for an unknown number."""
    if number == alerts_pb.STATE_UNSPECIFIED:
        return None
    return _to_enum_member(AlertState, alerts_pb.State.Name, number, "STATE_")


def _to_raised_notice(message: notices_pb.AirportUnheard) -> RaisedNotice:
    """Convert an AirportUnheard message to a RaisedNotice, which also holds the message's bytes with unknown fields.

    Raises UndecodableError.
    """
    if not _ICAO.fullmatch(message.airport):
        raise UndecodableError("AirportUnheard without an ICAO code")
    notice_id, user_id = _parse_uuid(message.notice_id), _parse_uuid(message.user_id)
    if message.HasField("retired"):
        successor = message.retired.successor
        if successor and not _ICAO.fullmatch(successor):
            raise UndecodableError("AirportUnheard with a successor that is no ICAO code")
        notice: Notice = RetiredNotice(notice_id, user_id, message.airport, successor)
        return RaisedNotice(notice, message.SerializeToString())
    if not message.HasField("since"):
        raise UndecodableError("AirportUnheard without its time")
    since = _to_datetime(message.since)
    if not 1970 <= since.year < 9999:  # the days before and after it must have a date, too
        raise UndecodableError("AirportUnheard since a day out of all time")
    return RaisedNotice(UnheardNotice(notice_id, user_id, message.airport, since), message.SerializeToString())


def _parse_uuid(text: str) -> UUID:
    """Parse a UUID. Raises UndecodableError."""
    try:
        return UUID(text)
    except ValueError:
        raise UndecodableError("an id that is no UUID") from None


def _to_datetime(timestamp: Timestamp) -> datetime:
    """Convert a protobuf timestamp to a UTC datetime. Raises UndecodableError if it is outside of datetime's range."""
    try:
        return timestamp.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise UndecodableError("a time outside of the calendar") from None


def _to_enum_member(kind: type[E], get_name: Callable[[N], str], number: N, prefix: str) -> E:
    """Return the domain's enum member for a protobuf enum value: their names are equal except for the prefix.

    Raises UndecodableError for a value that this version does not know.
    """
    try:
        return kind[get_name(number).removeprefix(prefix)]
    except (ValueError, KeyError):
        raise UndecodableError(f"a {kind.__name__} that this version does not know") from None
