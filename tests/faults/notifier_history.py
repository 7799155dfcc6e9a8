"""The history of some users' alerts, record by record, to analyse a failed fault test."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

from aiokafka.structs import ConsumerRecord

from notifier.delivery.user_state import UserState, compute_batch_id
from notifier.messages import decode_raised_alert, decode_retry
from tests.faults.notifier_outcomes import AcceptedMail
from tests.streams.process import read_records
from towerwatch.topics import ALERTS_RAISED, ALERTS_RETRY, Topic

_HistoryEntry = tuple[datetime, UUID, frozenset[UUID], str]
"""The time, the user, the alert ids and the text of a record."""


def describe_history(
    bootstrap_servers: str, user_ids: Iterable[UUID], mails: Sequence[AcceptedMail], taken_at: Sequence[datetime]
) -> str:
    """Return a text with one line for each record and each mail of these users, ordered by time.

    `taken_at`: the time at which the server accepted each mail.
    """
    wanted = frozenset(user_ids)
    lines = [*_read_user_states(bootstrap_servers, wanted), *_read_events(bootstrap_servers, wanted)]
    ids = {alert_id for _, _, alert_ids, _ in lines for alert_id in alert_ids}
    lines_by_time: list[tuple[datetime, str]] = [(at, f"{user_id} {text}") for at, user_id, _, text in lines]
    lines_by_time += [
        (taken_at[mail.position], f"{mail.to} MAIL {mail.message_id} {_short(mail.alert_ids)}")
        for mail in mails
        if mail.alert_ids & ids
    ]
    keys = {str(each) for each in ids}
    lines_by_time += [
        (at, f"status of {key}: {value}") for at, key, value in _read_statuses(bootstrap_servers) if key in keys
    ]
    return "\n".join(f"{at:%H:%M:%S.%f} {text}" for at, text in sorted(lines_by_time))


def _read_events(bootstrap_servers: str, wanted: frozenset[UUID]) -> Iterator[_HistoryEntry]:
    """Yield the raised alerts and the retries of these users."""
    for record in read_records(bootstrap_servers, ALERTS_RAISED):
        raised = decode_raised_alert(record.value)
        if raised.alert.user_id in wanted:
            alert_ids = frozenset({raised.alert.alert_id})
            yield _at(record), raised.alert.user_id, alert_ids, f"{_where(record)} raised {_short(alert_ids)}"
    for record in read_records(bootstrap_servers, ALERTS_RETRY):
        retry = decode_retry(record.value)
        user_id = retry.alerts[0].alert.user_id
        if user_id in wanted:
            alert_ids = frozenset(each.alert.alert_id for each in retry.alerts)
            batch_id = str(compute_batch_id(alert_ids))[:8]
            text = (
                f"{_where(record)} retry {batch_id} {_short(alert_ids)} attempt {retry.attempt} "
                f"not before {retry.not_before:%H:%M:%S.%f}{' sealed' if retry.sealed else ''}"
            )
            yield _at(record), user_id, alert_ids, text


def _read_user_states(bootstrap_servers: str, wanted: frozenset[UUID]) -> Iterator[_HistoryEntry]:
    """Yield the user states in the changelog."""
    for record in _changelog(bootstrap_servers, "people"):
        user_id = UUID(record.key.decode())
        if user_id in wanted:
            user = UserState.decode(record.value)
            deferred = [f"{str(name)[:8]} until {until:%H:%M:%S.%f}" for name, until in user.deferred_batches]
            text = f"{_where(record)} user: in flight {_short(user.in_flight_ids)}, deferred {deferred}"
            yield _at(record), user_id, user.in_flight_ids, text


def _read_statuses(bootstrap_servers: str) -> Iterator[tuple[datetime, str, str]]:
    """Yield time, alert id and status of each delivery status in the changelog."""
    for record in _changelog(bootstrap_servers, "sent"):
        value = "none" if record.value is None else record.value.decode()
        yield _at(record), record.key.decode(), f"{value} {_where(record)}"


def _changelog(bootstrap_servers: str, table: str) -> list[ConsumerRecord]:
    return read_records(bootstrap_servers, Topic(f"notifier-{table}-changelog", ALERTS_RAISED.partitions))


def _short(ids: Iterable[UUID]) -> str:
    return " ".join(sorted(str(each)[:8] for each in ids)) or "-"


def _at(record: ConsumerRecord) -> datetime:
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)


def _where(record: ConsumerRecord) -> str:
    return f"[{record.topic} {record.partition} @{record.offset}]"
