"""The mail server as the rest of the notifier sees it: mails go in, from many tasks at once, or errors come out."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Final

import structlog

from chassis.breaker import Breaker, BreakerPolicy, BreakerState
from chassis.clock import Clock, SystemClock
from notifier.errors import MailServerAway, PermanentlyRefused, Reason
from notifier.smtp.connection import Access, BeforeContent, Connection, Refused, Security, Timeouts
from notifier.smtp.envelope import Envelope, Sign
from notifier.smtp.outcomes import Kind
from notifier.smtp.rate_limit import Pace

log = structlog.get_logger()

DOUBTFUL: Final = timedelta(seconds=30)
"""A connection that was idle for longer is asked whether it still stands. A server that hangs up is noticed at once;
this is for the one that vanished, and for what forgets connections on the way to it."""

_PROBED_AGAIN: Final = timedelta(seconds=5)
"""Who finds a probe out to see whether the server is back, comes again after this."""

_SILENCES: Final = (Reason.LOST, Reason.LOST_AFTER_DATA)


class MailServer:
    """Delivers mails over a pool of connections that are kept open. Nothing connects before the first mail."""

    def __init__(
        self,
        host: str,
        port: int,
        security: Security,
        username: str | None = None,
        password: str | None = None,
        *,
        ca_file: Path | None = None,
        connections: int = 4,
        mails_per_connection: int = 100,
        mails_per_minute: int | None = None,
        sign: Sign | None = None,
        clock: Clock | None = None,
        patience: BreakerPolicy | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        """`starttls` and `tls` verify the server's certificate; `plaintext` sends as it is. Logs in with a username.

        `ca_file` names the certificates to believe in place of the machine's; OSError (ssl.SSLError) when it is none.
        No more than `connections` are open at a time; each says good-bye after `mails_per_connection`. No
        `mails_per_minute`: as many as the server takes. `sign` is given each mail as it goes out.
        """
        tls = None if security == "plaintext" else ssl.create_default_context(cafile=ca_file)
        self._access = Access(host, port, security, username, password, tls, timeouts or Timeouts())
        self._mails_per_connection = mails_per_connection
        self._pace = Pace(mails_per_minute) if mails_per_minute is not None else None
        self._sign = sign
        self._clock = clock or SystemClock()
        self._breaker = Breaker(patience or BreakerPolicy())
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[tuple[Connection, datetime]] = []
        """With the time since when; the one used last is used next, so that no more stay open than are needed."""
        self._opened: set[Connection] = set()
        """All that are open, and some that were."""
        self._under_way = 0
        self._closed = False

    async def send(
        self, mail: EmailMessage, envelope_from: str | None = None, before_content: BeforeContent | None = None
    ) -> None:
        """Hand a mail over to its one recipient; returning means that the server has taken charge of it.

        May be called any number of times at once: the mails wait for a free connection in turn. `envelope_from`, where
        given, is who hears of a bounce; empty: nobody.

        `before_content` is awaited when the server wants the content (354), before the first byte of it is written:
        until it returns, the mail was certainly not taken, whoever is killed. The mail keeps its connection meanwhile,
        for which the server has some minutes of patience; a server that has lost it raises TemporarilyRefused or
        MailServerAway. It is called once at most for each connection that is tried; what it raises comes out.

        Raises TemporarilyRefused (LostAfterData when the mail may have been taken), PermanentlyRefused (HardBounce when
        the address is at fault) or MailServerAway. While the server is left alone, the last comes at once and says
        until when.
        """
        self._require_admission()  # first: to write and sign a mail costs more than to be told to come later
        envelope = Envelope.of(mail, envelope_from, self._sign)
        async with self._slots:
            self._require_admission()
            await self._until_its_turn()
            generation = self._admitted()
            outcome_known = False
            self._under_way += 1
            try:
                await self._deliver(envelope, before_content)
                self._answered(generation)
                outcome_known = True
            except Refused as refused:
                outcome_known = True
                outcome = refused.outcome
                if outcome.kind is Kind.SERVER or outcome.reason in _SILENCES:
                    self._failed(generation, outcome.reason)
                else:
                    self._answered(generation)
                error = outcome.error()
                if outcome.kind is Kind.SERVER:
                    error.retry_at = self._retry_at()
                raise error from None
            except PermanentlyRefused:  # the server was not asked: it lacks SMTPUTF8
                outcome_known = True
                self._answered(generation)
                raise
            finally:
                self._under_way -= 1
                if not outcome_known:
                    self._breaker = self._breaker.after_abandoned_call(generation, self._clock.now())

    @property
    def state(self) -> BreakerState:
        """Whether the server is being left alone, for metrics."""
        return self._breaker.state

    @property
    def connections(self) -> int:
        """Open now, at work or kept; for metrics."""
        return sum(connection.is_open for connection in self._opened)

    @property
    def mails_under_way(self) -> int:
        """That the server is being asked to take now; those that wait for a connection are not among them."""
        return self._under_way

    async def close(self) -> None:
        """Take leave of the server. A mail at hand goes on, and its connection is closed after it.

        Waits a second at most for the server's answers.
        """
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(connection.leave() for connection, _ in idle))

    async def _deliver(self, envelope: Envelope, before_content: BeforeContent | None) -> None:
        async with self._connection(kept_open=True) as connection:
            fresh = connection.mails == 0
            try:
                await connection.deliver(envelope, before_content)
                return
            except Refused as refused:
                # A server may hang up on an idle connection just when a mail comes (RFC 5321, 3.8).
                if fresh or not refused.unheard:
                    raise
        async with self._connection(kept_open=False) as connection:
            await connection.deliver(envelope, before_content)

    @asynccontextmanager
    async def _connection(self, kept_open: bool) -> AsyncIterator[Connection]:
        """Leaving it waits for nothing: nobody may be interrupted between the server's "250" and their record of it."""
        connection = await self._kept_open() if kept_open else None
        if connection is None:
            connection = await Connection.open(self._access)
            self._opened = {each for each in self._opened if each.is_open} | {connection}
            self._access = replace(self._access, local_hostname=connection.local_hostname)
        try:
            yield connection
        finally:
            if not connection.usable:
                connection.close()
            elif self._closed:
                connection.leave_at_once()
            else:
                self._idle.append((connection, self._clock.now()))

    async def _kept_open(self) -> Connection | None:
        while self._idle:
            connection, since = self._idle.pop()
            if not connection.usable:
                connection.close()
            elif connection.mails >= self._mails_per_connection:
                await connection.leave()
            elif self._clock.now() - since <= DOUBTFUL or await connection.answers():
                return connection
            else:
                connection.close()
        return None

    async def _until_its_turn(self) -> None:
        if self._pace is not None:
            now = self._clock.now()
            await asyncio.sleep(self._clock.real_seconds(self._pace.next(now) - now))

    def _admitted(self) -> int:
        admitted = self._breaker.admit_call(self._clock.now())
        if admitted is None:
            raise self._left_alone()
        self._breaker = admitted
        return admitted.generation

    def _answered(self, generation: int) -> None:
        before, self._breaker = self._breaker, self._breaker.after_success(generation)
        if self._breaker.state is not before.state:
            log.info("mail_server.back")

    def _failed(self, generation: int, reason: Reason) -> None:
        before = self._breaker
        self._breaker = before.after_failure(generation, self._clock.now(), random.random())
        if self._breaker.generation != before.generation:
            log.warning("mail_server.left_alone", reason=str(reason), until=self._breaker.open_until.isoformat())

    def _require_admission(self) -> None:
        """So that nobody queues for a server that will not be asked."""
        if self._breaker.admit_call(self._clock.now()) is None:
            raise self._left_alone()

    def _left_alone(self) -> MailServerAway:
        return MailServerAway("left alone after failures", Reason.BREAKER_OPEN, self._retry_at())

    def _retry_at(self) -> datetime | None:
        """None while the server is not left alone."""
        now = self._clock.now()
        if self._breaker.admit_call(now) is not None:
            return None
        return now + (self._breaker.compute_wait(now) or _PROBED_AGAIN)
