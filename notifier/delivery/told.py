"""What a user was told, as far as later alerts depend on it: an end is mailed only to who was told of its beginning.

An alert follows others: a RESOLVED or STILL the FIRING of its episode, a WITHDRAWN the statement that it withdraws.
While one of these waits for the mail of corrections, the alert waits with it. If it was dropped (a paused account,
unwanted corrections), the alert is dropped, too.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain
from uuid import UUID

from faust.types import EventT

from domain.alerts import Alert, AlertState, compute_alert_id
from notifier.delivery.alert_batch import AlertBatch, PlannedMail
from notifier.delivery.planned_mail import (
    find_open_alert_ids,
    get_first_event,
    get_pending_event,
    select_undelivered,
)
from notifier.delivery.store import DeliveryStatus, DeliveryStore
from notifier.messages import RaisedAlert


def must_wait_for_corrections(store: DeliveryStore, event: EventT[bytes], alert: Alert) -> bool:
    """Return True if the alert is to be mailed with corrections, as it is one or follows one that waits; else False.

    It follows the FIRING of its episode, and whatever waits about the same threshold and window. `event`: that of the
    alert.
    """
    if alert.corrects:
        return True
    begun_by = () if alert.episode_id is None else (_name_alert(alert.episode_id),)
    keys = (*begun_by, _name_window(alert))
    waiting = [found for key in keys if (found := store.find_waiting(event, key)) is not None]
    return any(store.find_status(event, each) is None for each in waiting)


def note_waiting(store: DeliveryStore, event: EventT[bytes], alerts: Iterable[RaisedAlert], at: datetime) -> None:
    """Write that these alerts wait for the mail of corrections, until they have a delivery status.

    To be called before any alert is handled that was raised later. The time is only that of the entry.
    """
    for each in (raised.alert for raised in alerts):
        if store.find_status(event, each.alert_id) is not None:
            continue
        for key in (_name_alert(each.alert_id), _name_window(each)):
            if store.find_waiting(event, key) != each.alert_id:
                store.mark_waiting(event, key, each.alert_id, at)


def drop_unexpected(store: DeliveryStore, mail: PlannedMail, now: datetime) -> int:
    """Record a delivery status for those alerts of a mail that its user must not get; return how many they are.

    An alert is recorded as untold if the user was not told of its beginning, or of what it withdraws. It is recorded as
    mailed if the user was mailed the same before, and the withdrawal of that was dropped.
    """
    event, dropped = get_first_event(mail), 0
    for each in (raised.alert for raised in select_undelivered(store, mail)):
        if _follows_dropped(store, event, each):
            store.mark_untold(event, (each.alert_id,), now)
        elif _was_told_before(store, event, each):
            store.mark_mailed(event, (each.alert_id,), now)
        else:
            continue
        dropped += 1
    return dropped


def drop_queued(store: DeliveryStore, groups: Iterable[Iterable[AlertBatch]], now: datetime) -> tuple[AlertBatch, ...]:
    """Record the alerts of other queued batches of a user as untold, since nothing may be mailed; return the batches.

    Batches of a mail that the server may have are left out.
    """
    dropped = tuple(each for each in chain.from_iterable(groups) if not each.sealed)
    for each in dropped:
        store.mark_untold(get_pending_event(each).event, find_open_alert_ids(store, (each,)), now)
    return dropped


def follows_unmailed(store: DeliveryStore, event: EventT[bytes], alerts: Sequence[RaisedAlert]) -> bool:
    """Return True if one of these alerts follows another, not among them, that has no delivery status; else False."""
    ids = {each.alert.alert_id for each in alerts}
    followed = {id_ for each in alerts for id_ in _list_followed(each.alert)} - ids
    return any(store.find_status(event, each) is None for each in followed)


def note_pending(
    store: DeliveryStore,
    event: EventT[bytes],
    alerts: Iterable[RaisedAlert],
    at: datetime,
    is_queued: Callable[[UUID, UUID], bool] = lambda _user_id, _alert_id: False,
) -> bool:
    """Store a pending mark for each of these alerts, and for each alert in memory that they follow.

    To be called before they are published to another topic: after a crash they may be read before what they follow.
    Return True if an alert that they follow got a mark, which must be durable before they are published; else False.
    `is_queued`: returns True if the alert of a user (second argument) is in memory. `at`: the time of the entries.
    """
    listed = [each.alert for each in alerts]
    unmarked = {each.alert_id for each in listed if _is_unmarked(store, event, each.alert_id)}
    followed = {
        each
        for alert in listed
        for each in _list_earlier(alert)
        if each not in unmarked and _is_unmarked(store, event, each) and is_queued(alert.user_id, each)
    }
    for each in unmarked | followed:
        store.mark_pending(event, each, at)
    return bool(followed)


def _is_unmarked(store: DeliveryStore, event: EventT[bytes], alert_id: UUID) -> bool:
    """Return True if an alert has neither a delivery status nor a pending mark, else False."""
    return store.find_status(event, alert_id) is None and not store.has_pending_mark(event, alert_id)


def find_early_ids(store: DeliveryStore, event: EventT[bytes], alerts: Sequence[RaisedAlert]) -> set[UUID]:
    """Return the ids of those of these alerts that follow one which is still to be mailed, and not among them."""
    ids = {each.alert.alert_id for each in alerts}
    return {
        each.alert.alert_id
        for each in alerts
        if any(store.is_pending(event, id_) for id_ in _list_earlier(each.alert) if id_ not in ids)
    }


def note_told(store: DeliveryStore, event: EventT[bytes], alerts: Iterable[RaisedAlert], at: datetime) -> None:
    """Write, for each threshold of these alerts, which breach the user believes to go on after a mail with them."""
    ordered = sorted(
        (each.alert for each in alerts),
        key=lambda each: (each.window_start, each.revision, each.state is AlertState.WITHDRAWN),
    )
    for alert in ordered:
        key = _name_threshold(alert)
        before = store.find_told_breach(event, key)
        after = _compute_believed_breach(alert, before)
        if after != before:
            store.save_told_breach(event, key, after, at)


def _compute_believed_breach(alert: Alert, breach: datetime | None) -> datetime | None:
    """Return the start of the last window of a breach that a user believes to go on after reading `alert`; None: none.

    `breach`: the same before the alert.
    """
    window = alert.window_start
    if alert.reports_breach:
        return window if breach is None else max(breach, window)
    if breach is None:
        return None
    is_over = breach < window if alert.state is AlertState.RESOLVED else breach == window
    return None if is_over else breach


def _follows_dropped(store: DeliveryStore, event: EventT[bytes], alert: Alert) -> bool:
    """Return True if what the alert continues, ends or withdraws was dropped, so that the user was not told of it.

    False for a RESOLVED or STILL whose FIRING was dropped, if the user believes in a breach of an earlier window: the
    record moved the beginning of what they were told. False also if nothing is recorded of it, or no longer.
    """
    match alert.state:
        case AlertState.FIRING:
            return False
        case AlertState.WITHDRAWN:
            found = [store.find_status(event, each) for each in _list_withdrawn(alert)]
            return DeliveryStatus.UNTOLD in found and DeliveryStatus.MAILED not in found
        case AlertState.RESOLVED | AlertState.STILL:
            if alert.episode_id is None or store.find_status(event, alert.episode_id) is not DeliveryStatus.UNTOLD:
                return False
            breach = store.find_told_breach(event, _name_threshold(alert))
            return breach is None or breach >= alert.window_start


def _was_told_before(store: DeliveryStore, event: EventT[bytes], alert: Alert) -> bool:
    """Return True if the user was mailed the same in an earlier revision, and its withdrawal was dropped; else False.

    An end that lapsed with its breach has no withdrawal: True if it was mailed, and the user knows it still.
    """
    if alert.state is AlertState.WITHDRAWN:
        return False
    states = (AlertState.RESOLVED,) if alert.state is AlertState.RESOLVED else (AlertState.FIRING, AlertState.STILL)
    for revision in range(alert.revision - 1, -1, -1):
        ids = [_compute_id(alert, each, revision=revision) for each in states]
        was_told = any(store.find_status(event, each) is DeliveryStatus.MAILED for each in ids)
        withdrawal = _compute_id(alert, AlertState.WITHDRAWN, withdrawn_state=states[0], revision=revision)
        match store.find_status(event, withdrawal):
            case DeliveryStatus.UNTOLD:
                if was_told:
                    return True
            case None:
                # An end lapses with its breach: it is told again if the breach is.
                return was_told and alert.state is AlertState.RESOLVED and _is_end_known(store, event, alert)
            case _:
                return False
    return False


def _is_end_known(store: DeliveryStore, event: EventT[bytes], alert: Alert) -> bool:
    """Return True if the user was told of the breach that an alert ends, and believes that no breach goes on.

    False: the breach was not mailed, or the user still believes in a breach.
    """
    if alert.episode_id is None or store.find_status(event, alert.episode_id) is not DeliveryStatus.MAILED:
        return False
    return store.find_told_breach(event, _name_threshold(alert)) is None


def _list_followed(alert: Alert) -> Iterator[UUID]:
    """Yield the ids of the alerts that an alert follows: the beginning of its episode, and what it withdraws."""
    if alert.state is AlertState.WITHDRAWN:
        yield from _list_withdrawn(alert)
    elif alert.state is not AlertState.FIRING and alert.episode_id is not None:
        yield alert.episode_id


def _list_earlier(alert: Alert) -> Iterator[UUID]:
    """Yield the ids of the alerts that a reader must know before an alert: those that it follows, if they exist.

    If the alert repeats a statement that was withdrawn, also the id of the withdrawal. The order has no cycles.
    """
    yield from _list_followed(alert)
    if alert.revision and alert.state is not AlertState.WITHDRAWN:
        withdrawn = AlertState.RESOLVED if alert.state is AlertState.RESOLVED else AlertState.FIRING
        yield _compute_id(alert, AlertState.WITHDRAWN, withdrawn_state=withdrawn, revision=alert.revision - 1)


def _list_withdrawn(alert: Alert) -> list[UUID]:
    """Return the ids of the alerts that a WITHDRAWN may withdraw: of a breach FIRING and STILL, else RESOLVED."""
    if alert.withdrawn_state is AlertState.RESOLVED:
        return [_compute_id(alert, AlertState.RESOLVED, revision=alert.revision)]
    return [_compute_id(alert, each, revision=alert.revision) for each in (AlertState.FIRING, AlertState.STILL)]


def _compute_id(alert: Alert, state: AlertState, *, revision: int, withdrawn_state: AlertState | None = None) -> UUID:
    """Return the id of another alert about the same threshold and window."""
    return compute_alert_id(
        alert.interest_id, alert.version, alert.bound, alert.window_start, state, withdrawn_state, revision
    )


def _name_alert(alert_id: UUID) -> str:
    return f"alert/{alert_id}"


def _name_threshold(alert: Alert) -> str:
    return f"{alert.interest_id}/{alert.version}/{alert.bound}"


def _name_window(alert: Alert) -> str:
    return f"{_name_threshold(alert)}/{alert.window_start.isoformat()}"
