"""Defers alerts that follow another alert which is still to be mailed, as the end of a breach follows its beginning.

They leave the queue and wait in alerts.waiting.v1: the alert that they wait for may need their place in memory. After a
crash or a rebalance the topics are read side by side, so an end may be read before its beginning: stored marks
(`notifier.delivery.told.note_pending`) distinguish it from an end whose beginning was mailed long ago.
"""

from datetime import datetime

from notifier.delivery.alert_batch import AlertBatch, PlannedMail
from notifier.delivery.batching import MailQueue
from notifier.delivery.interfaces import EventTopics
from notifier.delivery.planned_mail import find_open_alert_ids, get_first_event, get_pending_event, select_undelivered
from notifier.delivery.store import DeliveryStore
from notifier.delivery.told import find_early_ids, note_pending
from notifier.delivery.waiting_times import OVERFLOW_PAUSE
from notifier.messages import Retry
from notifier.metrics import NotifierMetrics


async def publish_early_batches(
    topics: EventTopics,
    store: DeliveryStore,
    queue: MailQueue,
    mail: PlannedMail,
    now: datetime,
    metrics: NotifierMetrics,
) -> tuple[AlertBatch, ...]:
    """Publish the batches of a mail that must not be mailed yet to alerts.waiting.v1; return them, empty if none.

    These are the batches with an alert that follows one which is still to be mailed, and is not in the mail. Their open
    alerts are published one a record, and are looked at again in an hour. Returns once the broker has the records. The
    batches stay in the queue.
    """
    early_ids = find_early_ids(store, get_first_event(mail), select_undelivered(store, mail))
    batches = tuple(batch for batch in mail.batches if not early_ids.isdisjoint(batch.alert_ids))
    for batch in batches:
        event, open_ids = get_pending_event(batch).event, find_open_alert_ids(store, (batch,))
        alerts = tuple(each for each in batch.alerts if each.alert.alert_id in open_ids)
        note_pending(store, event, alerts, now, queue.has_alert)
        await store.wait_until_persisted(event)
        for each in alerts:
            await topics.publish_waiting(batch.user_id, Retry((each,), 0, now + OVERFLOW_PAUSE, batch.lifetime_start))
        metrics.count_overflow(len(alerts))
    return batches
