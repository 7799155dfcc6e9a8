"""The delivery of notices: each notice is one mail of its own, sent once (`notifier.delivery.single_mails`)."""

from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import ClassVar, assert_never

from faust.types import EventT

from domain.notices import RetiredNotice, UnheardNotice
from notifier.delivery.policy import find_drop_reason
from notifier.delivery.single_mails import SingleMailDelivery
from notifier.delivery.store import DeliveryStatus
from notifier.mail import Contact, compose_retired_mail, compose_unheard_mail
from notifier.messages import ScheduledNotice


class NoticeDelivery(SingleMailDelivery[ScheduledNotice]):
    """The use case that mails notices.

    Notices are not grouped, and the hourly limit on alert mails does not apply: a user gets one for each airport, once.
    """

    kind: ClassVar[str] = "notice"
    capacity: ClassVar[int] = 10_000
    concurrent_attempts: ClassVar[int] = 4
    """Low enough that alerts and confirmation mails wait only a short time for notices."""

    def _get_lifetime(self) -> timedelta:
        return self._policy.lifetime

    def _find_status(self, event: EventT[bytes], scheduled: ScheduledNotice) -> DeliveryStatus | None:
        return self._store.find_status(event, scheduled.raised.event_id)

    def _mark_mailed(self, event: EventT[bytes], scheduled: ScheduledNotice, at: datetime) -> None:
        self._store.mark_mailed(event, (scheduled.raised.event_id,), at)

    def _mark_dead_lettered(self, event: EventT[bytes], scheduled: ScheduledNotice, at: datetime) -> None:
        self._store.mark_dead_lettered(event, (scheduled.raised.event_id,), at)

    def _clear_dead_lettered(self, event: EventT[bytes], scheduled: ScheduledNotice) -> None:
        self._store.clear_dead_lettered(event, (scheduled.raised.event_id,))

    def _find_drop_reason(self, contact: Contact | None) -> str | None:
        """Return "user_gone", "suppressed", "unconfirmed" or "paused"; None: the user may get notices."""
        return find_drop_reason(contact)

    def _compose(self, scheduled: ScheduledNotice, contact: Contact) -> EmailMessage:
        notice, sender, now = scheduled.raised.notice, self._policy.sender, self._clock.wall.now()
        match notice:
            case UnheardNotice():
                return compose_unheard_mail(notice, contact, sender, now)
            case RetiredNotice():
                return compose_retired_mail(notice, contact, sender, now)
            case _:
                assert_never(notice)

    def _count_dropped(self, reason: str) -> None:
        self._metrics.count_dropped_notice(reason)
