"""The stream's errors: events that become dead letters, and operator commands that cannot run."""

from chassis.errors import ChassisError


class UnusableEventError(Exception):
    """An event can never be folded, and becomes a dead letter. Permanent. Base of the three errors below.

    The text is the reason in the dead letter's header, and quotes no part of the event.
    """


class UndecodableError(UnusableEventError):
    """An event's bytes do not decode to a message of the contract, or the message contradicts itself."""


class UnsequencedError(UnusableEventError):
    """An event lacks the sequence header, by which duplicates are recognised."""


class MisroutedError(UnusableEventError):
    """An event is in another partition than its airport's, where the airport's state is missing."""


class LogUnreadableError(ChassisError):
    """A topic that a replay or a comparison needs is missing, cannot be read to its end, or holds unusable records."""


class ReplayRefusedError(ChassisError):
    """An operator asked for a replay whose output or group would mix with other records or offsets."""
