"""The collector's settings."""

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from chassis.db.database import DatabaseSettings
from chassis.settings import Port, StrongSecret
from collector.intervals import FARTHEST_BACK
from collector.settled.planner import ACCOUNT_PER_DAY, ANONYMOUS_PER_DAY, SMALLEST_BUDGET
from collector.sources.opensky.credentials import Credentials, read_credentials


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
CredentialsFile = Annotated[Credentials, NoDecode, BeforeValidator(read_credentials)]
"""Given as a path, kept as what the file held."""


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
    opensky_credentials_file: CredentialsFile | None = None
    opensky_connect_timeout: float = Field(default=5.0, gt=0, le=60)
    """Real seconds until a connection must stand."""
    opensky_timeout: float = Field(default=30.0, ge=1, le=120)
    """Real seconds until an answer must be there, to its last byte; it is tried a few times."""

    poll_interval: timedelta = Field(default=timedelta(hours=1), ge=timedelta(minutes=1))
    departures_lag: timedelta = Field(default=timedelta(minutes=30), ge=timedelta(0))
    """How long the source may take until it knows of a departure."""
    arrivals_lag: timedelta = Field(default=timedelta(hours=2), ge=timedelta(0))
    """How long after midnight (UTC) the source's nightly batch of arrivals may take."""
    corrections_after: timedelta = Field(default=timedelta(days=2), ge=timedelta(0), le=timedelta(days=14))
    """So long after its end a day is collected once more, for flights that the source learnt of late; 0: never."""
    flights_retention: timedelta = Field(default=timedelta(days=40), gt=FARTHEST_BACK + timedelta(days=1))
    """How long flights are kept of an airport that nobody wants any more."""
    credits_per_day: int | None = Field(default=None, ge=SMALLEST_BUDGET, le=1_000_000_000)
    """What the source gives; by default 400 for anonymous access, 4,000 with credentials."""
    authentication_cache_s: float = Field(default=5.0, ge=0, le=60)
    """Seconds for which an answer of user_manager is believed; the contract allows 60."""

    @field_validator("opensky_client_secret")
    @classmethod
    def _credentials_come_in_pairs(cls, secret: SecretStr | None, others: ValidationInfo) -> SecretStr | None:
        # On the field, for a check of the whole model is left out when anything else is wrong.
        if (secret is None) != (others.data.get("opensky_client_id") is None):
            raise ValueError("set both OPENSKY_CLIENT_ID and OPENSKY_CLIENT_SECRET, or neither for anonymous access")
        return secret

    @field_validator("opensky_credentials_file")
    @classmethod
    def _credentials_come_once(cls, file: Credentials | None, others: ValidationInfo) -> Credentials | None:
        if file and (others.data.get("opensky_client_id") or others.data.get("opensky_client_secret")):
            raise ValueError("set this, or both OPENSKY_CLIENT_ID and OPENSKY_CLIENT_SECRET, not all of them")
        return file

    def opensky_credentials(self) -> tuple[str, str] | None:
        """Client id and secret, from whatever named them; None for anonymous access."""
        given = self.opensky_credentials_file
        if given is None and self.opensky_client_id is not None and self.opensky_client_secret is not None:
            given = Credentials(self.opensky_client_id, self.opensky_client_secret)
        return (given.client_id, given.client_secret.get_secret_value()) if given else None

    def budget(self) -> int:
        """Credits of a day."""
        if self.credits_per_day is not None:
            return self.credits_per_day
        return ANONYMOUS_PER_DAY if self.opensky_credentials() is None else ACCOUNT_PER_DAY
