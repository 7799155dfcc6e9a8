"""What happens around the notifier's core in a story, and how it is set."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Weather:
    """How likely things go wrong while it storms, each from 0 to 1; the rest of the mails are taken."""

    storm: timedelta = timedelta(0)
    temporary: float = 0.0
    permanent: float = 0.0
    bounce: float = 0.0
    server_away: float = 0.0
    left_alone: float = 0.0
    lost_taken: float = 0.0
    lost_not_taken: float = 0.0
    stalls: float = 0.0
    user_manager_away: float = 0.0
    paused: float = 0.0
    lags: float = 0.0
    """That a reader is late once."""
    crashes: int = 0
    rebalances: int = 0
    restless: float = 0.0
    """That there is one more after a server's silence."""


@dataclass(frozen=True, slots=True)
class Ways:
    """How the notifier is set."""

    group_wait: timedelta = timedelta(seconds=5)
    mails_per_hour: int | None = None
    in_doubt: int = 1
    connections: int = 2
    most_alerts: int = 200
    most_waiting: int = 1000
    lifetime: timedelta = timedelta(hours=24)
