"""The use case: tell a person some alerts, once, and let none of them be lost.

For each mail, in this order: what was told already is left out; who is gone, unconfirmed, paused or suppressed gets
nothing; the people's table says which alerts are on their way; the server takes the mail; the tables say so; the events
are acknowledged. Wherever that breaks off, the same mail is made again, and sent unless it is known to have been taken.
"""

import asyncio
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Final
from uuid import UUID

import structlog
from faust.types import EventT

from chassis.clock import Clock
from notifier.delivery.batching import MOST_ALERTS, Bundle, Mail, Waiting
from notifier.delivery.in_flight import Doubts
from notifier.delivery.interfaces import Arrival, ContactsLike, MailServerLike, Manner, Topics
from notifier.delivery.retries import LONGEST, next_try, pause_after
from notifier.delivery.store import Fate, Ledger
from notifier.delivery.user_state import Person, name_of
from notifier.errors import HardBounce, LostAfterData, MailServerAway, NotSent, Reason, UserManagerAway
from notifier.mail import Contact, compose_alerts_mail
from notifier.messages import RaisedAlert, Retry
from notifier.metrics import NotifierMetrics

log = structlog.get_logger()

_SPAN: Final = timedelta(minutes=10)
"""Alerts whose lifetimes began this close to each other may share a record of the retry topic, and the earliest."""

_AFTER_EACH_OTHER: Final = timedelta(milliseconds=1)
"""What is put off together keeps its order by this."""

_REPORTS: Final = 2
"""Tries to tell user_manager of an address that does not exist. It will be found out again by the next mail."""

_USER_MANAGER_RESTS: Final = timedelta(seconds=1)
_LONGEST_REST: Final = timedelta(seconds=30)


class Mailroom:
    """Delivers mails, several at a time."""

    def __init__(
        self,
        waiting: Waiting,
        ledger: Ledger,
        contacts: ContactsLike,
        server: MailServerLike,
        topics: Topics,
        manner: Manner,
        doubts: Doubts,
        connections: int,
        clock: Clock,
        metrics: NotifierMetrics,
    ) -> None:
        """`connections`: how many mails the server takes at a time. `clock` must show real time."""
        self._waiting = waiting
        self._ledger = ledger
        self._contacts = contacts
        self._server = server
        self._topics = topics
        self._manner = manner
        self._doubts = doubts
        self._slots = asyncio.Semaphore(connections)
        """So that no alerts queue at the server: a confirmation that comes is the next that it takes."""
        self._clock = clock
        self._metrics = metrics
        self._user_manager_failures = 0
        """In a row, each after a rest."""
        self._rests_until: datetime | None = None

    async def deliver(self, mail: Mail) -> datetime | None:
        """See a mail to its end: taken, put off, or aside. When nobody else's is worth a try either, until when.

        Raises nothing that the mail is to blame for.
        """
        try:
            return await self._deliver(mail)
        except Exception as error:  # a bug must cost one mail, kept as evidence, and not the worker
            log.error("notifier.failed", error=type(error).__name__, exc_info=error)
            await self._bury(mail, mail.bundles, "bug", f"{type(error).__name__} in the notifier")
            return None

    async def _deliver(self, mail: Mail) -> datetime | None:
        if not self._are_ours(mail):
            return None
        event, now = _event(mail), self._clock.now()
        self._revive(mail.bundles)
        person = self._ledger.person(event, mail.user_id)
        raised = self._untold(mail)
        taken = self._was_taken(mail)
        if taken or not raised:
            self._metrics.dropped("already_sent", len(mail.raised))
            self._ledger.mailed(event, _ids(raised), now)  # none, unless the record of it was broken off
            await self._ledger.kept(event)
            gone = self._told_by(mail)
            names = _names(gone)
            await self._settled(mail, self._mailed(person, now, names) if taken else person.rid_of(names), gone)
            return None
        untold = _ids(raised)
        open_ = [bundle for bundle in mail.bundles if not untold.isdisjoint(bundle.alert_ids)]
        old = [bundle for bundle in open_ if now - bundle.since >= self._manner.lifetime]
        if old and (not mail.again or len(old) == len(open_)):  # what may have been taken stays together
            text = f"gave up after {max(each.attempt for each in old)} tries: older than {self._manner.lifetime}"
            await self._bury(mail, old, "gave_up", text)
            return None
        if not mail.again and (at := person.next_mail_at(now, self._manner.mails_per_hour)) > now:
            await self._put_off(mail, raised, person, min(at, now + LONGEST), Reason.ENOUGH_FOR_NOW)
            return None
        return await self._try(mail, raised, person)

    async def _try(self, mail: Mail, raised: Sequence[RaisedAlert], person: Person) -> datetime | None:
        try:
            contact = await self._contacts.of(mail.user_id)
            self._user_manager_failures = 0
            if contact is None or not contact.confirmed or contact.paused or contact.suppressed:
                self._metrics.dropped(_why_no_alert(contact), len(raised))
                if mail.again:  # they may know: what comes of these alerts once more must not tell them otherwise
                    self._ledger.mailed(_event(mail), _ids(raised), self._clock.now())
                await self._settled(mail, person.rid_of(_names(mail.bundles)))
                return None
            await self._send(mail, raised, person, contact)
        except MailServerAway as error:
            if error.reason is Reason.BREAKER_OPEN:
                self._waiting.back(mail)
                return error.retry_at
            await self._failed(mail, raised, person, error)
        except NotSent as error:
            await self._failed(mail, raised, person, error)
            if isinstance(error, UserManagerAway):
                return self._rest()
        return None

    def _rest(self) -> datetime:
        """Until when. Those who find user_manager away at the same time rest together."""
        now = self._clock.now()
        if self._rests_until is None or self._rests_until <= now:
            self._user_manager_failures += 1
            pause = pause_after(self._user_manager_failures, _USER_MANAGER_RESTS, random.random())
            self._rests_until = now + min(pause, _LONGEST_REST)
        return self._rests_until

    async def _send(self, mail: Mail, raised: Sequence[RaisedAlert], person: Person, contact: Contact) -> None:
        """Raises NotSent."""
        event, began = _event(mail), time.perf_counter()
        cause = min(each.cause_published_at for each in raised)
        now = self._clock.now()
        letter = compose_alerts_mail([each.alert for each in raised], contact, self._manner.sender, now, cause)
        sending = person.sending(_ids(raised))
        if sending != person:
            self._ledger.remember(event, mail.user_id, sending)
            await self._ledger.kept(event)
        async with self._slots, self._doubts.of_one_mail() as doubt:
            if not self._are_ours(mail):
                return
            try:
                await self._server.send(letter, self._manner.envelope_from(contact), doubt.begin)
            except NotSent as error:
                if error.reason is not Reason.BREAKER_OPEN:
                    self._metrics.not_sent("alerts")
                raise
            now = self._clock.now()
            self._ledger.mailed(event, _ids(raised), now)
            # Before the people's table forgets which mail it was: a crash between the two would let others join it.
            await self._ledger.kept(event)
        self._metrics.sent("alerts", time.perf_counter() - began)
        self._metrics.told(tuple(raised), now)
        gone = self._told_by(mail)
        await self._settled(mail, self._mailed(person, now, _names(gone)), gone)

    async def _failed(self, mail: Mail, raised: Sequence[RaisedAlert], person: Person, error: NotSent) -> None:
        now = self._clock.now()
        if error.permanent:
            await self._bury(mail, mail.bundles, "refused", str(error))
            # After it: a crash in between costs a report, which the next mail repeats.
            if isinstance(error, HardBounce):
                await self._report_bounce(mail.user_id, now)
            return
        attempt = max(bundle.attempt for bundle in mail.bundles) + 1
        since = max(bundle.since for bundle in mail.bundles)
        until = next_try(
            now, attempt, since, self._manner.retry_base, random.random(), error.retry_at, self._manner.lifetime
        )
        if until is None:
            await self._bury(mail, mail.bundles, "gave_up", f"gave up after {attempt} tries: {error}")
            return
        log.warning("alerts.put_off", alerts=len(raised), attempt=attempt, reason=str(error))
        sealed = mail.again or isinstance(error, LostAfterData)
        await self._put_off(mail, raised, person, until, error.reason, tried=True, sealed=sealed)

    async def _put_off(
        self,
        mail: Mail,
        raised: Sequence[RaisedAlert],
        person: Person,
        until: datetime,
        reason: Reason,
        tried: bool = False,
        sealed: bool = False,
    ) -> None:
        """Publish what the mail tells, to be read again when its time has come.

        What else waits of that person goes along, untried: it could not be told before, and an event that is in hand
        for many pauses would pass for one that is stuck.
        """
        rest = self._waiting.rest(mail)
        gone = (*mail.bundles, *chain.from_iterable(rest))
        self._revive(gone)
        person, now = person.rid_of(_names(gone)), self._clock.now()
        told = _ids(raised)
        parts = [(mail.bundles, told, tried, sealed)]
        left = self._open_of(gone) - told
        parts += [(bundles, left, False, bundles[0].sealed) for bundles in (mail.bundles, *rest)]
        for part, wanted, was_tried, is_sealed in parts:
            for bundles in (part,) if is_sealed else _close_together(part):
                every = {each.alert.alert_id: each for bundle in bundles for each in bundle.raised}
                some = tuple(each for alert_id, each in every.items() if alert_id in wanted)
                if some:
                    wanted -= _ids(some)
                    attempt = max(bundle.attempt for bundle in bundles) + was_tried
                    retry = Retry(some, attempt, until, min(bundle.since for bundle in bundles), is_sealed)
                    await self._topics.put_off(mail.user_id, retry)
                    person = person.putting_off((name_of(_ids(some)),), until, now)
                    until += _AFTER_EACH_OTHER
        if sealed:  # else an older record of these alerts, read again, would let others join them
            person = person.sending(_ids(raised))
        self._metrics.put_off("alerts", reason)
        await self._settled(mail, person, gone)

    async def _bury(self, mail: Mail, bundles: Sequence[Bundle], label: str, reason: str) -> None:
        """Put some of a mail's alerts aside for good. The rest of them waits on."""
        event, now = _event(mail), self._clock.now()
        for bundle in bundles:
            if not self._open_of((bundle,)):  # it was read twice, and the first time told, or put aside
                continue
            await self._topics.bury(_arrival(bundle).event, reason)
            self._ledger.buried(event, bundle.alert_ids, now)
            self._metrics.dead(label)
        person = self._ledger.person(event, mail.user_id).rid_of(_names(bundles))
        await self._settled(mail, person, bundles)

    async def _settled(self, mail: Mail, person: Person, gone: Sequence[Bundle] | None = None) -> None:
        """Remember the person, and acknowledge what is `gone`: done with, for good or until it comes again.

        All of the mail, if nothing else is said; the rest of it waits on.
        """
        gone = mail.bundles if gone is None else gone
        event = _event(mail)
        if not self._are_ours(mail):
            return
        if person != self._ledger.person(event, mail.user_id):
            self._ledger.remember(event, mail.user_id, person)
        await self._ledger.kept(event)
        self._waiting.done(mail, gone, person)
        for bundle in gone:
            await _arrival(bundle).acknowledge()

    async def _report_bounce(self, user_id: UUID, at: datetime) -> None:
        for attempt in range(_REPORTS):
            try:
                await self._contacts.report_bounce(user_id, at)
            except UserManagerAway:
                if attempt + 1 < _REPORTS:
                    await asyncio.sleep(self._clock.real_seconds(_USER_MANAGER_RESTS))
            else:
                self._metrics.suppressed("told")
                return
        self._metrics.suppressed("not_told")

    def _mailed(self, person: Person, now: datetime, names: frozenset[UUID]) -> Person:
        return person.mailed(now, names, self._manner.mails_per_hour)

    def _revive(self, bundles: Iterable[Bundle]) -> None:
        for bundle in bundles:
            if _arrival(bundle).requeued:
                self._ledger.revived(_arrival(bundle).event, bundle.alert_ids)

    def _untold(self, mail: Mail) -> tuple[RaisedAlert, ...]:
        event = _event(mail)
        return tuple(each for each in mail.raised if self._ledger.fate(event, each.alert.alert_id) is None)

    def _open_of(self, bundles: Iterable[Bundle]) -> set[UUID]:
        """Their alerts that nothing has become of yet."""
        return {
            alert_id
            for bundle in bundles
            for alert_id in bundle.alert_ids
            if self._ledger.fate(_arrival(bundle).event, alert_id) is None
        }

    def _told_by(self, mail: Mail) -> tuple[Bundle, ...]:
        """Its bundles of which nothing is left to be told."""
        return tuple(bundle for bundle in mail.bundles if not self._open_of((bundle,)))

    def _was_taken(self, mail: Mail) -> bool:
        """Whether a mail that was on its way was recorded, at least in part: all of it is recorded together."""
        return any(self._ledger.fate(_event(mail), each) is Fate.MAILED for each in mail.known)

    def _are_ours(self, mail: Mail) -> bool:
        return all(self._topics.are_ours(_arrival(bundle).event) for bundle in mail.bundles)


def _arrival(bundle: Bundle) -> Arrival:
    assert isinstance(bundle.origin, Arrival)  # noqa: S101 - for mypy: `Waiting` does not look at it
    return bundle.origin


def _event(mail: Mail) -> EventT[bytes]:
    return _arrival(mail.bundles[0]).event


def _ids(raised: Iterable[RaisedAlert]) -> set[UUID]:
    return {each.alert.alert_id for each in raised}


def _names(bundles: Iterable[Bundle]) -> frozenset[UUID]:
    return frozenset(name for bundle in bundles if (name := bundle.name) is not None)


def _close_together(bundles: Iterable[Bundle]) -> Iterator[tuple[Bundle, ...]]:
    """Bundles whose lifetimes began within _SPAN of each other, in their order."""
    some: list[Bundle] = []
    for bundle in sorted(bundles, key=lambda each: each.since):
        full = sum(len(each.raised) for each in (*some, bundle)) > MOST_ALERTS
        if some and (full or bundle.since - some[0].since > _SPAN):
            yield tuple(some)
            some = []
        some.append(bundle)
    if some:
        yield tuple(some)


def _why_no_alert(contact: Contact | None) -> str:
    if contact is None:
        return "user_gone"
    if contact.suppressed:
        return "suppressed"
    return "paused" if contact.confirmed else "unconfirmed"
