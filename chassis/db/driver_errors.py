"""The driver's errors, translated into the chassis' own, whose texts may be shown and logged."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    OperationalError,
    TimeoutError as PoolExhaustedError,
)

from chassis.db.damage import DAMAGED, reports_damage
from chassis.db.table_damage import DAMAGED_TABLES
from chassis.db.write_refusals import refuses_writes
from chassis.errors import ContendedError, DatabaseDamagedError, DatabaseUnavailableError

log = structlog.get_logger()

UNAVAILABLE: Final = "The database does not answer; try again shortly."
NO_CHANGES: Final = "The database takes no changes now (it is full or read-only); try again shortly."

_CONTENDED: Final = frozenset({1205, 1213})  # MySQL: ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK
_UNCONNECTED: Final = frozenset(
    {
        0,  # of the driver: the connection is closed
        1040,  # ER_CON_COUNT_ERROR
        1041,  # ER_OUT_OF_RESOURCES
        1042,  # ER_BAD_HOST_ERROR
        1043,  # ER_HANDSHAKE_ERROR
        1077,  # ER_NORMAL_SHUTDOWN
        1079,  # ER_SHUTDOWN_COMPLETE
        1080,  # ER_FORCING_CLOSE
        1129,  # ER_HOST_IS_BLOCKED
        1152,  # ER_ABORTING_CONNECTION
        1158,  # ER_NET_READ_ERROR
        1159,  # ER_NET_READ_INTERRUPTED
        1160,  # ER_NET_ERROR_ON_WRITE
        1161,  # ER_NET_WRITE_INTERRUPTED
        1184,  # ER_NEW_ABORTING_CONNECTION
        1203,  # ER_TOO_MANY_USER_CONNECTIONS
        1226,  # ER_USER_LIMIT_REACHED
        1317,  # ER_QUERY_INTERRUPTED: somebody has ended the statement
        4031,  # ER_CLIENT_INTERACTION_TIMEOUT
    }
)
"""Numbers of MySQL's errors by which a server gives no connection, or ends one, whatever the statement is."""
_CLIENT_ERRORS: Final = range(2000, 2100)
"""Numbers of the client library's own errors (CR_…): no connection, or a lost one."""
_NO_SUCH_TABLE: Final = 1146  # MySQL: ER_NO_SUCH_TABLE; the driver raises ProgrammingError for it


@contextmanager
def translate_errors() -> Iterator[None]:
    """Replace the driver's transient errors that the block raises by the chassis' own errors, and log them.

    Raises ContendedError or DatabaseUnavailableError. Permanent errors, such as a violated unique key, pass through.
    """
    try:
        yield
    except (DBAPIError, PoolExhaustedError) as error:
        unavailable = _translate_driver_error(error)
        if unavailable is None:
            raise
        log.warning(
            "database.contended" if isinstance(unavailable, ContendedError) else "database.away",
            **describe_driver_error(error),
        )
        raise unavailable from None


def describe_driver_error(error: DBAPIError | PoolExhaustedError) -> dict[str, object]:
    """Return the fields of a driver's error that may be logged: its class and number, but not its text.

    The text may contain values of the database.
    """
    cause = error.orig if isinstance(error, DBAPIError) else error
    return {"error": type(cause).__name__, "number": _get_mysql_error_number(error)}


def is_contended(error: DBAPIError) -> bool:
    """Return True if the error reports a lock that was not released in time, or a deadlock; False for any other."""
    return _get_mysql_error_number(error) in _CONTENDED or _is_sqlite_busy(error)


def blames_statement(error: DBAPIError) -> bool:
    """Return True if the database refuses the statement itself, False if the same statement may succeed later.

    That is so after a lock or a deadlock, without a connection or after a lost one, and while nothing can be written.
    """
    number = _get_mysql_error_number(error)
    is_unconnected = error.connection_invalidated or number in _UNCONNECTED or number in _CLIENT_ERRORS
    return not (is_unconnected or is_contended(error) or refuses_writes(error.orig))


def _translate_driver_error(error: DBAPIError | PoolExhaustedError) -> DatabaseUnavailableError | None:
    """Return the chassis' error for a driver's transient error, or None if the error is permanent.

    ContendedError: a lock or a deadlock. DatabaseDamagedError: data that cannot be read. DatabaseUnavailableError: no
    connection, a lost one, a server that takes no writes, or a missing table.
    """
    number = _get_mysql_error_number(error)
    if isinstance(error, DBAPIError) and is_contended(error):
        return ContendedError("Another request is changing the same; try again shortly.")
    cause = error.orig if isinstance(error, DBAPIError) else None
    if reports_damage(cause):
        return DatabaseDamagedError(DAMAGED if isinstance(cause, sqlite3.Error) else DAMAGED_TABLES)
    if refuses_writes(cause):
        return DatabaseUnavailableError(NO_CHANGES)
    # A missing table is not created yet; SQLite and MySQL report it by different classes.
    if isinstance(error, OperationalError | InterfaceError | PoolExhaustedError) or number == _NO_SUCH_TABLE:
        return DatabaseUnavailableError(UNAVAILABLE)
    return None


def _get_mysql_error_number(error: DBAPIError | PoolExhaustedError) -> int | None:
    """Return the number of MySQL's error, or None if the error has no number."""
    arguments = error.orig.args if isinstance(error, DBAPIError) and error.orig else ()
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def _is_sqlite_busy(error: DBAPIError | PoolExhaustedError) -> bool:
    """Return True if the error means that another connection holds the SQLite file's lock, False for other errors."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    if not isinstance(cause, sqlite3.Error):
        return False
    code = getattr(cause, "sqlite_errorcode", None)  # errors of the Python module itself have none
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY  # the upper bits are details of the same error
