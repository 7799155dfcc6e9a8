"""Settings of user_manager, read from environment variables."""

import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from chassis.addresses import Target, normalize_http_url
from chassis.clients import check_trusted_proxy
from chassis.db.database import DatabaseSettings
from chassis.settings import Port, StrongSecret
from chassis.web.limits import ClientRateLimit
from user_manager.idempotency import ANSWER_LIFETIME

_MAX_PUBLIC_URL_LENGTH: Final = 600
"""Characters. With the longest link below it the notifier can still print it: in a header of 998 characters."""
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


class UserManagerSettings(DatabaseSettings):
    """The settings of user_manager; each is an environment variable with the field's name in upper case."""

    http_port: Port
    grpc_port: Port
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
    allow_test_addresses: bool = False
    """True: addresses in the reserved domain .test (RFC 6761) may register, as demos and tests need."""
