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
from notifier.errors import FailureReason, MailServerUnavailable, PermanentlyRefused, UnprovenBounce
from notifier.smtp.accepted import AcceptedRecipients
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

_MOST_UNCOUNTED: Final = 10
"""How many failures about recipients of the same domains, in a row, do not count as failures of the server."""

_NO_REPLY: Final = (FailureReason.LOST, FailureReason.LOST_AFTER_DATA)
"""Reasons that count as failures of the server, although they are about one mail."""


class SmtpClient:
    """Sends mails to one mail server, over a pool of connections that are kept open.

    Creating a client connects to nothing: a connection is opened for a mail that finds no idle one. Any number of tasks
    may call `send` at once; each waits for a connection and for the rate limit. A circuit breaker stops all mails for a
    while after failures of the server as a whole. The owner calls `close` at the end.
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
        """`starttls` and `tls` verify the server's certificate; `plaintext` does not encrypt.

        Each connection logs in if `username` and `password` are given. `ca_file` names the trusted certificates, in
        place of the machine's; raises OSError (ssl.SSLError) for an invalid file. At most `connections` are in use at a
        time, and each is closed after `mails_per_connection`. `mails_per_minute` None: no limit. `sign` signs each mail
        before it is sent.
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
        self._idle: list[tuple[SmtpConnection, timedelta]] = []
        """Idle connections, and since when, in elapsed time. The connection used last is used next, so that no more
        stay open than are needed."""
        self._opened: set[SmtpConnection] = set()
        """All open connections, and some that were closed."""
        self._accepted = AcceptedRecipients()
        self._refused_domains: set[str] = set()
        """The recipients' domains of which a failure has counted since the server last answered otherwise."""
        self._uncounted_failures = 0
        """How many failures have not counted since then, because one of the same domain had."""
        self._in_flight = 0
        self._closed = False

    async def send(
        self, mail: EmailMessage, envelope_from: str | None = None, before_content: BeforeContent | None = None
    ) -> None:
        """Serialize, sign and send a mail to its one recipient; return once the server has accepted it.

        Any number of tasks may call this at once: mails wait for a free connection in order, and then for the rate
        limit. The outcome is recorded in the circuit breaker. `envelope_from`: the address for bounces (None: the
        address in From; empty: no bounces).

        `before_content` is awaited when the server is ready for the content (354), before its first byte is written:
        until `before_content` returns, the server certainly has not accepted the mail, even if this process is killed.
        Meanwhile the mail occupies its connection, on which the server waits for some minutes; if the server gives up
        waiting, this raises TemporarilyRefused or MailServerUnavailable. `before_content` is called at most once, also
        if a second connection is tried; its own errors are raised unchanged.

        Raises TemporarilyRefused (LostAfterData if the server may have accepted the mail; UnprovenBounce, which says
        when the server last accepted another recipient; SendingSideRefused), PermanentlyRefused (HardBounce if the
        address is at fault) or MailServerUnavailable. While the breaker admits no mail, this raises
        MailServerUnavailable at once, with the time of the next attempt.
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
                    recipient = envelope.recipient if failure.about_recipient else None
                    self._record_failure(generation, outcome.reason, recipient)
                else:
                    self._record_answer(generation)
                error = outcome.to_error()
                if outcome.disposition is Disposition.SERVER:
                    error.retry_at = self._compute_retry_time()
                if isinstance(error, UnprovenBounce):
                    error.other_accepted_at = failure.other_accepted_at
                raise error from None
            except PermanentlyRefused:  # the mail was not sent: the server lacks SMTPUTF8
                outcome_known = True
                self._record_answer(generation)
                raise
            finally:
                self._in_flight -= 1
                if not outcome_known:
                    self._breaker = self._breaker.after_abandoned_call(generation, self._clock.elapsed())

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
        """Close the idle connections, with QUIT, and keep no connection idle from now on.

        A mail in flight is sent to its end, and its connection closed after it; this method does not wait for that.
        Waits at most `quit_s` of the timeouts (one second) for the server's replies to QUIT.
        """
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(connection.quit() for connection, _ in idle))

    async def _deliver(self, envelope: Envelope, before_content: BeforeContent | None) -> None:
        """Send a mail over an idle or new connection; send it once more, over a new one, if the idle one was closed.

        An idle connection was closed if no reply, or a 421, came to MAIL. All other failures of sending are raised at
        once: SmtpCommandFailed, PermanentlyRefused and the errors of `before_content`.
        """
        async with self._use_connection(reuse_idle=True) as connection:
            is_new = connection.mails == 0
            try:
                await self._deliver_over(connection, envelope, before_content)
                return
            except SmtpCommandFailed as failure:
                # A server may close an idle connection at the moment at which a mail comes (RFC 5321, 3.8).
                if is_new or not failure.before_any_reply:
                    raise
        async with self._use_connection(reuse_idle=False) as connection:
            await self._deliver_over(connection, envelope, before_content)

    async def _deliver_over(
        self, connection: SmtpConnection, envelope: Envelope, before_content: BeforeContent | None
    ) -> None:
        """Send a mail over this connection, and remember that its server has accepted the recipient.

        Raises the errors of `SmtpConnection.deliver`; a SmtpCommandFailed says when the same server last accepted
        another recipient.
        """
        try:
            await connection.deliver(envelope, before_content)
        except SmtpCommandFailed as failure:
            failure.other_accepted_at = self._accepted.find_other(connection.server, envelope.recipient)
            raise
        self._accepted.record(connection.server, envelope.recipient, self._clock.now())

    @asynccontextmanager
    async def _use_connection(self, reuse_idle: bool) -> AsyncIterator[SmtpConnection]:
        """Provide an idle connection (if `reuse_idle`, and one works) or a new one for the block.

        After the block the connection goes back to the idle ones; it is closed instead if it is not usable any more, or
        the client was closed. The local host name that the first connection has found is kept for all later ones. The
        end of the block waits for nothing: a cancellation there would come between the server's "250" and the
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
                self._idle.append((connection, self._clock.elapsed()))

    async def _take_idle_connection(self) -> SmtpConnection | None:
        """Remove and return the idle connection that was used last and still works; None if no idle connection works.

        A connection idle for more than 30 seconds is probed first. Closes and removes the connections before it that
        are lost, fail the probe, or have sent `mails_per_connection` mails (with QUIT).
        """
        while self._idle:
            connection, since = self._idle.pop()
            if not connection.is_usable:
                connection.close()
            elif connection.mails >= self._mails_per_connection:
                await connection.quit()
            elif self._clock.elapsed() - since <= PROBE_AFTER_IDLE or await connection.probe():
                return connection
            else:
                connection.close()
        return None

    async def _wait_for_rate_limit(self) -> None:
        """Reserve the rate limit's next time for a mail, and wait for that time; without a limit, return at once."""
        if self._rate_limit is not None:
            now = self._clock.elapsed()
            await asyncio.sleep(self._clock.real_seconds(self._rate_limit.reserve(now) - now))

    def _enter_breaker(self) -> int:
        """Admit a mail to the breaker, as its probe after an open period, and return the breaker's generation.

        The caller reports the mail's outcome with this generation, by which the breaker ignores outdated outcomes.
        Raises MailServerUnavailable if the circuit is open or another mail is the probe.
        """
        admitted = self._breaker.admit_call(self._clock.elapsed())
        if admitted is None:
            raise self._build_circuit_open_error()
        self._breaker = admitted
        return admitted.generation

    def _record_answer(self, generation: int) -> None:
        """Record in the breaker that the server has answered, whatever the answer was about one mail.

        Clears the count of failures; after a probe it closes the circuit, and logs that the server is back.
        """
        if generation == self._breaker.generation:
            self._forget_refused_domains()
        before, self._breaker = self._breaker, self._breaker.after_success(generation)
        if self._breaker.state is not before.state:
            log.info("mail_server.back")

    def _record_failure(self, generation: int, reason: FailureReason, recipient: str | None) -> None:
        """Record in the breaker a failure of the server as a whole; log a warning if that opens the circuit.

        Does nothing for a mail of an earlier generation. `recipient`: the recipient's address if the failure came after
        it was named. While the circuit is closed such failures count once for each domain until the server answers
        otherwise: else one person, whose server refuses as it likes, could stop the mails of all. After
        _MOST_UNCOUNTED that did not count each counts, because no mail at all has got through meanwhile.
        """
        before = self._breaker
        if generation != before.generation:
            return
        if recipient is not None and before.state is BreakerState.CLOSED:
            domain = recipient.rpartition("@")[2].lower()
            if domain in self._refused_domains and self._uncounted_failures < _MOST_UNCOUNTED:
                self._uncounted_failures += 1
                return
            self._refused_domains.add(domain)
        elapsed = self._clock.elapsed()
        self._breaker = before.after_failure(generation, elapsed, random.random())
        if self._breaker.generation != before.generation:
            self._forget_refused_domains()
            until = self._clock.now() + self._breaker.compute_wait(elapsed)
            log.warning("mail_server.left_alone", reason=str(reason), until=until.isoformat())

    def _forget_refused_domains(self) -> None:
        """Let the next failure of each domain count again."""
        self._refused_domains.clear()
        self._uncounted_failures = 0

    def _require_admission(self) -> None:
        """Raise MailServerUnavailable while the breaker admits no mail; does not itself admit the mail.

        So no mail is serialized or queues for a connection in vain.
        """
        if self._breaker.admit_call(self._clock.elapsed()) is None:
            raise self._build_circuit_open_error()

    def _build_circuit_open_error(self) -> MailServerUnavailable:
        """Return the error for a mail that the breaker does not admit, with the time of the next attempt."""
        retry_at = self._compute_retry_time()
        return MailServerUnavailable("left alone after failures", FailureReason.BREAKER_OPEN, retry_at)

    def _compute_retry_time(self) -> datetime | None:
        """Return when the breaker may admit a mail again: the end of its open period, or, during a probe, 5 s from now.

        Returns None if it admits mails now.
        """
        elapsed = self._clock.elapsed()
        if self._breaker.admit_call(elapsed) is not None:
            return None
        return self._clock.now() + (self._breaker.compute_wait(elapsed) or _RETRY_DURING_PROBE)
