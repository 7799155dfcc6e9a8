"""The SMTP client of the notifier: any number of tasks send mails at once, and each gets its own error."""

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
from notifier.errors import FailureReason, MailServerUnavailable, PermanentlyRefused
from notifier.smtp.connection import (
    BeforeContent,
    Security,
    SmtpCommandFailed,
    SmtpConnection,
    SmtpServerConfig,
    SmtpTimeouts,
)
from notifier.smtp.envelope import Envelope, Sign
from notifier.smtp.outcomes import Disposition
from notifier.smtp.rate_limit import RateLimit

log = structlog.get_logger()

PROBE_AFTER_IDLE: Final = timedelta(seconds=30)
"""A connection that was idle for longer is probed (NOOP) before its next mail. A connection that the server closes is
noticed at once; the probe finds a server that has vanished, and a NAT or firewall that has dropped the connection."""

_RETRY_DURING_PROBE: Final = timedelta(seconds=5)
"""When to retry a mail that was rejected because the breaker's probe is in flight."""

_NO_REPLY: Final = (FailureReason.LOST, FailureReason.LOST_AFTER_DATA)
"""Reasons that count as failures of the server, although they are about one mail."""


class SmtpClient:
    """Sends mails to one mail server, over a pool of connections that are kept open.

    The first connection is opened for the first mail. A circuit breaker stops all mails for a while after failures of
    the server as a whole.
    """

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
        breaker_policy: BreakerPolicy | None = None,
        timeouts: SmtpTimeouts | None = None,
    ) -> None:
        """`starttls` and `tls` verify the server's certificate; `plaintext` does not encrypt. Logs in with a username.

        `ca_file` names the trusted certificates, in place of the machine's; raises OSError (ssl.SSLError) for an
        invalid file. At most `connections` are open at a time, and each is closed after `mails_per_connection`.
        `mails_per_minute` None: no limit. `sign` signs each mail before it is sent.
        """
        tls = None if security == "plaintext" else ssl.create_default_context(cafile=ca_file)
        self._config = SmtpServerConfig(host, port, security, username, password, tls, timeouts or SmtpTimeouts())
        self._mails_per_connection = mails_per_connection
        self._rate_limit = RateLimit(mails_per_minute) if mails_per_minute is not None else None
        self._sign = sign
        self._clock = clock or SystemClock()
        self._breaker = Breaker(breaker_policy or BreakerPolicy())
        self._slots = asyncio.Semaphore(connections)
        """One for each connection that may be in use at the same time."""
        self._idle: list[tuple[SmtpConnection, datetime]] = []
        """Idle connections, and since when. The connection used last is used next, so that no more stay open than are
        needed."""
        self._opened: set[SmtpConnection] = set()
        """All open connections, and some that were closed."""
        self._in_flight = 0
        self._closed = False

    async def send(
        self, mail: EmailMessage, envelope_from: str | None = None, before_content: BeforeContent | None = None
    ) -> None:
        """Send a mail to its one recipient; return once the server has accepted it.

        Any number of tasks may call this at once: mails wait for a free connection in order. `envelope_from`: the
        address for bounces (None: the address in From; empty: no bounces).

        `before_content` is awaited when the server is ready for the content (354), before its first byte is written:
        until it returns, the server certainly has not accepted the mail, even if this process is killed. Meanwhile the
        mail occupies its connection, on which the server waits for some minutes; if the server gives up waiting, this
        raises TemporarilyRefused or MailServerUnavailable. `before_content` is called at most once for each connection
        that is tried; its own errors are raised unchanged.

        Raises TemporarilyRefused (LostAfterData if the server may have accepted the mail), PermanentlyRefused
        (HardBounce if the address is at fault) or MailServerUnavailable. While the circuit is open, the last comes
        at once, with the time of the next attempt.
        """
        self._require_admission()  # first: serializing and signing a mail costs more than rejecting it
        envelope = Envelope.of(mail, envelope_from, self._sign)
        async with self._slots:
            self._require_admission()
            await self._wait_for_rate_limit()
            generation = self._enter_breaker()
            outcome_known = False
            self._in_flight += 1
            try:
                await self._deliver(envelope, before_content)
                self._record_answer(generation)
                outcome_known = True
            except SmtpCommandFailed as failure:
                outcome_known = True
                outcome = failure.outcome
                if outcome.disposition is Disposition.SERVER or outcome.reason in _NO_REPLY:
                    self._record_failure(generation, outcome.reason)
                else:
                    self._record_answer(generation)
                error = outcome.to_error()
                if outcome.disposition is Disposition.SERVER:
                    error.retry_at = self._compute_retry_time()
                raise error from None
            except PermanentlyRefused:  # the mail was not sent: the server lacks SMTPUTF8
                outcome_known = True
                self._record_answer(generation)
                raise
            finally:
                self._in_flight -= 1
                if not outcome_known:
                    self._breaker = self._breaker.after_abandoned_call(generation, self._clock.now())

    @property
    def state(self) -> BreakerState:
        """The state of the circuit breaker, for metrics."""
        return self._breaker.state

    @property
    def connections(self) -> int:
        """The number of open connections, in use or idle; for metrics."""
        return sum(connection.is_open for connection in self._opened)

    @property
    def mails_in_flight(self) -> int:
        """The number of mails that are being sent now; mails that wait for a connection do not count."""
        return self._in_flight

    async def close(self) -> None:
        """Close the idle connections. A mail in flight is sent to its end, and its connection closed after it.

        Waits at most one second for the server's replies to QUIT.
        """
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(connection.quit() for connection, _ in idle))

    async def _deliver(self, envelope: Envelope, before_content: BeforeContent | None) -> None:
        """Send a mail over one connection, and over a new one if an idle connection proves to be closed."""
        async with self._use_connection(reuse_idle=True) as connection:
            is_new = connection.mails == 0
            try:
                await connection.deliver(envelope, before_content)
                return
            except SmtpCommandFailed as failure:
                # A server may close an idle connection at the moment at which a mail comes (RFC 5321, 3.8).
                if is_new or not failure.before_any_reply:
                    raise
        async with self._use_connection(reuse_idle=False) as connection:
            await connection.deliver(envelope, before_content)

    @asynccontextmanager
    async def _use_connection(self, reuse_idle: bool) -> AsyncIterator[SmtpConnection]:
        """Provide an idle or new connection for the block, and put it back into the pool after the block.

        The end of the block waits for nothing: a cancellation there would come between the server's "250" and the
        caller's record of it.
        """
        connection = await self._take_idle_connection() if reuse_idle else None
        if connection is None:
            connection = await SmtpConnection.open(self._config)
            self._opened = {each for each in self._opened if each.is_open} | {connection}
            self._config = replace(self._config, local_hostname=connection.local_hostname)
        try:
            yield connection
        finally:
            if not connection.is_usable:
                connection.close()
            elif self._closed:
                connection.quit_without_waiting()
            else:
                self._idle.append((connection, self._clock.now()))

    async def _take_idle_connection(self) -> SmtpConnection | None:
        """Remove and return an idle connection that works, or return None; close others that do not work any more."""
        while self._idle:
            connection, since = self._idle.pop()
            if not connection.is_usable:
                connection.close()
            elif connection.mails >= self._mails_per_connection:
                await connection.quit()
            elif self._clock.now() - since <= PROBE_AFTER_IDLE or await connection.probe():
                return connection
            else:
                connection.close()
        return None

    async def _wait_for_rate_limit(self) -> None:
        """Wait until the rate limit permits the next mail."""
        if self._rate_limit is not None:
            now = self._clock.now()
            await asyncio.sleep(self._clock.real_seconds(self._rate_limit.reserve(now) - now))

    def _enter_breaker(self) -> int:
        """Admit a mail to the breaker, and return its generation. Raises MailServerUnavailable if it is open."""
        admitted = self._breaker.admit_call(self._clock.now())
        if admitted is None:
            raise self._circuit_open_error()
        self._breaker = admitted
        return admitted.generation

    def _record_answer(self, generation: int) -> None:
        """Record in the breaker that the server has answered, whatever the answer was about one mail."""
        before, self._breaker = self._breaker, self._breaker.after_success(generation)
        if self._breaker.state is not before.state:
            log.info("mail_server.back")

    def _record_failure(self, generation: int, reason: FailureReason) -> None:
        """Record in the breaker a failure of the server as a whole, which may open the circuit."""
        before = self._breaker
        self._breaker = before.after_failure(generation, self._clock.now(), random.random())
        if self._breaker.generation != before.generation:
            log.warning("mail_server.left_alone", reason=str(reason), until=self._breaker.open_until.isoformat())

    def _require_admission(self) -> None:
        """Raise MailServerUnavailable while the breaker admits no mail, so that no mail queues for a connection."""
        if self._breaker.admit_call(self._clock.now()) is None:
            raise self._circuit_open_error()

    def _circuit_open_error(self) -> MailServerUnavailable:
        retry_at = self._compute_retry_time()
        return MailServerUnavailable("left alone after failures", FailureReason.BREAKER_OPEN, retry_at)

    def _compute_retry_time(self) -> datetime | None:
        """Return when the breaker may admit a mail again; None: it admits mails now."""
        now = self._clock.now()
        if self._breaker.admit_call(now) is not None:
            return None
        return now + (self._breaker.compute_wait(now) or _RETRY_DURING_PROBE)
