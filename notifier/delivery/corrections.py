"""The delivery of corrections: what the settled record changes of that which was known live, one mail a user and day.

Corrections wait for each other in the retry topic, apart from other alerts, which they never hold up: they have a queue
and user states of their own, and the same steps of delivery (`notifier.delivery.deliver`). A mail lists only what
remains of them when it is sent.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import ClassVar, Final
from uuid import UUID

from chassis.clock import SteadyClock
from domain.alerts import Alert, AlertState, Bound
from notifier.delivery.alert_batch import AlertBatch, PlannedMail
from notifier.delivery.batching import MailQueue
from notifier.delivery.catch_up import cancel_withdrawn
from notifier.delivery.deliver import AlertDelivery
from notifier.delivery.dispatch import MailDispatcher
from notifier.delivery.in_flight import InFlightLimit
from notifier.delivery.interfaces import ContactsLike, EventTopics, SmtpClientLike
from notifier.delivery.planned_mail import get_first_event, select_undelivered
from notifier.delivery.policy import CorrectionPolicy, MailPolicy, find_drop_reason
from notifier.delivery.retries import MAX_PAUSE, compute_lifetime_start
from notifier.delivery.store import DeliveryStore
from notifier.delivery.told import drop_unexpected, follows_unmailed
from notifier.delivery.user_state import UserState
from notifier.errors import FailureReason
from notifier.mail import Contact, compose_alerts_mail, compose_corrections_mail
from notifier.messages import RaisedAlert
from notifier.metrics import NotifierMetrics

CONNECTIONS: Final = 1
"""Mails of corrections that one worker sends at a time: they come all at once, and must not hold up alerts."""

_QUEUE_PAUSE: Final = timedelta(minutes=1)
"""How long corrections wait, before they are tried again, for the same user's alerts that are in memory."""

_NOT_WANTED: Final = "not_wanted"
"""The metric label of corrections whose user wants none."""


@dataclass(frozen=True, slots=True)
class AlertLane:
    """A way of alerts from event to mail: the dispatcher of its queue, and the store of its user states."""

    dispatcher: MailDispatcher
    store: DeliveryStore


class CorrectionDelivery(AlertDelivery):
    """The use case that delivers mails of corrections; it has a queue and a store of user states of its own.

    Its batches count as those of catch-up mails: given up by the number of attempts alone, listed in one mail.
    """

    kind: ClassVar[str] = "corrections"
    late_kind: ClassVar[str] = "corrections"
    late_subject: ClassVar[str] = "corrections"

    def __init__(
        self,
        queue: MailQueue,
        store: DeliveryStore,
        contacts: ContactsLike,
        smtp: SmtpClientLike,
        topics: EventTopics,
        policy: MailPolicy,
        in_flight: InFlightLimit,
        clock: SteadyClock,
        metrics: NotifierMetrics,
        times: CorrectionPolicy,
        alerts_store: DeliveryStore,
        has_alerts_queued: Callable[[UUID], bool],
    ) -> None:
        """`alerts_store`: the store of the states of users as far as other alerts are concerned; `has_alerts_queued`:
        returns True while such alerts of a user are in memory."""
        super().__init__(queue, store, contacts, smtp, topics, policy, in_flight, CONNECTIONS, clock, metrics)
        self._times = times
        self._alerts_store = alerts_store
        self._has_alerts_queued = has_alerts_queued

    def prepare(self, batch: AlertBatch) -> AlertBatch:
        """Return the batch with `gather_until` set: the time until which it waits for further corrections.

        It is the stored time, else the quiet time after the batch's arrival; at most the quiet time from now, because a
        wrong clock may have written it.
        """
        now = self._clock.now()
        latest = now + self._times.quiet
        until = batch.gather_until
        if until is None:
            until = self._compute_arrival(batch, now) + self._times.quiet
        return replace(batch, gather_until=min(until, latest))

    def _find_allowed_time(self, mail: PlannedMail, user: UserState, now: datetime) -> tuple[datetime, FailureReason]:
        """Return the time from which the mail may be sent, and why not before (GATHERING).

        That is once no correction came for a while, or the first waited long enough; but not before the user's earlier
        alerts, and not on the day of another mail of corrections. If the mail follows one of these alerts, it waits for
        them for as long as they live.
        """
        latest = min(self._compute_arrival(each, now) for each in mail.batches) + self._times.longest_wait
        allowed_at = min(max(each.gather_until or now for each in mail.batches), latest)
        event = get_first_event(mail)
        if now < latest or follows_unmailed(self._alerts_store, event, mail.alerts):
            last = latest if now < latest else latest + self._policy.lifetime
            quiet_at = self._alerts_store.load_user_state(event, mail.user_id).compute_quiet_time(now)
            times = self._alerts_store.load_waiting_times(event, mail.user_id)
            if times is not None and times.with_bounded_times(now).keeps_waiting(now):
                quiet_at = max(quiet_at, now + MAX_PAUSE)
            if self._has_alerts_queued(mail.user_id):
                quiet_at = max(quiet_at, now + _QUEUE_PAUSE)
            if allowed_at <= now:
                allowed_at = min(quiet_at, last)
        if user.corrections_mailed_at is not None:
            allowed_at = max(allowed_at, user.corrections_mailed_at + self._times.pause)
        return allowed_at, FailureReason.GATHERING

    def _compute_arrival(self, batch: AlertBatch, now: datetime) -> datetime:
        """Return the time at which the first correction of a batch was raised, on the clock of this process."""
        return compute_lifetime_start(batch.lifetime_start, now, self._clock.wall.now())

    def _find_drop_reason(self, contact: Contact | None) -> str | None:
        """Return the metric label that says why the user must not get the mail; None: the user may get it.

        "not_wanted" for a user who may have mails and has turned off those of corrections.
        """
        reason = find_drop_reason(contact)
        if reason is None and contact is not None and contact.without_corrections:
            return _NOT_WANTED
        return reason

    def _drop(self, mail: PlannedMail, alerts: Sequence[RaisedAlert], reason: str) -> Sequence[RaisedAlert]:
        """Record alerts of a mail as dropped, and count them; return those that are to be mailed all the same.

        Who wants no corrections gets the others, which only waited for what they follow, unless they end or withdraw
        what was dropped.
        """
        others = tuple(each for each in alerts if not each.alert.corrects)
        if reason != _NOT_WANTED or not others or (mail.may_be_duplicate and len(others) < len(alerts)):
            return super()._drop(mail, alerts, reason)
        super()._drop(mail, [each for each in alerts if each.alert.corrects], reason)
        if mail.may_be_duplicate:
            return others
        self._metrics.count_dropped_alerts("not_begun", drop_unexpected(self._store, mail, self._clock.now()))
        return select_undelivered(self._store, mail)

    def _compose(self, _mail: PlannedMail, alerts: Sequence[RaisedAlert], contact: Contact) -> EmailMessage | None:
        """Compose the mail of corrections with the outcomes that remain; None if no outcome does.

        Alerts of which none is a correction get an ordinary mail.
        """
        reported = [each.alert for each in alerts]
        cause, now = min(each.cause_published_at for each in alerts), self._clock.wall.now()
        if not self._counts_as_mail(alerts):
            return compose_alerts_mail(reported, contact, self._policy.sender, now, cause)
        listed = select_outcomes(reported)
        if not listed:
            return None
        return compose_corrections_mail(listed, reported, contact, self._policy.sender, now, cause)

    def _counts_as_mail(self, alerts: Sequence[RaisedAlert]) -> bool:
        """Return True if a mail with these alerts is the day's mail of corrections: if one of them is a correction."""
        return any(each.alert.corrects for each in alerts)

    def _with_mail_sent(self, user: UserState, now: datetime, batch_ids: frozenset[UUID]) -> UserState:
        """Return the state of a user after a mail of corrections, from which the pause to the next one counts."""
        return user.with_corrections_sent(now, batch_ids)


_Subject = tuple[UUID, int, Bound, datetime, bool]
"""What statements are about: interest, version, bound, window start, and True for the end of a breach."""


def select_outcomes(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    """Return what remains to be told of some corrections, in their order: the outcome of each, and nothing in between.

    Left out are corrections that others of them withdraw (`cancel_withdrawn`); and a withdrawal of what was told before
    together with the same statement if it comes again later: the user knows it already. So is an end of a breach that
    came again only because its beginning did.
    """
    remaining = cancel_withdrawn(alerts)
    withdrawn: dict[_Subject, int] = {}
    for each in remaining:
        if each.state is AlertState.WITHDRAWN:
            withdrawn[_get_subject(each)] = min(each.revision, withdrawn.get(_get_subject(each), each.revision))
    again = [
        each
        for each in remaining
        if each.state is not AlertState.WITHDRAWN and each.revision > withdrawn.get(_get_subject(each), each.revision)
    ]
    known = {_get_subject(each) for each in again}
    begun_again = {each.episode_id for each in again if each.state is AlertState.FIRING}
    return tuple(
        each
        for each in remaining
        if _get_subject(each) not in known
        and not (each.state is AlertState.RESOLVED and each.revision and each.episode_id in begun_again)
    )


def _get_subject(alert: Alert) -> _Subject:
    """Return what an alert is about; for a withdrawal, what the alert is about that it withdraws."""
    return alert.interest_id, alert.version, alert.bound, alert.window_start, alert.is_about_end
