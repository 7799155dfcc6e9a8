"""What user_manager needs from its environment."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from chassis.settings import Port, Settings, StrongSecret


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


class UserManagerSettings(Settings):
    """One variable each, in upper case."""

    database_url: SecretStr = Field(min_length=1)
    http_port: Port
    grpc_port: Port
    collector_grpc_target: str = Field(pattern=r"^[^\s/]+:[0-9]{1,5}$", description="host:port")
    public_url: Annotated[str, AfterValidator(_public_url)]
    """Where people reach this service: confirmation links begin with it."""
    signing_key: StrongSecret
    """Signs confirmation links; a new key makes all links that are under way invalid."""
    operator_token: StrongSecret
    allow_test_addresses: bool = False
    """Whether addresses in the reserved domain .test (RFC 6761) may register, as demos and tests need."""
