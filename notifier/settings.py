"""The settings of the notifier, read from environment variables."""

import ssl
from datetime import timedelta
from email.errors import MessageError
from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from chassis.addresses import Host, Target
from chassis.faust.app import StreamSettings
from chassis.settings import Port
from notifier.delivery.policy import CorrectionPolicy
from notifier.mail import SigningKey


class NotifierSettings(StreamSettings):
    """The settings of the notifier; `__main__` reads them from the environment."""

    user_manager_grpc_target: Target
    smtp_host: Host
    smtp_port: Port
    smtp_security: Literal["starttls", "tls", "plaintext"] = "starttls"
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_ca_file: Path | None = None
    """A PEM file with the CA certificates that verify the mail server, in place of the machine's CA certificates."""
    smtp_connections: int = Field(default=4, ge=1, le=100)
    """The maximal number of open connections of one worker, and of mails that it sends at a time."""
    smtp_mails_per_connection: int = Field(default=100, ge=1)
    """The number of mails after which a connection is replaced: servers limit it, and one name may have several
    servers."""
    smtp_mails_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    """The rate limit of one worker. Unset: as many as the server accepts."""
    smtp_mails_in_doubt: int = Field(default=1, ge=1, le=100)
    """The maximal number of unconfirmed mails: sent, but not yet recorded as sent. If a worker is killed, so many
    mails at most are sent twice, with the same Message-ID. A larger number is faster with a server that accepts
    mails slowly."""
    dkim_domain: str | None = None
    """Signs mails with DKIM (RFC 6376); requires `dkim_selector` and `dkim_key`."""
    dkim_selector: str | None = None
    dkim_key: SecretStr | None = None
    """An RSA private key in PEM."""
    mail_from: str
    """The sender's mailbox, such as `Towerwatch <alerts@example.org>`; its domain is also the domain of the
    Message-IDs."""
    bounces_to: str | None = None
    """The mailbox for bounces, such as `bounces@example.org`; they arrive at bounces+ada=example.net@example.org.
    Unset: bounces go to the sender's mailbox."""
    group_wait_s: float = Field(default=5.0, ge=0, le=60)
    """Seconds for which a user's first alert waits for others, to be in one mail with them. 0: one mail for each
    alert."""
    person_mails_per_hour: int = Field(default=12, ge=0)
    """The maximal number of mails with alerts to one user in an hour; further alerts go into the next mail. 0: no
    limit."""
    stuck_after_s: float = Field(default=600.0, ge=480.0)
    """Seconds without an acknowledged event after which a worker counts as stuck. A queued alert is not acknowledged
    for up to `notifier.delivery.retries.MAX_PAUSE` plus `notifier.delivery.batching.MISSING_RETRY_TIMEOUT`, which must
    be less."""
    retry_base_s: float = Field(default=5.0, gt=0, le=300)
    """Seconds until the second attempt; each later pause is twice as long, up to `delivery.retries.MAX_PAUSE`."""
    retry_lifetime_s: float = Field(default=86_400.0, ge=60, le=604_800)
    """Seconds after which an alert is listed in a catch-up mail, and no longer mailed singly; after its first attempt,
    at which a notice is given up. For confirmation mails it is `delivery.retries.CONFIRMATION_LIFETIME`."""
    corrections_quiet_s: float = Field(default=1800.0, ge=0, le=21_600)
    """Seconds without a further correction for a user after which the user's mail of corrections is sent …"""
    corrections_wait_s: float = Field(default=21_600.0, ge=0, le=86_400)
    """… or seconds since the first of them, whichever is earlier."""
    corrections_pause_s: float = Field(default=72_000.0, ge=0, le=86_400)
    """The shortest time between two mails of corrections to one user: corrections that come meanwhile are in the
    next."""
    contact_cache_s: float = Field(default=5.0, ge=0, le=60)
    """Seconds for which a contact is cached: a deletion or a pause may take so long to have an effect."""

    @field_validator("mail_from", "bounces_to")
    @classmethod
    def _validate_mailbox(cls, value: str | None) -> str | None:
        """Return the value unchanged if it is None or a mailbox in ASCII with a user name and a domain.

        Raises ValueError otherwise.
        """
        if value is None:
            return None
        try:
            mailbox = _parse_mailbox(value)
        except (MessageError, ValueError, LookupError):  # `email` raises any of them for text that is no address
            mailbox = Address()
        if not (mailbox.username and mailbox.domain and mailbox.addr_spec.isascii()):
            raise ValueError("must be a mailbox in ASCII, like Towerwatch <alerts@example.org>")
        return value

    @field_validator("smtp_ca_file")
    @classmethod
    def _validate_ca_file(cls, value: Path | None) -> Path | None:
        """Return the value unchanged if it is None or a readable file of certificates. Raises ValueError otherwise."""
        if value is not None:
            try:
                ssl.create_default_context(cafile=value)
            except OSError:  # ssl.SSLError is one
                raise ValueError("must be the path of a file of certificates in PEM that can be read") from None
        return value

    @model_validator(mode="after")
    def _validate_login(self) -> Self:
        """Require user name and password both or neither, and with them an encrypted connection. Raises ValueError."""
        if (self.smtp_username is None) != (self.smtp_password is None):
            raise ValueError("SMTP_USERNAME and SMTP_PASSWORD: give both or neither")
        if self.smtp_username is not None and self.smtp_security == "plaintext":
            raise ValueError("SMTP_SECURITY: plaintext would show the password to the network; use starttls or tls")
        return self

    @model_validator(mode="after")
    def _validate_dkim(self) -> Self:
        """Require all three DKIM settings or none, and a key that can be loaded. Raises ValueError."""
        given = (self.dkim_domain, self.dkim_selector, self.dkim_key)
        if any(given) and not all(given):
            raise ValueError("DKIM_DOMAIN, DKIM_SELECTOR and DKIM_KEY: give all three or none")
        self.build_signing_key()
        return self

    def build_signing_key(self) -> SigningKey | None:
        """Return the DKIM key that signs mails; None if DKIM is not configured: mails are not signed.

        Raises ValueError for an invalid key.
        """
        if not (self.dkim_domain and self.dkim_selector and self.dkim_key):
            return None
        return SigningKey(self.dkim_domain, self.dkim_selector, self.dkim_key.get_secret_value().encode())

    def build_correction_policy(self) -> CorrectionPolicy:
        """Return how long corrections wait for each other."""
        return CorrectionPolicy(
            timedelta(seconds=self.corrections_quiet_s),
            timedelta(seconds=self.corrections_wait_s),
            timedelta(seconds=self.corrections_pause_s),
        )

    def parse_bounce_address(self) -> Address | None:
        """Return the parsed `bounces_to`, the mailbox for bounces; None: bounces go to the sender."""
        return _parse_mailbox(self.bounces_to) if self.bounces_to is not None else None

    def parse_sender(self) -> Address:
        """Return the parsed `mail_from`, the mailbox that mails are sent from."""
        return _parse_mailbox(self.mail_from)


def _parse_mailbox(text: str) -> Address:
    name, address = parseaddr(text)
    return Address(name, addr_spec=address)
