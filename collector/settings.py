"""The collector's settings."""

from datetime import timedelta
from typing import Self

from pydantic import Field, SecretStr, model_validator

from chassis.settings import Port, Settings, StrongSecret


class CollectorSettings(Settings):
    """Read from the environment in `__main__`. Durations are ISO 8601 (PT30M) or seconds, on the service's clock."""

    database_url: str = Field(min_length=1)
    http_port: Port
    grpc_port: Port
    user_manager_grpc_target: str = Field(pattern=r"^[^:]+:\d+$", description="host:port")
    operator_token: StrongSecret

    opensky_url: str = Field(default="https://opensky-network.org/api", pattern="^https?://")
    opensky_token_url: str = Field(
        default="https://auth.opensky-network.org/auth/realms/opensky-network/protocol/openid-connect/token",
        pattern="^https?://",
    )
    opensky_client_id: str | None = None
    opensky_client_secret: SecretStr | None = None

    poll_interval: timedelta = Field(default=timedelta(hours=1), ge=timedelta(minutes=1))
    departures_lag: timedelta = Field(default=timedelta(minutes=30), ge=timedelta(0))
    """How long the source may take until it knows of a departure."""
    arrivals_lag: timedelta = Field(default=timedelta(hours=2), ge=timedelta(0))
    """How long after midnight (UTC) the source's nightly batch of arrivals may take."""
    authentication_cache_s: float = Field(default=5.0, ge=0)

    @model_validator(mode="after")
    def _credentials_come_in_pairs(self) -> Self:
        if (self.opensky_client_id is None) != (self.opensky_client_secret is None):
            raise ValueError("set both OPENSKY_CLIENT_ID and OPENSKY_CLIENT_SECRET, or neither for anonymous access")
        return self
