"""What happens around the notifier's core in a story, and how it is set."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class FaultRates:
    """How likely things go wrong while it storms, each from 0 to 1; the rest of the mails are taken."""

    storm: timedelta = timedelta(0)
    temporary: float = 0.0
    permanent: float = 0.0
    bounce: float = 0.0
    server_unavailable: float = 0.0
    circuit_open: float = 0.0
    lost_after_acceptance: float = 0.0
    lost_before_acceptance: float = 0.0
    slow_replies: float = 0.0
    user_manager_unavailable: float = 0.0
    paused: float = 0.0
    late_readers: float = 0.0
    """That a reader is late once."""
    crashes: int = 0
    rebalances: int = 0
    rebalance_after_loss: float = 0.0
    """That there is one more after a server's silence."""


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How the notifier is set."""

    group_wait: timedelta = timedelta(seconds=5)
    mails_per_hour: int | None = None
    max_in_flight: int = 1
    connections: int = 2
    max_alerts_per_mail: int = 200
    max_queued_alerts: int = 1000
    lifetime: timedelta = timedelta(hours=24)
