"""What happened to some people's alerts, record by record, for whoever has to find out why a story went wrong."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

from aiokafka.structs import ConsumerRecord

from notifier.delivery.user_state import Person, name_of
from notifier.messages import decode_raised, decode_retry
from tests.faults.notifier_account import Accepted
from tests.streams.process import read_records as records
from towerwatch.topics import ALERTS_RAISED, ALERTS_RETRY, Topic

_Told = tuple[datetime, UUID, frozenset[UUID], str]
"""When, of whom, which alerts, and what."""


def history(
    bootstrap_servers: str, user_ids: Iterable[UUID], mails: Sequence[Accepted], taken_at: Sequence[datetime]
) -> str:
    """What the broker and the mail server have of these people, by time: a line for each record, and for each mail.

    `taken_at`: when the server took each mail.
    """
    wanted = frozenset(user_ids)
    lines = [*_kept(bootstrap_servers, wanted), *_events(bootstrap_servers, wanted)]
    ids = {alert_id for _, _, alert_ids, _ in lines for alert_id in alert_ids}
    told: list[tuple[datetime, str]] = [(at, f"{user_id} {text}") for at, user_id, _, text in lines]
    told += [
        (taken_at[mail.place], f"{mail.to} MAIL {mail.message_id} {_short(mail.alert_ids)}")
        for mail in mails
        if mail.alert_ids & ids
    ]
    keys = {str(each) for each in ids}
    told += [(at, f"fate of {key}: {value}") for at, key, value in _fates(bootstrap_servers) if key in keys]
    return "\n".join(f"{at:%H:%M:%S.%f} {text}" for at, text in sorted(told))


def _events(bootstrap_servers: str, wanted: frozenset[UUID]) -> Iterator[_Told]:
    for record in records(bootstrap_servers, ALERTS_RAISED):
        raised = decode_raised(record.value)
        if raised.alert.user_id in wanted:
            alert_ids = frozenset({raised.alert.alert_id})
            yield _at(record), raised.alert.user_id, alert_ids, f"{_where(record)} raised {_short(alert_ids)}"
    for record in records(bootstrap_servers, ALERTS_RETRY):
        retry = decode_retry(record.value)
        user_id = retry.raised[0].alert.user_id
        if user_id in wanted:
            alert_ids = frozenset(each.alert.alert_id for each in retry.raised)
            text = (
                f"{_where(record)} retry {str(name_of(alert_ids))[:8]} {_short(alert_ids)} attempt {retry.attempt} "
                f"not before {retry.not_before:%H:%M:%S.%f}{' sealed' if retry.sealed else ''}"
            )
            yield _at(record), user_id, alert_ids, text


def _kept(bootstrap_servers: str, wanted: frozenset[UUID]) -> Iterator[_Told]:
    for record in _changelog(bootstrap_servers, "people"):
        user_id = UUID(record.key.decode())
        if user_id in wanted:
            person = Person.decoded(record.value)
            put_off = [f"{str(name)[:8]} until {until:%H:%M:%S.%f}" for name, until in person.put_off]
            text = f"{_where(record)} person: on its way {_short(person.on_its_way)}, put off {put_off}"
            yield _at(record), user_id, person.on_its_way, text


def _fates(bootstrap_servers: str) -> Iterator[tuple[datetime, str, str]]:
    for record in _changelog(bootstrap_servers, "sent"):
        value = "none" if record.value is None else record.value.decode()
        yield _at(record), record.key.decode(), f"{value} {_where(record)}"


def _changelog(bootstrap_servers: str, table: str) -> list[ConsumerRecord]:
    return records(bootstrap_servers, Topic(f"notifier-{table}-changelog", ALERTS_RAISED.partitions))


def _short(ids: Iterable[UUID]) -> str:
    return " ".join(sorted(str(each)[:8] for each in ids)) or "-"


def _at(record: ConsumerRecord) -> datetime:
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)


def _where(record: ConsumerRecord) -> str:
    return f"[{record.topic} {record.partition} @{record.offset}]"
