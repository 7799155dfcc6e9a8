"""The settings of the collector, and their checks."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from chassis.addresses import HttpUrl, SocketPath, Target
from chassis.clients import check_trusted_proxy
from chassis.db.database import DatabaseSettings
from chassis.settings import Port, StrongSecret
from collector.intervals import FARTHEST_BACK
from collector.live.region_planner import SMALLEST_LIVE_BUDGET
from collector.settled.evidence import DEFAULT_BEACONS
from collector.settled.planner import ACCOUNT_CREDITS_PER_DAY, ANONYMOUS_CREDITS_PER_DAY, SMALLEST_BUDGET
from collector.sources.opensky.credentials import Credentials, read_credentials
from collector.sources.opensky.proxy import find_proxy
from collector.sources.readsb.addresses import ReadsbAddress, parse_addresses
from collector.write_limits import DEFAULT_LIMITS, PersonLimits
from domain.airports import describe_unknown_code, find_airport


def _parse_beacons(value: object) -> object:
    """Parse ICAO codes that are separated by commas, in either case; any other value than a text is returned unchanged.

    Raises ValueError, which names the first code that no airport has, or if there is no code.
    """
    if not isinstance(value, str):
        return value
    codes = tuple(code.strip().upper() for code in value.split(",") if code.strip())
    for code in codes:
        if find_airport(code) is None:
            raise ValueError(f"{code[:10]} is no airport's ICAO code: {describe_unknown_code(code)}")
    if not codes:
        raise ValueError("must name at least one airport, such as EDDF,KATL,RJTT")
    return codes


Beacons = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_beacons)]


def _parse_live_urls(value: object) -> object:
    """Parse addresses that are separated by commas; any other value than a text is returned unchanged.

    Raises ValueError, which tells what is wrong with each address, and repeats none.
    """
    return parse_addresses(value) if isinstance(value, str) else value


LiveUrls = Annotated[tuple[ReadsbAddress, ...], NoDecode, BeforeValidator(_parse_live_urls)]
CredentialsFile = Annotated[Credentials, BeforeValidator(read_credentials)]
"""Given as the path of a file, held as the credentials that were read from it."""


class CollectorSettings(DatabaseSettings):
    """The collector's settings, read from the environment in `__main__`.

    Durations are ISO 8601 (PT30M), on the service's clock.
    """

    http_port: Port
    grpc_port: Port
    grpc_socket: SocketPath = ""
    """Path of a Unix domain socket on which gRPC listens, too; empty: on none. Its folder must be closed to others."""
    http_socket: SocketPath = ""
    """Path of a Unix domain socket on which REST is served, too, for the gateway of this machine; empty: on none.

    What comes by it is trusted to name the client's address. Its folder must be closed to others.
    """
    user_manager_grpc_target: Target
    operator_token: StrongSecret
    trusted_proxy: Annotated[str, AfterValidator(check_trusted_proxy)] | None = None
    """IP address of the reverse proxy whose header with the client's address is trusted; `*`: any. None: no proxy."""
    public_url: HttpUrl | None = None
    """Where people reach the accounts service, as that has it: this service may be asked by the same host name."""

    opensky_url: HttpUrl = "https://opensky-network.org/api"
    opensky_token_url: HttpUrl = (
        "https://auth.opensky-network.org/auth/realms/opensky-network/protocol/openid-connect/token"  # noqa: S105 - a URL
    )
    opensky_client_id: str | None = None
    opensky_client_secret: SecretStr | None = Field(default=None, validate_default=True)
    opensky_credentials_file: Annotated[CredentialsFile | None, NoDecode] = None
    opensky_proxy: SecretStr | None = Field(default=None, validate_default=True)
    """The http proxy by which OpenSky is asked. None: by the machine's `https_proxy`, `all_proxy` and `no_proxy`."""
    opensky_connect_timeout: float = Field(default=5.0, gt=0, le=60)
    """Real seconds to connect."""
    opensky_timeout: float = Field(default=30.0, ge=1, le=120)
    """Real seconds for one attempt, to the last byte of the answer; an API call is attempted a few times."""

    live: Literal["auto", "off"] = "auto"
    """Whether positions are asked for: `auto` where an account or a URL is given, `off` never.

    Anonymous access is not used for that: one region every 216 s is too seldom to see landings.
    """
    live_urls: LiveUrls = Field(default=(), validate_default=True)
    """Sources that speak readsb's JSON, separated by commas: see `collector.sources.readsb.addresses`."""
    live_credits_per_day: int = Field(default=ACCOUNT_CREDITS_PER_DAY, ge=0, le=1_000_000_000)
    """Credits per UTC day of the bucket that OpenSky has for positions; 0: OpenSky is asked for none."""

    poll_interval: timedelta = Field(default=timedelta(hours=1), ge=timedelta(minutes=1))
    record_asked_after: timedelta = Field(default=timedelta(hours=1), ge=timedelta(0), le=timedelta(hours=12))
    """Time after midnight (UTC) at which the collector begins to ask for the record of the day that has ended."""
    settle_time: timedelta = Field(default=timedelta(hours=3), ge=timedelta(minutes=10), le=timedelta(days=2))
    """Time after which an evidence call is repeated: the same flights then prove that the record is whole."""
    beacon_airports: Beacons = DEFAULT_BEACONS
    """ICAO codes, separated by commas: large airports for evidence calls, with flights in a day's last six hours."""
    live_departures_credits: int = Field(default=0, ge=0, le=1_000_000_000)
    """Credits per UTC day that may be spent on departures of today, which the source may or may not give; 0: none."""
    corrections_after: timedelta = Field(default=timedelta(days=2), ge=timedelta(0), le=timedelta(days=14))
    """Time after the end of a day at which that day is collected a second time, for late flights; 0: never."""
    flights_retention: timedelta = Field(default=timedelta(days=40), gt=FARTHEST_BACK + timedelta(days=1))
    """Age at which flights of an airport without interests are deleted."""
    credits_per_day: int | None = Field(default=None, ge=SMALLEST_BUDGET, le=1_000_000_000)
    """Credits that the source grants; None: 400 for anonymous access, 4,000 with credentials."""
    log_checked_every: timedelta = Field(default=timedelta(seconds=30), ge=timedelta(milliseconds=200))
    """Time between two checks whether Kafka still has what was published; at every tenth interests are compared."""
    interests_per_person: int = Field(default=DEFAULT_LIMITS.interests, ge=1, le=100_000)
    """The most interests that one person may have; those above a lowered limit stay."""
    airports_per_person: int = Field(default=DEFAULT_LIMITS.airports, ge=1, le=100_000)
    """The most airports in which one person may have interests."""
    writes_per_minute: int = Field(default=DEFAULT_LIMITS.writes_per_minute, ge=1, le=1_000_000)
    """The most requests of one person in a minute that set, change or remove interests."""
    past_windows_per_day: int = Field(default=DEFAULT_LIMITS.past_windows_per_day, ge=1_000, le=1_000_000_000)
    """The most windows between `effective_from` and the present that one person's changes have judged in 24 hours."""
    reads_per_minute: int = Field(default=DEFAULT_LIMITS.reads_per_minute, ge=1, le=1_000_000)
    """The most requests of one person in a minute for windows, previews and what is usual, which cost much."""
    authentication_cache_s: float = Field(default=5.0, ge=0, le=60)
    """Seconds for which an answer of user_manager is cached; the contract allows 60."""

    @field_validator("opensky_client_secret")
    @classmethod
    def _require_credential_pair(cls, secret: SecretStr | None, others: ValidationInfo) -> SecretStr | None:
        """Return the secret unchanged. Raises ValueError if only one of client id and secret is set."""
        # On the field: a check of the whole model is skipped if any other field is invalid.
        if (secret is None) != (others.data.get("opensky_client_id") is None):
            raise ValueError("set both OPENSKY_CLIENT_ID and OPENSKY_CLIENT_SECRET, or neither for anonymous access")
        return secret

    @field_validator("opensky_proxy")
    @classmethod
    def _require_usable_proxy(cls, proxy: SecretStr | None, others: ValidationInfo) -> SecretStr | None:
        """Return the proxy unchanged. Raises ValueError if it (None: the machine's own) is unusable.

        Nothing is checked for a source on this machine, which is asked directly.
        """
        is_anonymous = not (others.data.get("opensky_client_id") or others.data.get("opensky_credentials_file"))
        for name in ("opensky_url",) if is_anonymous else ("opensky_url", "opensky_token_url"):
            if (url := others.data.get(name)) is not None:  # else it is invalid itself
                find_proxy(url, proxy.get_secret_value() if proxy else None)
        return proxy

    @field_validator("live_urls")
    @classmethod
    def _require_usable_proxies(cls, addresses: tuple[ReadsbAddress, ...]) -> tuple[ReadsbAddress, ...]:
        """Return the addresses unchanged. Raises ValueError if the machine's proxy for one of them is unusable."""
        for number, address in enumerate(addresses, start=1):
            try:
                if not address.is_file:
                    find_proxy(address.url, None)
            except ValueError as error:
                reason = str(error).removeprefix("is not set, so ")
                raise ValueError(f"address {number} is outside of this machine: {reason}") from None
        return addresses

    @field_validator("live_credits_per_day")
    @classmethod
    def _require_credits_for_a_day(cls, per_day: int) -> int:
        """Return the credits unchanged. Raises ValueError if they last for no region for a whole day."""
        if 0 < per_day < SMALLEST_LIVE_BUDGET:
            raise ValueError(
                f"must be {SMALLEST_LIVE_BUDGET} or more, for one region every 90 seconds, or 0 to ask OpenSky for none"
            )
        return per_day

    @field_validator("opensky_credentials_file")
    @classmethod
    def _forbid_second_credentials(cls, file: Credentials | None, others: ValidationInfo) -> Credentials | None:
        """Return the file's credentials unchanged. Raises ValueError if the client is also set by variables."""
        if file and (others.data.get("opensky_client_id") or others.data.get("opensky_client_secret")):
            raise ValueError("set this, or both OPENSKY_CLIENT_ID and OPENSKY_CLIENT_SECRET, not all of them")
        return file

    def build_person_limits(self) -> PersonLimits:
        """Return the limits of what one person may set, write and read."""
        return PersonLimits(
            self.interests_per_person,
            self.airports_per_person,
            self.writes_per_minute,
            self.past_windows_per_day,
            self.reads_per_minute,
        )

    def opensky_credentials(self) -> tuple[str, str] | None:
        """Return client id and secret in plain text, from the file or the two variables; None: anonymous access."""
        credentials = self.opensky_credentials_file
        if credentials is None and self.opensky_client_id is not None and self.opensky_client_secret is not None:
            credentials = Credentials(self.opensky_client_id, self.opensky_client_secret)
        return (credentials.client_id, credentials.client_secret.get_secret_value()) if credentials else None

    def asks_opensky_for_positions(self) -> bool:
        """Return True if OpenSky is asked for positions: `live` is on, and an account has credits for them."""
        return self.live == "auto" and self.opensky_credentials() is not None and self.live_credits_per_day > 0

    def live_addresses(self) -> tuple[ReadsbAddress, ...]:
        """Return the sources of `live_urls`; none if `live` is off."""
        return self.live_urls if self.live == "auto" else ()

    def daily_budget(self) -> int:
        """Return the credits per UTC day: `credits_per_day`, or the source's default for our kind of access.

        The default is 4,000 with credentials, 400 for anonymous access.
        """
        if self.credits_per_day is not None:
            return self.credits_per_day
        return ANONYMOUS_CREDITS_PER_DAY if self.opensky_credentials() is None else ACCOUNT_CREDITS_PER_DAY
