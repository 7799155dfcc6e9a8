"""The mail server: one connection, kept open and used again."""

from email.message import EmailMessage
from typing import Final, Literal

from aiosmtplib import (
    SMTP,
    SMTPDataError,
    SMTPException,
    SMTPNotSupported,
    SMTPRecipientRefused,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPSenderRefused,
)

from notifier.errors import MailServerAway, NotSent, PermanentlyRefused, TemporarilyRefused

Security = Literal["starttls", "tls", "plaintext"]

CONNECT_TIMEOUT_S: Final = 10.0

REPLY_TIMEOUT_S: Final = 60.0
"""For each reply. Who gives up on the one after the mail's last line risks a second copy (RFC 5321, 4.5.3.2.6)."""

_WANTS_AUTHENTICATION: Final = frozenset((530, 534, 535, 538))
"""RFC 4954: the server speaks about our login, whatever command it answers."""


class MailServer:
    """Delivers mails one at a time. Nothing connects before the first."""

    def __init__(
        self, host: str, port: int, security: Security, username: str | None = None, password: str | None = None
    ) -> None:
        """`starttls` and `tls` verify the server's certificate; `plaintext` sends as it is. Logs in with a username."""
        self._host = host
        self._port = port
        self._security = security
        self._username = username
        self._password = password
        self._client: SMTP | None = None

    async def send(self, mail: EmailMessage) -> None:
        """Hand a mail over to its one recipient; returning means that the server has taken charge of it.

        Must not be called again before it returned. Raises TemporarilyRefused, PermanentlyRefused or MailServerAway.
        """
        client = await self._connected()
        done = False
        try:
            await _handed_over(client, mail)
            done = True
        # `from None`: the library's errors hold the address, which must not reach a log.
        except SMTPRecipientsRefused as error:
            raise _refusal("the recipient", error.recipients[0]) from None
        except SMTPDataError as error:
            raise _refusal("the mail", error) from None
        except SMTPSenderRefused as error:
            raise MailServerAway(f"the server refused the sender: {error.code}") from None
        except (SMTPNotSupported, ValueError):
            raise PermanentlyRefused("the server, or SMTP itself, takes no such address") from None
        except (SMTPException, OSError) as error:
            raise TemporarilyRefused(f"lost while sending: {_said(error)}") from None
        finally:
            # After a failure, a cancellation too, nobody knows what the server still expects to hear.
            if not done:
                self._drop()

    async def close(self) -> None:
        """Take leave of the server. Waits 1 s at most for its answer."""
        if self._client is not None:
            try:
                await self._client.quit(timeout=1)
            except (SMTPException, OSError):
                self._drop()

    async def _connected(self) -> SMTP:
        """A connection that answered just now: servers close idle ones, and a mail must not find out in its middle."""
        if self._client is not None:
            try:
                await self._client.noop(timeout=CONNECT_TIMEOUT_S)
            except (SMTPException, OSError):
                self._drop()
            else:
                return self._client
        client = SMTP(
            hostname=self._host,
            port=self._port,
            use_tls=self._security == "tls",
            start_tls=self._security == "starttls",
            username=self._username,
            password=self._password,
            timeout=REPLY_TIMEOUT_S,
        )
        try:
            await client.connect(timeout=CONNECT_TIMEOUT_S)
            if client.is_ehlo_or_helo_needed:
                await client.ehlo()  # here, so that a refused greeting is not taken for a refused mail
        except (SMTPException, OSError) as error:
            client.close()
            raise MailServerAway(f"no connection: {_said(error)}") from None
        self._client = client
        return client

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


async def _handed_over(client: SMTP, mail: EmailMessage) -> None:
    """As the library's `send_message`, which would fold the headers anew and not as the mail's policy says."""
    sender, recipient = (mail[header].addresses[0].addr_spec for header in ("From", "To"))
    if recipient.isascii():
        await client.sendmail(sender, [recipient], mail.as_bytes())
    else:
        utf8 = mail.policy.clone(utf8=True)  # type: ignore[call-arg]  # an EmailPolicy, which knows it
        wire = mail.as_bytes(policy=utf8)
        await client.sendmail(sender, [recipient], wire, mail_options=["SMTPUTF8", "BODY=8BITMIME"])


def _refusal(of: str, error: SMTPRecipientRefused | SMTPDataError) -> NotSent:
    if error.code in _WANTS_AUTHENTICATION:
        return MailServerAway(f"the server wants authentication: {error.code}")
    kind = PermanentlyRefused if error.code >= 500 else TemporarilyRefused
    return kind(f"the server refused {of}: {error.code}")


def _said(error: Exception) -> str:
    """What happened, without the server's words: they may hold an address."""
    code = f" {error.code}" if isinstance(error, SMTPResponseException) else ""
    return f"{type(error).__name__}{code}"
