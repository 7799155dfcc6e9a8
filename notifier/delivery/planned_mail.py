"""Functions on a planned mail: its events, its ids, and which of its alerts the store has as delivered.

An alert counts as delivered once the store has a status of it, mailed or dead-lettered; until then it is open.
"""

from collections.abc import Iterable
from uuid import UUID

from faust.types import EventT

from notifier.delivery.alert_batch import AlertBatch, PlannedMail
from notifier.delivery.interfaces import PendingEvent
from notifier.delivery.store import DeliveryStatus, DeliveryStore
from notifier.messages import RaisedAlert


def get_pending_event(batch: AlertBatch) -> PendingEvent:
    """Return the event that contained the alerts of a batch, with the function that acknowledges it."""
    assert isinstance(batch.pending_event, PendingEvent)  # noqa: S101 - for mypy: `MailQueue` does not use it
    return batch.pending_event


def get_first_event(mail: PlannedMail) -> EventT[bytes]:
    """Return the event of the mail's first batch, which names the mail's partition to the store."""
    return get_pending_event(mail.batches[0]).event


def get_alert_ids(alerts: Iterable[RaisedAlert]) -> set[UUID]:
    """Return the ids of these alerts."""
    return {each.alert.alert_id for each in alerts}


def get_batch_ids(batches: Iterable[AlertBatch]) -> frozenset[UUID]:
    """Return the batch ids of those of these batches that were deferred; new batches have no id."""
    return frozenset(batch_id for batch in batches if (batch_id := batch.batch_id) is not None)


def clear_requeued_dead_letters(store: DeliveryStore, batches: Iterable[AlertBatch]) -> None:
    """Delete the dead-lettered status of alerts that an operator requeued, so that they are mailed after all.

    Other batches and alerts that were mailed are not changed.
    """
    for batch in batches:
        if get_pending_event(batch).requeued:
            store.clear_dead_lettered(get_pending_event(batch).event, batch.alert_ids)


def select_undelivered(store: DeliveryStore, mail: PlannedMail) -> tuple[RaisedAlert, ...]:
    """Return the alerts of the mail, in its order, that are neither mailed nor dead-lettered yet."""
    event = get_first_event(mail)
    return tuple(each for each in mail.alerts if store.find_status(event, each.alert.alert_id) is None)


def find_open_alert_ids(store: DeliveryStore, batches: Iterable[AlertBatch]) -> set[UUID]:
    """Return the ids of the alerts in these batches that are neither mailed nor dead-lettered yet."""
    return {
        alert_id
        for batch in batches
        for alert_id in batch.alert_ids
        if store.find_status(get_pending_event(batch).event, alert_id) is None
    }


def find_completed_batches(store: DeliveryStore, mail: PlannedMail) -> tuple[AlertBatch, ...]:
    """Return the batches of the mail in which every alert is mailed or dead-lettered."""
    return tuple(batch for batch in mail.batches if not find_open_alert_ids(store, (batch,)))


def was_sent_before(store: DeliveryStore, mail: PlannedMail) -> bool:
    """Return True if the mail was in flight before a crash and one of its alerts at least is recorded as mailed.

    All alerts of a mail are recorded together, so one record proves that the mail was sent. False for a mail that
    was not in flight before a crash.
    """
    return any(store.find_status(get_first_event(mail), each) is DeliveryStatus.MAILED for each in mail.in_flight_ids)
