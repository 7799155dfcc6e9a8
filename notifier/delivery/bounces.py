"""Bounces: when a rejected recipient counts against the address, and the report of it to user_manager."""

import asyncio
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from faust.types import EventT

from chassis.clock import SteadyClock
from notifier.delivery.interfaces import ContactsLike
from notifier.delivery.store import DeliveryStore
from notifier.errors import HardBounce, NotSent, UnprovenBounce, UserManagerUnavailable
from notifier.metrics import NotifierMetrics

MIN_DAY_APART: Final = timedelta(hours=12)
"""Two rejections on two UTC days count as two only if they are this far apart: a fault of an evening that lasts beyond
midnight is one fault."""

_LONGEST_PROOF: Final = timedelta(days=8)
"""Two rejections that lie farther apart prove nothing together."""

_REPORT_ATTEMPTS: Final = 2
_REPORT_PAUSE: Final = timedelta(seconds=1)


def is_bounce_proven(rejected_at: datetime, now: datetime, other_accepted_at: datetime | None) -> bool:
    """Return True if a bare rejection `now` counts against the address, False if it may be our own fault.

    `rejected_at`: the first such rejection of the address since its last mail. It counts if the same server has
    accepted a mail to another recipient since (`other_accepted_at`; None: not that we know), so that it relays for us;
    or if the first rejection was on another day (UTC), at least MIN_DAY_APART ago.
    """
    if other_accepted_at is not None and other_accepted_at > rejected_at:
        return True
    return now.date() > rejected_at.date() and now - rejected_at >= MIN_DAY_APART


def resolve_bounce(store: DeliveryStore, event: EventT[bytes], user_id: UUID, error: NotSent, now: datetime) -> NotSent:
    """Return the failure of a mail as it counts: an UnprovenBounce becomes a HardBounce once it is proven.

    Remembers the user's first unproven bounce in the store (durable after its `wait_until_persisted`), and forgets it
    once it is proven: after the owner has confirmed the address anew, the proof begins anew. It also begins anew after
    a bounce that is of the future, or older than _LONGEST_PROOF: a wrong clock dated one of the two. Other
    failures are returned unchanged.
    """
    if isinstance(error, UnprovenBounce):
        rejected_at = store.find_unproven_bounce(event, user_id)
        if rejected_at is None or not timedelta(0) <= now - rejected_at <= _LONGEST_PROOF:
            store.mark_unproven_bounce(event, user_id, now)
        elif is_bounce_proven(rejected_at, now, error.other_accepted_at):
            store.clear_unproven_bounce(event, user_id)
            return HardBounce(str(error))
    return error


async def report_bounce_repeatedly(
    contacts: ContactsLike, metrics: NotifierMetrics, user_id: UUID, clock: SteadyClock
) -> None:
    """Report to user_manager that the user's address does not exist now, and count whether that succeeded.

    Makes _REPORT_ATTEMPTS, _REPORT_PAUSE apart; raises nothing if all fail: the next mail finds it out again.
    """
    at = clock.wall.now()
    for attempt in range(_REPORT_ATTEMPTS):
        try:
            await contacts.report_bounce(user_id, at)
        except UserManagerUnavailable:
            if attempt + 1 < _REPORT_ATTEMPTS:
                await asyncio.sleep(clock.real_seconds(_REPORT_PAUSE))
        else:
            metrics.count_bounce_report("told")
            return
    metrics.count_bounce_report("not_told")


async def report_bounce_once(contacts: ContactsLike, metrics: NotifierMetrics, user_id: UUID, at: datetime) -> None:
    """Report to user_manager, in one attempt, that the user's address did not exist at `at`; count the result.

    A failed attempt raises nothing: if the next mail to the address bounces, too, that is reported again.
    """
    try:
        await contacts.report_bounce(user_id, at)
        metrics.count_bounce_report("told")
    except UserManagerUnavailable:
        metrics.count_bounce_report("not_told")
