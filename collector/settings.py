"""The collector's settings."""

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator

from chassis.database import DatabaseSettings
from chassis.settings import Port, StrongSecret


def _http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0  # no number: ValueError
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must be an http or https URL")
    return url


HttpUrl = Annotated[str, AfterValidator(_http_url)]


class CollectorSettings(DatabaseSettings):
    """Read from the environment in `__main__`. Durations are ISO 8601 (PT30M) or seconds, on the service's clock."""

    http_port: Port
    grpc_port: Port
    user_manager_grpc_target: str = Field(pattern=r"^[^\s/]+:[0-9]{1,5}$", description="host:port")
    operator_token: StrongSecret

    opensky_url: HttpUrl = "https://opensky-network.org/api"
    opensky_token_url: HttpUrl = (
        "https://auth.opensky-network.org/auth/realms/opensky-network/protocol/openid-connect/token"  # noqa: S105 - a URL
    )
    opensky_client_id: str | None = None
    opensky_client_secret: SecretStr | None = Field(default=None, validate_default=True)

    poll_interval: timedelta = Field(default=timedelta(hours=1), ge=timedelta(minutes=1))
    departures_lag: timedelta = Field(default=timedelta(minutes=30), ge=timedelta(0))
    """How long the source may take until it knows of a departure."""
    arrivals_lag: timedelta = Field(default=timedelta(hours=2), ge=timedelta(0))
    """How long after midnight (UTC) the source's nightly batch of arrivals may take."""
    authentication_cache_s: float = Field(default=5.0, ge=0, le=60)
    """Seconds for which an answer of user_manager is believed; the contract allows 60."""

    @field_validator("opensky_client_secret")
    @classmethod
    def _credentials_come_in_pairs(cls, secret: SecretStr | None, others: ValidationInfo) -> SecretStr | None:
        # On the field, for a check of the whole model is left out when anything else is wrong.
        if (secret is None) != (others.data.get("opensky_client_id") is None):
            raise ValueError("set both OPENSKY_CLIENT_ID and OPENSKY_CLIENT_SECRET, or neither for anonymous access")
        return secret
