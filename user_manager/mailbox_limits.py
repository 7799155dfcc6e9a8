"""Limits on the mails that strangers can cause: by mailbox with growing pauses, by client and network, and in all.

ADR 27 and 35. Mailboxes, clients and networks are stored as HMACs only. All counts are in the database, so they hold
for all replicas together.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto
from typing import Final, TypeVar

from sqlalchemy import delete
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.orm import Session

from chassis.clients import find_networks_around
from chassis.metrics import Metrics
from user_manager.access import has_confirmed_account
from user_manager.addresses import Address, compute_address_digest, normalize_mailbox
from user_manager.errors import TooManyMailsError
from user_manager.model import Mailbox, MailQuota

DEFAULT_PAUSES: Final = (timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=1), timedelta(days=1))
"""Default pauses between two mails to one mailbox; the last one is repeated."""

MAILBOX_RETENTION: Final = timedelta(days=30)
"""Time after the last request after which a mailbox is deleted; longer than any pause, and than a link is valid."""

STOP_RETENTION: Final = timedelta(days=400)
"""Time after the last request after which a mailbox whose owner stopped these mails is deleted."""

_HOUR: Final = timedelta(hours=1)
_ALL: Final = "all"

R = TypeVar("R", Mailbox, MailQuota)


class SuppressionReason(StrEnum):
    """Why a mail was not requested; a metric label."""

    PAUSE = "pause"
    """The mailbox got one a short time ago."""
    STOPPED = "stopped"
    """The mailbox's owner wants none."""
    CLIENT_LIMIT = "client_limit"
    """The client has caused too many in this hour."""
    NETWORK_LIMIT = "network_limit"
    """The client's networks have caused their share of what all may cause."""
    TOTAL_LIMIT = "total_limit"
    """All clients together have."""


class PauseScope(StrEnum):
    """The kind of mails whose pauses are counted: mails of one scope do not lengthen the pauses of the other."""

    ACCOUNT = ""
    """Mails that confirm an address or offer a token. Whoever registers sees what became of them."""
    SIGN_IN = "sign-in "
    """Mails by which somebody signs in. Nobody sees what became of them, so signing in may end their pauses."""


class Admission(Enum):
    """The decision if a mail may be requested, and who may know of it."""

    REFUSED = auto()
    """No mail may be requested."""
    OPEN = auto()
    """It may be, and whoever asked may see how far it is."""
    HIDDEN = auto()
    """It may be, because the address has a confirmed account: whoever asked must see what REFUSED shows."""


@dataclass(frozen=True, slots=True)
class MailRates:
    """The limits: pauses between the mails to a mailbox, and mails in an hour of the clock by client and in all."""

    pauses: Sequence[timedelta] = DEFAULT_PAUSES
    """The pause after the first mail, after the second, and so on; the last one is repeated."""
    per_client: int = 30
    in_all: int = 1000


def compute_mail_wait(
    mails: int, last_mail_at: datetime | None, now: datetime, pauses: Sequence[timedelta]
) -> timedelta:
    """Compute how long a mailbox that got `mails` mails, the last at `last_mail_at`, gets no other; 0 if it may now.

    Never longer than the pause, also if a clock that was ahead has written `last_mail_at`.
    """
    if mails < 1 or last_mail_at is None:
        return timedelta(0)
    pause = pauses[min(mails, len(pauses)) - 1]
    return max(timedelta(0), min(last_mail_at + pause - now, pause))


def has_room(in_all: int, counts: Sequence[int]) -> bool:
    """Return True if one more mail may be counted, in all and for each network of its client; else False. Pure.

    `counts` are those of all, of the widest network around the client, of the next one within it, and so on down to the
    client. The widest may have half of what is left, times the part of all that is left, and each one within it half of
    what is left to the one around it: dynamic thresholds (Choudhury and Hahne, "Dynamic queue length thresholds for
    shared-memory packet switches", IEEE/ACM Transactions on Networking 6 (2), 1998), squared so that many networks
    together leave more. One network alone gets 27 % of all, and to leave nothing takes 84 networks (of 1,000 mails).
    """
    total, *networks = counts
    left = in_all - total
    if left <= 0:
        return False
    room = left * left / (2 * in_all)
    for number, count in enumerate(networks):
        room = (room / 2 if number else room) - count
    return room > 0


class MailboxLimits:
    """Decides if a mail may be requested, and counts the mails that were, by mailbox and client.

    In a transaction a caller first locks the mailbox (`lock_mailbox`), then users, then calls `admit_mail`. Whoever
    changes the accounts of an address holds the lock of its mailbox, so such transactions take turns.
    """

    def __init__(self, secret: str, rates: MailRates, metrics: Metrics) -> None:
        """`secret` is the service's; the keys of the hashes are derived from it."""
        self._secret = secret
        self._rates = rates
        self._suppressed = metrics.counter(
            "account_mails_suppressed_total", "Account mails that were asked for and not requested", "reason"
        )
        for reason in SuppressionReason:
            self._suppressed.labels(reason=reason)  # from zero, so that the first one is an increase

    def compute_hash(self, address_key: str) -> str:
        """Compute the keyed hash under which the mailbox of an address (its key) is stored."""
        return self._compute_hmac("mailbox", normalize_mailbox(address_key))

    def compute_proof_hash(self, address_key: str) -> str:
        """Compute the hash of the row that holds when a link last confirmed this very address.

        It is the mailbox's for its own spelling, else a row of the address: a confirmed `+tag` says nothing of the
        address without it.
        """
        name = normalize_mailbox(address_key)
        return self.compute_hash(name) if address_key == name else self._compute_hmac("address", address_key)

    def compute_sign_in_hash(self, address_digest: str) -> str:
        """Compute the keyed hash under which the link is stored that signs in to an address."""
        return self._compute_hmac("sign-in link", address_digest)

    def compute_own_hashes(self, address_key: str) -> dict[PauseScope, str]:
        """Compute, for each scope, the hash of the row that counts the mails to this very address.

        Rows that count the mails to all other spellings of a mailbox are left out: they belong to no one person.
        """
        signing_in = self._compute_hmac(f"{PauseScope.SIGN_IN}address", address_key)
        return {PauseScope.ACCOUNT: self.compute_proof_hash(address_key), PauseScope.SIGN_IN: signing_in}

    def lock_mailbox(self, session: Session, mailbox_hash: str, now: datetime) -> Mailbox:
        """Return the mailbox's row, locked until the transaction ends; insert it if it is missing."""
        fresh = {"mails": 0, "touched_at": now}
        return _lock_row(session, Mailbox, {"mailbox_hash": mailbox_hash}, fresh)

    def compute_owners_wait(self, session: Session, mailbox: Mailbox, address: Address, now: datetime) -> timedelta:
        """Return how long an address with a confirmed account gets no other mail; 0 if it may get one now."""
        scope = PauseScope.ACCOUNT
        rows = [self._lock_shared_pauses(session, mailbox, address, now, scope)]
        if rows[0] is not mailbox:
            rows.append(self._lock_own_pauses(session, address, now, scope))
        return min(self.compute_wait_after(row.mails, row.last_mail_at, now) for row in rows)

    def compute_wait_after(self, mails: int, last_mail_at: datetime | None, now: datetime) -> timedelta:
        """Return the wait of somebody who got so many mails, the last one then; 0 if another may go out now."""
        return compute_mail_wait(mails, last_mail_at, now, self._rates.pauses)

    def admit_mail(
        self,
        session: Session,
        mailbox: Mailbox,
        address: Address,
        client: str | None,
        now: datetime,
        scope: PauseScope = PauseScope.ACCOUNT,
    ) -> Admission:
        """Count a request for a mail to an address of this locked mailbox, and decide if the mail may be requested.

        REFUSED during a pause, and if the owner stopped these mails: a stopped mail counts for the pauses like one that
        is sent, so that nobody can tell the two apart. Each request of a client counts for it and its networks, mailed
        or not, for the same reason (None: no client caused it). Raises TooManyMailsError if the client, its networks,
        or all together, have caused too many in this hour, whatever the mailbox is.
        """
        mailbox.touched_at = max(now, mailbox.touched_at)
        total = self._count_client(session, client, now)
        admission = self._count_between_pauses(session, mailbox, address, now, scope)
        if admission is Admission.REFUSED:
            self._suppressed.labels(reason=SuppressionReason.PAUSE).inc()
            return admission
        if mailbox.stopped_at is not None:
            self._suppressed.labels(reason=SuppressionReason.STOPPED).inc()
            return Admission.REFUSED
        total.mails += 1
        return admission

    def count_owners_mail(self, session: Session, client: str | None, now: datetime) -> None:
        """Count a mail that the owner of a mailbox has asked for by a link in another mail: no pause forbids it.

        Raises TooManyMailsError as `admit_mail` does.
        """
        self._count_client(session, client, now).mails += 1

    def end_sign_in_pauses(self, session: Session, address: Address, now: datetime) -> None:
        """Let the next mail by which somebody signs in to this address go out at once: its owner uses these mails."""
        self._lock_own_pauses(session, address, now, PauseScope.SIGN_IN).mails = 0

    def _count_client(self, session: Session, client: str | None, now: datetime) -> MailQuota:
        """Count a request of a client, and return the locked quota of all, in which it is not counted yet.

        Raises TooManyMailsError if the client, its networks, or all together have caused too many mails in this hour.
        """
        own = [self._lock_quota(session, scope, now) for scope in self._list_scopes(client)]
        total = self._lock_quota(session, _ALL, now)
        if own:
            self._require(own[0].mails < self._rates.per_client, own[0], now, SuppressionReason.CLIENT_LIMIT)
        self._require(total.mails < self._rates.in_all, total, now, SuppressionReason.TOTAL_LIMIT)
        counts = [quota.mails for quota in (total, *reversed(own))]
        self._require(has_room(self._rates.in_all, counts), total, now, SuppressionReason.NETWORK_LIMIT)
        for quota in own:
            quota.mails += 1
        return total

    def _count_between_pauses(
        self, session: Session, mailbox: Mailbox, address: Address, now: datetime, scope: PauseScope
    ) -> Admission:
        """Count a mail to the address unless its pauses forbid it, then REFUSED.

        An address in the mailbox's own spelling has the mailbox's pauses to itself. All other spellings (with a +tag)
        share theirs, because a stranger can invent any number of them. One that has a confirmed account has pauses of
        its own beside them, which strangers' inventions cannot use up.
        """
        shared = self._lock_shared_pauses(session, mailbox, address, now, scope)
        if self._count_mail(shared, now):
            return Admission.OPEN
        if address.key == normalize_mailbox(address.key) or not has_confirmed_account(
            session, compute_address_digest(address.key)
        ):
            return Admission.REFUSED
        is_counted = self._count_mail(self._lock_own_pauses(session, address, now, scope), now)
        return Admission.HIDDEN if is_counted else Admission.REFUSED

    def _lock_shared_pauses(
        self, session: Session, mailbox: Mailbox, address: Address, now: datetime, scope: PauseScope
    ) -> Mailbox:
        """Return the row of the mailbox for its own spelling, that of all other spellings for another one; locked.

        The row of the mailbox itself counts for the scope ACCOUNT; that of another scope is a row of its own.
        """
        name = normalize_mailbox(address.key)
        if address.key != name:
            return self.lock_mailbox(session, self._compute_hmac(f"{scope}spellings", name), now)
        return mailbox if scope is PauseScope.ACCOUNT else self._lock_own_pauses(session, address, now, scope)

    def _lock_own_pauses(self, session: Session, address: Address, now: datetime, scope: PauseScope) -> Mailbox:
        """Return the row that counts the mails to this very address, if it has a confirmed account; locked."""
        return self.lock_mailbox(session, self.compute_own_hashes(address.key)[scope], now)

    def _count_mail(self, row: Mailbox, now: datetime) -> bool:
        """Count a mail in a row and return True; return False during a pause of the row.

        If a clock that was ahead wrote a time in the future, the pause counts from now, once.
        """
        row.touched_at = max(now, row.touched_at)
        if self.compute_wait_after(row.mails, row.last_mail_at, now) > timedelta(0):
            row.last_mail_at = min(row.last_mail_at or now, now)
            return False
        row.mails += 1
        row.last_mail_at = now
        return True

    @staticmethod
    def compute_expiry(row: Mailbox) -> datetime:
        """Return the time from which on a mailbox's row is deleted, unless a mail is asked for before."""
        return row.touched_at + (MAILBOX_RETENTION if row.stopped_at is None else STOP_RETENTION)

    def delete_expired(self, session: Session, now: datetime) -> None:
        """Delete the mailboxes whose retention is over, and the counts of hours that are over."""
        forgotten = (Mailbox.touched_at <= now - MAILBOX_RETENTION) & Mailbox.stopped_at.is_(None)
        session.execute(delete(Mailbox).where(forgotten | (Mailbox.touched_at <= now - STOP_RETENTION)))
        session.execute(delete(MailQuota).where(MailQuota.hour <= now - 2 * _HOUR))

    def _list_scopes(self, client: str | None) -> list[str]:
        """Return the scopes whose counts a client's request adds to: its own, then its networks', narrow to wide.

        Transactions lock them in this order, which therefore ends in no deadlock.
        """
        if client is None:
            return []
        networks = [f"network {self._compute_hmac('network', each)}" for each in find_networks_around(client)]
        return [f"client {self._compute_hmac('client', client)}", *networks]

    def _require(self, is_allowed: bool, quota: MailQuota, now: datetime, reason: SuppressionReason) -> None:
        """Raise TooManyMailsError, with the wait until the next hour after the quota's, unless it is allowed."""
        if is_allowed:
            return
        self._suppressed.labels(reason=reason).inc()
        wait = max(quota.hour + _HOUR - now, timedelta(seconds=1))
        raise TooManyMailsError(
            "Too many mails were asked for in this hour; come back later.",
            retry_after_s=-(-wait // timedelta(seconds=1)),
        )

    def _lock_quota(self, session: Session, scope: str, now: datetime) -> MailQuota:
        """Return the locked count of a scope in the present hour; it begins at 0 if the row is of another hour."""
        hour = now.replace(minute=0, second=0, microsecond=0)
        quota = _lock_row(session, MailQuota, {"scope": scope}, {"hour": hour, "mails": 0})
        if quota.hour != hour:
            quota.hour, quota.mails = hour, 0
        return quota

    def _compute_hmac(self, purpose: str, value: str) -> str:
        """Compute the HMAC-SHA256 of a value with a key that is derived from the secret for this purpose, in hex."""
        key = hmac.digest(self._secret.encode(), f"towerwatch {purpose}".encode(), hashlib.sha256)
        return hmac.digest(key, value.encode(), hashlib.sha256).hex()


def _lock_row(session: Session, model: type[R], key: dict[str, str], fresh: dict[str, object]) -> R:
    """Return the row with this primary key, locked until the transaction ends; insert it with `fresh` if it is missing.

    Two transactions may insert it at once: the second one waits for the first.
    """
    (identity,) = key.values()
    found = session.get(model, identity, with_for_update=True)
    if found is None:
        if session.get_bind().dialect.name == "sqlite":
            session.execute(sqlite.insert(model).values(key | fresh).on_conflict_do_nothing())
        else:
            # Not INSERT IGNORE: it takes a shared lock on a row that exists, and two of these would be a deadlock.
            session.execute(mysql.insert(model).values(key | fresh).on_duplicate_key_update(key))
        found = session.get(model, identity, with_for_update=True)
    assert found is not None  # noqa: S101 - for mypy: the insert has made it, or found it
    return found
