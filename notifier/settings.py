"""The notifier's settings."""

import ssl
from email.errors import MessageError
from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, FilePath, SecretStr, field_validator, model_validator

from chassis.settings import Port
from chassis.stream_app import StreamSettings


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
    mail_from: str
    """A mailbox, `Towerwatch <alerts@example.org>`; its domain is also that of the Message-IDs."""
    stuck_after_s: float = Field(default=600.0, ge=300.0)
    """A mail that is tried again for minutes is no standstill."""
    retry_base_s: float = Field(default=5.0, gt=0, le=300)
    """Seconds until the first further try; each later pause is twice as long, up to `notifier.retries.LONGEST`."""
    retry_lifetime_s: float = Field(default=86_400.0, ge=60, le=604_800)
    """Seconds after its first try for which an alert is news. The topics keep it for seven days."""
    contact_cache_s: float = Field(default=5.0, ge=0, le=60)
    """Seconds for which an address is remembered; so long may a deletion or a pause take to bite."""

    @field_validator("mail_from")
    @classmethod
    def _is_a_mailbox(cls, value: str) -> str:
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

    def sender(self) -> Address:
        """The mailbox that mails come from."""
        return _mailbox(self.mail_from)


def _mailbox(text: str) -> Address:
    name, address = parseaddr(text)
    return Address(name, addr_spec=address)
