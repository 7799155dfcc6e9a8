"""What user_manager needs from its environment."""

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from chassis.db.database import DatabaseSettings
from chassis.settings import Port, StrongSecret
from chassis.web.limits import ClientRateLimit
from user_manager.idempotency import LIFE


def _public_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an http or https URL without a query")
    if url.endswith("/"):
        raise ValueError("must not end with a slash")
    return url


def _rate(text: str) -> str:
    try:
        ClientRateLimit(text)
    except ValueError:
        raise ValueError("must be one rate, like 60/minute") from None
    return text


class UserManagerSettings(DatabaseSettings):
    """One variable each, in upper case."""

    http_port: Port
    grpc_port: Port
    collector_grpc_target: str = Field(pattern=r"^[^\s/]+:[0-9]{1,5}$", description="host:port")
    public_url: Annotated[str, AfterValidator(_public_url)]
    """Where people reach this service: links in mails begin with it."""
    signing_key: StrongSecret
    """Signs the links in mails and seals remembered answers; a new key voids all that are under way."""
    operator_token: StrongSecret
    registration_limit: Annotated[str, AfterValidator(_rate)] = "60/minute"
    """How often one client's address may register at one replica."""
    trusted_proxy: str | None = None
    """The IP address of the proxy in front, whose word on the client's address is believed; `*` for any."""
    idempotency_life: timedelta = Field(default=LIFE, ge=timedelta(seconds=1), le=timedelta(days=1))
    """How long the answer to a registration is remembered, ISO 8601 (PT5M) or seconds."""
    allow_test_addresses: bool = False
    """Whether addresses in the reserved domain .test (RFC 6761) may register, as demos and tests need."""
