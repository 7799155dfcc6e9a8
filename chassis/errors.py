"""What the chassis' own adapters raise."""

from typing import ClassVar


class ChassisError(Exception):
    """Something that an operator can read and act upon; its text is one sentence, without secrets."""

    transient: ClassVar[bool] = False
    """Whether the same may succeed later."""


class SettingsError(ChassisError):
    """The environment does not hold what the service needs; the text lists every fault, one a line."""


class DatabaseAwayError(ChassisError):
    """The database does not answer, or gave up on the transaction. Nothing was changed, unless it went on commit."""

    transient = True


class CannotListenError(ChassisError):
    """A port that the service is told to listen on is not free, or not ours to take."""
