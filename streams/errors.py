"""What can be wrong: with an event for good, which puts it aside; and with what an operator asked for."""

from chassis.errors import ChassisError


class UnusableEventError(Exception):
    """An event that can never be folded. Permanent; the text is the reason, and quotes nothing of the event."""


class UndecodableError(UnusableEventError):
    """Bytes that are no event of the contract, or one that contradicts itself."""


class UnsequencedError(UnusableEventError):
    """An event without the sequence that tells a repeat."""


class MisroutedError(UnusableEventError):
    """An event in another partition than its airport's, where the rest of that airport is not known."""


class LogUnreadableError(ChassisError):
    """The topics cannot be read as far as they reach."""


class ReplayRefusedError(ChassisError):
    """What was asked would mix a replay with something else."""
