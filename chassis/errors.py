"""What the chassis' own adapters raise."""

from typing import ClassVar


class ChassisError(Exception):
    """Something that an operator can read and act upon; its text is one sentence, without secrets."""

    transient: ClassVar[bool] = False
    """Whether the same may succeed later."""


class SettingsError(ChassisError):
    """The environment does not hold what the service needs; the text lists every fault, one a line."""


class DatabaseUnavailableError(ChassisError):
    """The database does not answer, or gave up on the transaction. Nothing was changed, unless it went on commit."""

    transient = True


class ContendedError(DatabaseUnavailableError):
    """Another transaction holds what this one needs, for too long or crosswise (a deadlock). Nothing was changed."""


class SchemaBusyError(ChassisError):
    """Another replica is bringing the schema up to date."""

    transient = True


class SchemaTooNewError(ChassisError):
    """A later version of the code has brought the schema to a revision that this one does not know."""


class CannotListenError(ChassisError):
    """A port that the service is told to listen on is not free, or not ours to take."""
