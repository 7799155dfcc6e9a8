"""Settings of user_manager, read from environment variables."""

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field

from chassis.addresses import Target, normalize_http_url
from chassis.db.database import DatabaseSettings
from chassis.settings import Port, StrongSecret
from chassis.web.limits import ClientRateLimit
from user_manager.idempotency import ANSWER_LIFETIME


def _check_public_url(url: str) -> str:
    """Return `url` with its host in ASCII.

    Raises ValueError unless it is an http(s) URL without query, fragment, user and trailing slash.
    """
    if any(each in url for each in "?#"):
        raise ValueError("must be an http or https URL without a query")
    if url.endswith("/"):
        raise ValueError("must not end with a slash")
    return normalize_http_url(url)


def _check_rate(text: str) -> str:
    """Return `text` unchanged. Raises ValueError unless it is one rate limit, like "60/minute"."""
    try:
        ClientRateLimit(text)
    except ValueError:
        raise ValueError("must be one rate, like 60/minute") from None
    return text


class UserManagerSettings(DatabaseSettings):
    """The settings of user_manager; each is an environment variable with the field's name in upper case."""

    http_port: Port
    grpc_port: Port
    collector_grpc_target: Target
    public_url: Annotated[str, AfterValidator(_check_public_url)]
    """Base URL under which people reach this service: links in mails begin with it."""
    signing_key: StrongSecret
    """Key that signs the links in mails and encrypts stored answers; a new key makes all existing ones invalid."""
    operator_token: StrongSecret
    registration_limit: Annotated[str, AfterValidator(_check_rate)] = "60/minute"
    """Maximum rate of registrations from one client's IP address at one replica."""
    trusted_proxy: str | None = None
    """IP address of the reverse proxy whose header with the client's address is trusted; `*`: any. None: no proxy."""
    idempotency_life: timedelta = Field(default=ANSWER_LIFETIME, ge=timedelta(seconds=1), le=timedelta(days=1))
    """Time for which the answer to a registration is stored, ISO 8601 (PT5M) or seconds."""
    allow_test_addresses: bool = False
    """True: addresses in the reserved domain .test (RFC 6761) may register, as demos and tests need."""
