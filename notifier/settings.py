"""The notifier's settings."""

import ssl
from email.errors import MessageError
from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, FilePath, SecretStr, field_validator, model_validator

from chassis.faust.app import StreamSettings
from chassis.settings import Port
from notifier.mail import SigningKey


class NotifierSettings(StreamSettings):
    """Read from the environment in `__main__`."""

    user_manager_grpc_target: str = Field(min_length=1, description="host:port")
    smtp_host: str = Field(min_length=1)
    smtp_port: Port
    smtp_security: Literal["starttls", "tls", "plaintext"] = "starttls"
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_ca_file: FilePath | None = None
    """PEM: whom to believe that a server is who it says, in place of those that the machine believes."""
    smtp_connections: int = Field(default=4, ge=1, le=100)
    """Kept open at most, by one worker; as many mails are under way at a time."""
    smtp_mails_per_connection: int = Field(default=100, ge=1)
    """Then a connection is closed and another made: servers have a limit, and behind one name there may be several."""
    smtp_mails_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    """Of one worker. Unset: as many as the server takes."""
    smtp_mails_in_doubt: int = Field(default=1, ge=1, le=100)
    """How many mails the server may have at a time without our record of it: so many are repeated at most, under the
    same Message-ID, when a worker is killed. More is faster with a server that takes its time to accept a mail."""
    dkim_domain: str | None = None
    """With `dkim_selector` and `dkim_key`: mails are signed (RFC 6376)."""
    dkim_selector: str | None = None
    dkim_key: SecretStr | None = None
    """PEM: an RSA private key."""
    mail_from: str
    """A mailbox, `Towerwatch <alerts@example.org>`; its domain is also that of the Message-IDs."""
    bounces_to: str | None = None
    """A mailbox, `bounces@example.org`: what comes back comes to it, as bounces+ada=example.net@example.org. Unset: to
    the mailbox that mails come from."""
    group_wait_s: float = Field(default=5.0, ge=0, le=60)
    """Seconds for which a person's first alert waits for others, to be told in one mail. 0: a mail for each alert."""
    person_mails_per_hour: int = Field(default=12, ge=0)
    """With alerts; what is more is told in the next one. 0: no limit."""
    stuck_after_s: float = Field(default=600.0, ge=480.0)
    """An alert that waits for its time is in hand, and not acknowledged: for up to `notifier.delivery.retries.LONGEST`,
    and `notifier.delivery.batching.OVERDUE` more. That is no standstill."""
    retry_base_s: float = Field(default=5.0, gt=0, le=300)
    """Seconds until the second attempt; each later pause is twice as long, up to `delivery.retries.LONGEST`."""
    retry_lifetime_s: float = Field(default=86_400.0, ge=60, le=604_800)
    """Seconds after its first try for which an alert is news. The topics keep it for seven days."""
    contact_cache_s: float = Field(default=5.0, ge=0, le=60)
    """Seconds for which an address is remembered; so long may a deletion or a pause take to bite."""

    @field_validator("mail_from", "bounces_to")
    @classmethod
    def _is_a_mailbox(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            mailbox = _mailbox(value)
        except (MessageError, ValueError, LookupError):  # `email` raises any of them for text that is no address
            mailbox = Address()
        if not (mailbox.username and mailbox.domain and mailbox.addr_spec.isascii()):
            raise ValueError("must be a mailbox in ASCII, like Towerwatch <alerts@example.org>")
        return value

    @field_validator("smtp_ca_file")
    @classmethod
    def _holds_certificates(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                ssl.create_default_context(cafile=value)
            except OSError:  # ssl.SSLError is one
                raise ValueError("holds no certificates, or cannot be read") from None
        return value

    @model_validator(mode="after")
    def _keeps_the_password_secret(self) -> Self:
        if (self.smtp_username is None) != (self.smtp_password is None):
            raise ValueError("SMTP_USERNAME and SMTP_PASSWORD: give both or neither")
        if self.smtp_username is not None and self.smtp_security == "plaintext":
            raise ValueError("SMTP_SECURITY: plaintext would show the password to the network; use starttls or tls")
        return self

    @model_validator(mode="after")
    def _signs_or_not(self) -> Self:
        given = (self.dkim_domain, self.dkim_selector, self.dkim_key)
        if any(given) and not all(given):
            raise ValueError("DKIM_DOMAIN, DKIM_SELECTOR and DKIM_KEY: give all three or none")
        self.signing_key()
        return self

    def signing_key(self) -> SigningKey | None:
        """What mails are signed with; None: they are not."""
        if not (self.dkim_domain and self.dkim_selector and self.dkim_key):
            return None
        return SigningKey(self.dkim_domain, self.dkim_selector, self.dkim_key.get_secret_value().encode())

    def bounce_address(self) -> Address | None:
        """Who hears of what comes back; None: the sender."""
        return _mailbox(self.bounces_to) if self.bounces_to is not None else None

    def sender(self) -> Address:
        """The mailbox that mails come from."""
        return _mailbox(self.mail_from)


def _mailbox(text: str) -> Address:
    name, address = parseaddr(text)
    return Address(name, addr_spec=address)
