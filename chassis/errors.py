"""The errors that the chassis' adapters raise."""

from typing import ClassVar


class ChassisError(Exception):
    """An error that an operator can read and act upon; its text is one sentence, without secrets."""

    transient: ClassVar[bool] = False
    """True if the same attempt may succeed later, False if it cannot."""


class RefusedStartError(ChassisError):
    """The service must not run with what it has found: the process ends with exit code 2 instead of trying again."""


class SettingsError(ChassisError):
    """The environment's settings are missing or invalid; the text lists every fault, one per line."""


class DatabaseUnavailableError(ChassisError):
    """The database does not answer, or it aborted the transaction.

    Nothing was changed, unless the connection was lost during the commit.
    """

    transient = True


class DatabaseDamagedError(DatabaseUnavailableError):
    """The database's own data cannot be read, or its file was removed or replaced: an operator must restore it.

    Nothing was changed.
    """


class ContendedError(DatabaseUnavailableError):
    """Another transaction did not release a lock in time, or the two were in a deadlock. Nothing was changed."""


class SchemaBusyError(ChassisError):
    """Another replica is upgrading the schema."""

    transient = True


class SchemaTooNewError(ChassisError):
    """A later version of the code has upgraded the schema to a revision that this version does not know."""


class SchemaRefusedError(RefusedStartError):
    """The database answers, and refuses again and again a statement that brings the schema up to date."""


class CannotListenError(ChassisError):
    """The port to listen on is in use, or the process may not use it."""
