"""The settings of a simulation of the notifier's core: rates of faults, and settings of the notifier."""

from dataclasses import dataclass, field
from datetime import timedelta

from notifier.delivery.policy import CorrectionPolicy


@dataclass(frozen=True, slots=True)
class FaultRates:
    """The rates of the faults during the storm, each from 0 to 1, and the number of crashes and rebalances."""

    storm: timedelta = timedelta(0)
    """How long faults are injected."""
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
    """The rate of readers that are late once."""
    longest_lateness: timedelta = timedelta(seconds=40)
    """How late they are at most."""
    crashes: int = 0
    rebalances: int = 0
    rebalance_after_loss: float = 0.0
    """The rate of a further rebalance after a connection was lost."""


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """The settings of the simulated notifier."""

    group_wait: timedelta = timedelta(seconds=5)
    mails_per_hour: int | None = None
    max_in_flight: int = 1
    connections: int = 2
    max_alerts_per_mail: int = 200
    max_queued_alerts: int = 1000
    smallest_share: int = 500
    lifetime: timedelta = timedelta(hours=24)
    corrections: CorrectionPolicy = field(default_factory=CorrectionPolicy)
