"""One connection to the mail server, from the greeting to QUIT.

aiosmtplib opens the connection: greeting, EHLO, STARTTLS, AUTH. Then `ReplyReader` takes over its transport: aiosmtplib
sends a command only after the reply to the one before, but with PIPELINING (RFC 2920) MAIL, RCPT and DATA go out
together, so that a mail takes two round trips instead of four.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, cast

from aiosmtplib import SMTP, SMTPException, SMTPResponseException

from notifier.errors import FailureReason, PermanentlyRefused
from notifier.smtp.envelope import Envelope, dot_stuff
from notifier.smtp.outcomes import PHASES_OF_ONE_MAIL, Disposition, EnhancedCode, Phase, classify
from notifier.smtp.replies import NoReplyError, ReplyReader, SmtpReply, parse_enhanced_code

Security = Literal["starttls", "tls", "plaintext"]

BeforeContent = Callable[[], Awaitable[None]]
"""A caller's function that is awaited when the server is ready for a mail's content (354), before any of it is sent."""

_EXTENSIONS: Final = ("pipelining", "size", "8bitmime", "smtputf8")
"""The server's extensions that we use, in lower case."""


@dataclass(frozen=True, slots=True)
class SmtpTimeouts:
    """Timeouts for the server's replies, in seconds."""

    connect_s: float = 15.0
    """For each step of opening: the connection, the greeting, EHLO, the TLS handshake, and each step of the login."""
    command_s: float = 60.0
    """For the reply to MAIL, RCPT or DATA. RFC 5321, 4.5.3.2, recommends up to five minutes; but a server so slow does
    not work, and a later attempt costs nothing."""
    content_s: float = 180.0
    """For the reply after the mail's last line. A timeout risks a second copy of the mail (RFC 5321, 4.5.3.2.6)."""
    quit_s: float = 1.0
    """For the reply to QUIT."""


@dataclass(frozen=True, slots=True)
class SmtpServerConfig:
    """The server's address, our credentials, TLS and timeouts: what opening a connection needs.

    Logs in only if both `username` and `password` are given. `tls` None: the connection is not encrypted.
    """

    host: str
    port: int
    security: Security
    username: str | None
    password: str | None = field(repr=False)
    tls: ssl.SSLContext | None
    timeouts: SmtpTimeouts
    local_hostname: str | None = None
    """Our name in EHLO. None: the machine looks it up, which takes seconds if the name server does not answer."""


class SmtpCommandFailed(Exception):
    """The server refused a command or a mail's content, or did not reply; `outcome` classifies the failure."""

    @classmethod
    def of(cls, phase: Phase, reply: SmtpReply) -> "SmtpCommandFailed":
        """Return the failure of a phase whose reply is not positive."""
        return cls(phase, reply.code, reply.enhanced, reply.words)

    def __init__(self, phase: Phase, code: int | None, enhanced: EnhancedCode | None = None, words: str = "") -> None:
        """`code`: of the reply; None: no reply came. `words`: its text, which is classified and not kept."""
        self.outcome = classify(phase, code, enhanced, words)
        super().__init__(self.outcome.text)
        self.other_accepted_at: datetime | None = None
        """When the same server last accepted another recipient; None: not that we know. The client sets it."""
        self.about_recipient = phase in PHASES_OF_ONE_MAIL
        """True if it came after the recipient was named: a server that passes mails on may only repeat what the
        recipient's server says."""
        self.before_any_reply = phase is Phase.MAIL and code in (None, 421)
        """True if no reply, or a 421 (the server closes the connection), came to MAIL, the mail's first command.

        So it is with an idle connection that the server has closed."""


class SmtpConnection:
    """An open connection to the mail server, which sends one mail after another.

    Only one task at a time may use it. `deliver` closes it after a failure that concerns more than one mail.
    """

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        replies: ReplyReader,
        extensions: frozenset[str],
        timeouts: SmtpTimeouts,
        local_hostname: str | None,
    ) -> None:
        """`extensions`: of the server, in lower case. Use `SmtpConnection.open` to create one."""
        self._transport = transport
        self._replies = replies
        self._extensions = extensions
        self._timeouts = timeouts
        self.server = str(transport.get_extra_info("peername"))
        """The server's IP address and port."""
        self.local_hostname = local_hostname
        """Our name in EHLO."""
        self._needs_reset = False
        """True while the server may still hold the envelope of a mail that it did not accept: RSET must come first."""
        self.mails = 0
        """The number of mails that were sent over this connection, accepted or not."""

    @classmethod
    async def open(cls, config: SmtpServerConfig) -> "SmtpConnection":
        """Open a connection, as configured: connect, EHLO, STARTTLS with another EHLO, and login.

        Then takes the transport over from aiosmtplib, and keeps the server's extensions. Raises
        SmtpCommandFailed, whose outcome depends on the step that failed; then, and after a cancellation, the connection
        is closed.
        """
        wait = config.timeouts.connect_s
        client = SMTP(
            hostname=config.host,
            port=config.port,
            use_tls=config.security == "tls",
            start_tls=False,
            local_hostname=config.local_hostname,
            tls_context=config.tls,
            timeout=wait,
        )
        phase = Phase.CONNECT
        try:
            await client.connect()
            phase = Phase.EHLO
            await client.ehlo()
            if config.security == "starttls":
                phase = Phase.STARTTLS
                await client.starttls()
                phase = Phase.EHLO
                await client.ehlo()
            if config.username is not None and config.password is not None:
                phase = Phase.AUTH
                await client.login(config.username, config.password)
            if client.transport is None:
                raise SMTPException("lost")
        # `from None`: the library's errors hold the server's texts.
        except SMTPResponseException as error:
            client.close()
            code = error.code if error.code > 0 else None
            raise SmtpCommandFailed(phase, code, parse_enhanced_code(error.message)) from None
        except (SMTPException, OSError, ValueError, OverflowError) as error:  # getaddrinfo raises any of the last three
            client.close()
            failed = Phase.STARTTLS if _is_tls_error(error) else phase
            raise SmtpCommandFailed(failed, None) from None
        except BaseException:  # a cancellation; no other code could close the connection
            client.close()
            raise
        extensions = frozenset(each for each in _EXTENSIONS if client.supports_extension(each))
        replies = ReplyReader()
        transport = cast(asyncio.WriteTransport, client.transport)
        transport.set_protocol(replies)
        return cls(transport, replies, extensions, config.timeouts, client.local_hostname)

    @property
    def is_usable(self) -> bool:
        """True if the connection is open and the server has sent nothing unasked, such as a 421 before closing.

        Looks only at what has arrived: a server that has vanished is found by `probe`.
        """
        return self._replies.is_quiet and not self._transport.is_closing()

    async def probe(self) -> bool:
        """Send NOOP; return True if the server replies 250, False for any other reply or none in time.

        False does not close the connection; a cancellation does.
        """
        try:
            return (await self._request(b"NOOP\r\n", self._timeouts.connect_s)).code == 250
        except NoReplyError:
            return False
        except BaseException:  # a cancellation; the connection is in no list then: no other code could close it
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        """True if the connection is neither closed by us nor known to be lost; its end may be announced."""
        return not self._transport.is_closing()

    async def deliver(self, envelope: Envelope, before_content: BeforeContent | None = None) -> None:
        """Send a mail: MAIL, RCPT and DATA, `before_content`, and the content; return once the server has accepted it.

        Sends the commands together if the server has PIPELINING. Encodes the content in seven bits if the server lacks
        8BITMIME. `before_content` is called at most once; the server cannot accept the mail before it returns.

        Raises SmtpCommandFailed, the errors of `before_content`, and PermanentlyRefused for an address that needs
        SMTPUTF8 on a server without it. The connection stays open after success and after a failure that concerns this
        mail alone; after any other failure, also a protocol error, a lost reply or a cancellation, it is closed.
        """
        content = envelope.content
        if envelope.needs_8bitmime and not envelope.needs_smtputf8 and "8bitmime" not in self._extensions:
            content = envelope.encode_in_seven_bits()
        commands = self._build_commands(envelope, len(content))
        self.mails += 1
        can_go_on = False
        try:
            if "pipelining" in self._extensions:
                await self._send_commands_together(commands)
            else:
                await self._send_commands_one_by_one(commands)
            if before_content is not None:
                await before_content()
                await self._require_waiting_server()
            await self._send_content(content)
            can_go_on = True
        except SmtpCommandFailed as failure:
            outcome = failure.outcome
            is_in_step = outcome.reason not in (FailureReason.LOST, FailureReason.PROTOCOL)
            can_go_on = is_in_step and outcome.disposition in _ABOUT_ONE_MAIL
            raise
        finally:
            if not can_go_on:
                self.close()

    async def quit(self) -> None:
        """Send QUIT, wait up to a second for the reply (RFC 5321, 4.1.1.10), and close the connection.

        Sends no QUIT on a connection that is not usable, and closes it alone.
        """
        try:
            if self.is_usable:
                with suppress(NoReplyError):
                    await self._request(b"QUIT\r\n", self._timeouts.quit_s)
        finally:
            self._transport.close()

    def quit_without_waiting(self) -> None:
        """Send QUIT, if the connection is usable, and close it without waiting for the reply."""
        if self.is_usable:
            self._transport.write(b"QUIT\r\n")
        self._transport.close()

    def close(self) -> None:
        """Close the connection at once, without QUIT, and discard unsent bytes."""
        self._transport.abort()

    def _build_commands(self, envelope: Envelope, size: int) -> list[tuple[Phase, bytes]]:
        """Return the commands MAIL, RCPT and DATA for a mail of `size` bytes, each with its phase.

        MAIL has the parameters SIZE, BODY=8BITMIME and SMTPUTF8, as far as the server has the extension and the mail
        needs it (SIZE always). Raises PermanentlyRefused for an address that needs SMTPUTF8 if the server does not have
        it.
        """
        parameters = ""
        if "size" in self._extensions:
            parameters += f" SIZE={size}"  # RFC 1870: what is too large need not be sent
        if envelope.needs_8bitmime and "8bitmime" in self._extensions:
            parameters += " BODY=8BITMIME"
        if envelope.needs_smtputf8:
            if "smtputf8" not in self._extensions:
                raise PermanentlyRefused("the server takes no address in this alphabet", FailureReason.ADDRESS)
            parameters += " SMTPUTF8"
        return [
            (Phase.MAIL, f"MAIL FROM:<{envelope.sender}>{parameters}\r\n".encode()),
            (Phase.RCPT, f"RCPT TO:<{envelope.recipient}>\r\n".encode()),
            (Phase.DATA, b"DATA\r\n"),
        ]

    async def _send_commands_together(self, commands: list[tuple[Phase, bytes]]) -> None:
        """Send MAIL, RCPT and DATA together (RFC 2920) and read all replies; return when the server awaits the content.

        Sends RSET before them if the server may still hold the envelope of an earlier mail. After a refusal the other
        replies are read, too, and a server that awaits the content nevertheless gets an empty one. Raises
        SmtpCommandFailed for the first refused command; at once, without the other replies, for a 421.
        """
        reset, self._needs_reset = self._needs_reset, True
        self._transport.write((b"RSET\r\n" if reset else b"") + b"".join(command for _, command in commands))
        failure: SmtpCommandFailed | None = None
        if reset:
            await self._read_reply(Phase.MAIL, self._timeouts.command_s)  # a refused RSET shows again in the next reply
        for phase, _ in commands:
            reply = await self._read_reply_after(phase, failure)
            if failure is None and not _is_positive(phase, reply):
                failure = SmtpCommandFailed.of(phase, reply)
                if failure.outcome.disposition is Disposition.SERVER and reply.code == 421:
                    raise failure  # the server closes the connection: there may be no more replies
            elif failure is not None and phase is Phase.DATA and reply.code == 354:
                # The server waits for a mail that it has no recipient for: give it an empty one (RFC 2920, 3.1).
                self._transport.write(b".\r\n")
                await self._read_reply_after(Phase.CONTENT, failure)
        if failure is not None:
            raise failure

    async def _send_commands_one_by_one(self, commands: list[tuple[Phase, bytes]]) -> None:
        """Send MAIL, RCPT and DATA, each after the reply to the one before; return when the server awaits the content.

        Sends RSET before them if the server may still hold the envelope of an earlier mail. Raises SmtpCommandFailed
        for the first refused command, and sends none after that command.
        """
        if self._needs_reset:
            self._transport.write(b"RSET\r\n")
            await self._read_reply(Phase.MAIL, self._timeouts.command_s)
        self._needs_reset = True
        for phase, command in commands:
            self._transport.write(command)
            reply = await self._read_reply(phase, self._timeouts.command_s)
            if not _is_positive(phase, reply):
                raise SmtpCommandFailed.of(phase, reply)

    async def _require_waiting_server(self) -> None:
        """Raise SmtpCommandFailed and close the connection if the server has stopped waiting for the content.

        The server has stopped if it has sent another reply (421), or the connection is lost. It has no content then, so
        it cannot have accepted the mail.
        """
        if self.is_usable:
            return
        try:
            reply = await self._read_reply(Phase.DATA, self._timeouts.command_s)  # a 421, or the end of the connection
            raise SmtpCommandFailed.of(Phase.DATA, reply)
        finally:
            self.close()  # the server might read the next command as the mail's content

    async def _send_content(self, content: bytes) -> None:
        """Send a mail's content, dot-stuffed, and wait until the server has accepted it.

        Raises SmtpCommandFailed if the server refuses the mail, or does not reply in `content_s`: then it may have
        accepted the mail.
        """
        self._transport.write(dot_stuff(content))
        reply = await self._read_reply(Phase.CONTENT, self._timeouts.content_s)
        if reply.code // 100 != 2:
            raise SmtpCommandFailed.of(Phase.CONTENT, reply)
        self._needs_reset = False

    async def _request(self, command: bytes, timeout_s: float) -> SmtpReply:
        """Send a command's bytes, which end with CRLF, and return the reply. Raises NoReplyError after `timeout_s`."""
        self._transport.write(command)
        return await self._replies.read_reply(timeout_s)

    async def _read_reply(self, phase: Phase, timeout_s: float) -> SmtpReply:
        """Return the next reply, positive or not. Raises SmtpCommandFailed, in this phase, if no reply comes."""
        try:
            return await self._replies.read_reply(timeout_s)
        except NoReplyError:
            raise SmtpCommandFailed(phase, None) from None

    async def _read_reply_after(self, phase: Phase, failure: SmtpCommandFailed | None) -> SmtpReply:
        """Return the next reply of pipelined commands, of which an earlier one may have failed with `failure`.

        If no reply comes, raises `failure`, after closing the connection; without `failure`, SmtpCommandFailed in this
        phase.
        """
        try:
            return await self._replies.read_reply(self._timeouts.command_s)
        except NoReplyError:
            if failure is not None:
                self.close()
                raise failure from None
            raise SmtpCommandFailed(phase, None) from None


_ABOUT_ONE_MAIL: Final = (
    Disposition.TEMPORARY,
    Disposition.PERMANENT,
    Disposition.HARD_BOUNCE,
    Disposition.UNPROVEN,
    Disposition.SENDING_SIDE,
)
"""Failures that concern one mail: the connection can send the next mail."""


def _is_positive(phase: Phase, reply: SmtpReply) -> bool:
    """Return True if the server has accepted the command: 354 for DATA, 2yz for the others."""
    return reply.code == 354 if phase is Phase.DATA else reply.code // 100 == 2


def _is_tls_error(error: BaseException | None) -> bool:
    """Return True if an error, or an error in its chain of causes, is an SSLError: TLS has failed. Else False."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__
    return False
