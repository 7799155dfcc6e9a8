"""One connection to the mail server, from the greeting to the good-bye.

aiosmtplib opens it: greeting, EHLO, STARTTLS, AUTH. Then its transport is handed to `Replies`: aiosmtplib sends a
command only after the reply to the one before, and with PIPELINING (RFC 2920) MAIL, RCPT and DATA go out together, so
that a mail costs two round trips in place of four.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from aiosmtplib import SMTP, SMTPException, SMTPResponseException

from notifier.errors import FailureReason, PermanentlyRefused
from notifier.smtp.envelope import Envelope, stuffed
from notifier.smtp.outcomes import Enhanced, Kind, Phase, classify
from notifier.smtp.replies import Replies, Reply, Silence, enhanced_of

Security = Literal["starttls", "tls", "plaintext"]

BeforeContent = Callable[[], Awaitable[None]]
"""Awaited when the server is ready for a mail's content and has none of it: its caller's last word."""

_EXTENSIONS: Final = ("pipelining", "size", "8bitmime", "smtputf8")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """For how many seconds to wait for what."""

    connect_s: float = 15.0
    """Each: the connection, the greeting, EHLO, the handshake, and each step of the login."""
    command_s: float = 60.0
    """The reply to MAIL, RCPT or DATA. RFC 5321, 4.5.3.2, would give one minute or four more: who is that slow is not
    working, and the mail loses nothing by coming again."""
    content_s: float = 180.0
    """The reply after the mail's last line. Who gives up on this one risks a second copy (RFC 5321, 4.5.3.2.6)."""
    farewell_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Access:
    """Where the server is and how we get in. Without `tls` everything goes as plain text."""

    host: str
    port: int
    security: Security
    username: str | None
    password: str | None = field(repr=False)
    tls: ssl.SSLContext | None
    timeouts: Timeouts
    local_hostname: str | None = None
    """What EHLO says. None: what the machine finds out, which can take the seconds of a name server's silence."""


class Refused(Exception):
    """The server would not do it, or did not answer."""

    def __init__(self, phase: Phase, code: int | None, enhanced: Enhanced | None = None) -> None:
        """`code` None: no answer."""
        self.outcome = classify(phase, code, enhanced)
        super().__init__(self.outcome.text)
        self.unheard = phase is Phase.MAIL and code in (None, 421)
        """Whether the server has hung up, as on an idle connection, or fell silent, before it answered anything about
        this mail."""


class Connection:
    """Takes one mail after another, each to its end before the next."""

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        replies: Replies,
        offers: frozenset[str],
        timeouts: Timeouts,
        local_hostname: str | None,
    ) -> None:
        """`offers`: the server's extensions, in lower case. Use `Connection.open`."""
        self._transport = transport
        self._replies = replies
        self._offers = offers
        self._timeouts = timeouts
        self.local_hostname = local_hostname
        """What EHLO said."""
        self._in_between = False
        """Whether the server may still remember something of a mail that was broken off."""
        self.mails = 0
        """So many it was asked to take."""

    @classmethod
    async def open(cls, access: Access) -> "Connection":
        """Connect, greet, encrypt and log in. Raises Refused."""
        wait = access.timeouts.connect_s
        client = SMTP(
            hostname=access.host,
            port=access.port,
            use_tls=access.security == "tls",
            start_tls=False,
            local_hostname=access.local_hostname,
            tls_context=access.tls,
            timeout=wait,
        )
        phase = Phase.CONNECT
        try:
            await client.connect()
            phase = Phase.EHLO
            await client.ehlo()
            if access.security == "starttls":
                phase = Phase.STARTTLS
                await client.starttls()
                phase = Phase.EHLO
                await client.ehlo()
            if access.username is not None and access.password is not None:
                phase = Phase.AUTH
                await client.login(access.username, access.password)
            if client.transport is None:
                raise SMTPException("lost")
        # `from None`: the library's errors hold what the server said.
        except SMTPResponseException as error:
            client.close()
            code = error.code if error.code > 0 else None
            raise Refused(phase, code, enhanced_of(error.message)) from None
        except (SMTPException, OSError) as error:
            client.close()
            failed = Phase.STARTTLS if _is_about_tls(error) else phase
            raise Refused(failed, None) from None
        except BaseException:  # a cancellation; nobody else could close it
            client.close()
            raise
        offers = frozenset(each for each in _EXTENSIONS if client.supports_extension(each))
        replies = Replies()
        transport = cast(asyncio.WriteTransport, client.transport)
        transport.set_protocol(replies)
        return cls(transport, replies, offers, access.timeouts, client.local_hostname)

    @property
    def usable(self) -> bool:
        """Whether, as far as can be known without asking, the server still listens."""
        return self._replies.quiet and not self._transport.is_closing()

    async def answers(self) -> bool:
        """Whether the server still answers."""
        try:
            return (await self._asked(b"NOOP\r\n", self._timeouts.connect_s)).code == 250
        except Silence:
            return False
        except BaseException:  # a cancellation; whoever asks has no hold of it yet, and nobody else could close it
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether it is neither closed nor, as far as is known, lost."""
        return not self._transport.is_closing()

    async def deliver(self, envelope: Envelope, before_content: BeforeContent | None = None) -> None:
        """Hand a mail over; returning means that the server has taken charge of it.

        Until `before_content` is called, the server cannot take the mail; it is called once at most. Raises Refused,
        what `before_content` raises, and PermanentlyRefused for an address that this server cannot be told. Afterwards
        the connection can be used again if it is `usable`; after a cancellation it cannot.
        """
        content = envelope.content
        if envelope.needs_8bitmime and not envelope.needs_smtputf8 and "8bitmime" not in self._offers:
            content = envelope.in_seven_bits()
        commands = self._commands(envelope, len(content))
        self.mails += 1
        finished = False
        try:
            if "pipelining" in self._offers:
                await self._begin_at_once(commands)
            else:
                await self._begin_step_by_step(commands)
            if before_content is not None:
                await before_content()
                await self._require_patience()
            await self._finish(content)
            finished = True
        except Refused as refused:
            outcome = refused.outcome
            finished = outcome.kind in _GOES_ON and outcome.reason not in (FailureReason.LOST, FailureReason.PROTOCOL)
            raise
        finally:
            if not finished:
                self.close()

    async def leave(self) -> None:
        """Say good-bye, wait a moment for the answer (RFC 5321, 4.1.1.10), and close."""
        try:
            if self.usable:
                with suppress(Silence):
                    await self._asked(b"QUIT\r\n", self._timeouts.farewell_s)
        finally:
            self._transport.close()

    def leave_at_once(self) -> None:
        """Say good-bye and close, where nobody may wait."""
        if self.usable:
            self._transport.write(b"QUIT\r\n")
        self._transport.close()

    def close(self) -> None:
        """At once, without a word, and without waiting for what is still to be written."""
        self._transport.abort()

    def _commands(self, envelope: Envelope, size: int) -> list[tuple[Phase, bytes]]:
        parameters = ""
        if "size" in self._offers:
            parameters += f" SIZE={size}"  # RFC 1870: what is too large need not be sent
        if envelope.needs_8bitmime and "8bitmime" in self._offers:
            parameters += " BODY=8BITMIME"
        if envelope.needs_smtputf8:
            if "smtputf8" not in self._offers:
                raise PermanentlyRefused("the server takes no address in this alphabet", FailureReason.ADDRESS)
            parameters += " SMTPUTF8"
        return [
            (Phase.MAIL, f"MAIL FROM:<{envelope.sender}>{parameters}\r\n".encode()),
            (Phase.RCPT, f"RCPT TO:<{envelope.recipient}>\r\n".encode()),
            (Phase.DATA, b"DATA\r\n"),
        ]

    async def _begin_at_once(self, commands: list[tuple[Phase, bytes]]) -> None:
        reset, self._in_between = self._in_between, True
        self._transport.write((b"RSET\r\n" if reset else b"") + b"".join(command for _, command in commands))
        failure: Refused | None = None
        if reset:
            await self._reply(Phase.MAIL, self._timeouts.command_s)  # a refusal here shows again in the next reply
        for phase, _ in commands:
            reply = await self._reply_or(phase, failure)
            if failure is None and not _goes_on(phase, reply):
                failure = Refused(phase, reply.code, reply.enhanced)
                if failure.outcome.kind is Kind.SERVER and reply.code == 421:
                    raise failure  # it hangs up: there may be no more replies
            elif failure is not None and phase is Phase.DATA and reply.code == 354:
                # The server waits for a mail that it has no recipient for: give it an empty one (RFC 2920, 3.1).
                self._transport.write(b".\r\n")
                await self._reply_or(Phase.CONTENT, failure)
        if failure is not None:
            raise failure

    async def _begin_step_by_step(self, commands: list[tuple[Phase, bytes]]) -> None:
        if self._in_between:
            self._transport.write(b"RSET\r\n")
            await self._reply(Phase.MAIL, self._timeouts.command_s)
        self._in_between = True
        for phase, command in commands:
            self._transport.write(command)
            reply = await self._reply(phase, self._timeouts.command_s)
            if not _goes_on(phase, reply):
                raise Refused(phase, reply.code, reply.enhanced)

    async def _require_patience(self) -> None:
        """Raises Refused where the server has not waited: it has nothing of the mail then, and cannot have taken it."""
        if self.usable:
            return
        try:
            reply = await self._reply(Phase.DATA, self._timeouts.command_s)  # a good-bye, or the end
            raise Refused(Phase.DATA, reply.code, reply.enhanced)
        finally:
            self.close()  # it takes what we say for the mail, if it listens at all

    async def _finish(self, content: bytes) -> None:
        self._transport.write(stuffed(content))
        reply = await self._reply(Phase.CONTENT, self._timeouts.content_s)
        if reply.code // 100 != 2:
            raise Refused(Phase.CONTENT, reply.code, reply.enhanced)
        self._in_between = False

    async def _asked(self, command: bytes, within_s: float) -> Reply:
        self._transport.write(command)
        return await self._replies.next(within_s)

    async def _reply(self, phase: Phase, within_s: float) -> Reply:
        try:
            return await self._replies.next(within_s)
        except Silence:
            raise Refused(phase, None) from None

    async def _reply_or(self, phase: Phase, failure: Refused | None) -> Reply:
        """The next reply. Where none comes, an earlier failure says more than the silence."""
        try:
            return await self._replies.next(self._timeouts.command_s)
        except Silence:
            if failure is not None:
                self.close()
                raise failure from None
            raise Refused(phase, None) from None


_GOES_ON: Final = (Kind.TEMPORARY, Kind.PERMANENT, Kind.HARD_BOUNCE)
"""Refusals of one mail, after which the server will hear of the next."""


def _goes_on(phase: Phase, reply: Reply) -> bool:
    return reply.code == 354 if phase is Phase.DATA else reply.code // 100 == 2


def _is_about_tls(error: BaseException | None) -> bool:
    """Whether a handshake failed; the library wraps what happened in what it meant to do."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__
    return False
