"""Settings of user_manager, read from environment variables."""

import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from chassis.addresses import SocketPath, Target, normalize_http_url
from chassis.clients import check_trusted_proxy
from chassis.db.database import DatabaseSettings
from chassis.settings import Port, StrongSecret
from chassis.web.limits import ClientRateLimit
from user_manager.idempotency import ANSWER_LIFETIME
from user_manager.mailbox_limits import DEFAULT_PAUSES, MailRates
from user_manager.web_sessions import (
    DEFAULT_IDLE,
    DEFAULT_LIFETIME,
    LONGEST_SESSION,
    SHORTEST_SESSION,
    SessionLifetimes,
)

_MAX_PUBLIC_URL_LENGTH: Final = 600
"""Characters. With the longest link below it the notifier can still print it: in a header of 998 characters."""
_LONGEST_PAUSE: Final = timedelta(days=7)
"""A link in a mail is valid for as long, so there always is one that works, but for the hours of a mail server."""
_BROKEN_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def _normalize_public_url(url: str) -> str:
    """Return `url` in ASCII, as links in mails begin with it: the host in Punycode, the path with percents.

    Raises ValueError unless it is an http(s) URL without query, fragment, user and trailing slash, and short enough.
    """
    if any(each in url for each in "?#"):
        raise ValueError("must be an http or https URL without a query")
    if url.endswith("/"):
        raise ValueError("must not end with a slash")
    if _BROKEN_PERCENT.search(url):
        raise ValueError("must have two hexadecimal digits after each %; write % itself as %25")
    printed = normalize_http_url(url)
    if len(printed) > _MAX_PUBLIC_URL_LENGTH:
        raise ValueError(f"must have at most {_MAX_PUBLIC_URL_LENGTH} characters")
    return printed


def _check_rate(text: str) -> str:
    """Return `text` unchanged. Raises ValueError unless it is one rate limit, like "60/minute"."""
    try:
        ClientRateLimit(text)
    except ValueError:
        raise ValueError("must be one rate, like 60/minute") from None
    return text


def _check_pauses(pauses: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
    """Return `pauses` unchanged. Raises ValueError unless they grow, from a second to a week."""
    if not pauses or list(pauses) != sorted(pauses) or pauses[0] < timedelta(seconds=1) or pauses[-1] > _LONGEST_PAUSE:
        raise ValueError("must be growing pauses between PT1S and P7D, with commas between them, like PT1M,PT10M,P1D")
    return pauses


def _split_list(text: object) -> object:
    """Return the parts of a text between its commas; return anything else unchanged."""
    return [part.strip() for part in text.split(",")] if isinstance(text, str) else text


class UserManagerSettings(DatabaseSettings):
    """The settings of user_manager; each is an environment variable with the field's name in upper case."""

    http_port: Port
    grpc_port: Port
    grpc_socket: SocketPath = ""
    """Path of a Unix domain socket on which gRPC listens, too; empty: on none. Its folder must be closed to others."""
    http_socket: SocketPath = ""
    """Path of a Unix domain socket on which REST is served, too, for the gateway of this machine; empty: on none.

    What comes by it is trusted to name the client's address. Its folder must be closed to others.
    """
    collector_grpc_target: Target
    public_url: Annotated[str, AfterValidator(_normalize_public_url)]
    """Base URL under which people reach this service, in ASCII: links in mails begin with it."""
    signing_key: StrongSecret
    """Key that signs the links in mails and encrypts stored answers; a new key makes all existing ones invalid."""
    operator_token: StrongSecret
    registration_limit: Annotated[str, AfterValidator(_check_rate)] = "60/minute"
    """Maximum rate of registrations from one client's IP address at one replica."""
    trusted_proxy: Annotated[str, AfterValidator(check_trusted_proxy)] | None = None
    """IP address of the reverse proxy whose header with the client's address is trusted; `*`: any. None: no proxy."""
    idempotency_life: timedelta = Field(default=ANSWER_LIFETIME, ge=timedelta(seconds=1), le=timedelta(days=1))
    """Time for which the answer to a registration is stored, ISO 8601 (PT5M)."""
    mail_pauses: Annotated[
        tuple[timedelta, ...], NoDecode, BeforeValidator(_split_list), AfterValidator(_check_pauses)
    ] = DEFAULT_PAUSES
    """Pauses between the account mails to one mailbox, which strangers can cause; the last one is repeated."""
    mails_per_client: int = Field(default=30, ge=1)
    """Maximum number of account mails that one client's IP address may ask for in an hour, at all replicas together."""
    mails_per_hour: int = Field(default=1000, ge=1)
    """Maximum number of account mails in an hour, of all clients at all replicas."""
    session_idle: timedelta = Field(default=DEFAULT_IDLE, ge=SHORTEST_SESSION, le=LONGEST_SESSION)
    """Time without use after which a browser is signed out, ISO 8601 (P30D)."""
    session_lifetime: timedelta = Field(default=DEFAULT_LIFETIME, ge=SHORTEST_SESSION, le=LONGEST_SESSION)
    """Time after signing in after which a browser is signed out, used or not."""
    allow_test_addresses: bool = False
    """True: addresses in the reserved domain .test (RFC 6761) may register, as demos and tests need."""

    def build_mail_rates(self) -> MailRates:
        """Return the limits on account mails."""
        return MailRates(self.mail_pauses, self.mails_per_client, self.mails_per_hour)

    def build_session_lifetimes(self) -> SessionLifetimes:
        """Return how long sessions last."""
        return SessionLifetimes(self.session_idle, self.session_lifetime)
