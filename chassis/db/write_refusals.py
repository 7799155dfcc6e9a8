"""Errors by which a database says that nothing can be written to it now, such as a MySQL primary that became a replica.

Behind a name that moves to the new primary, a pool would go on with its connections to the old one for ever. So after
such an error the pool is emptied, and the next transaction connects anew.
"""

import re
import sqlite3
from typing import Final

from sqlalchemy import event
from sqlalchemy.engine import Engine, ExceptionContext

_MYSQL_NUMBERS: Final = frozenset(
    {
        1021,  # ER_DISK_FULL
        1036,  # ER_OPEN_AS_READONLY: a table is read only
        1047,  # ER_UNKNOWN_COM_ERROR, of Galera: the node is not part of the cluster now
        1053,  # ER_SERVER_SHUTDOWN
        1114,  # ER_RECORD_FILE_FULL: also where the disk is full
        1290,  # ER_OPTION_PREVENTS_STATEMENT: read_only or super_read_only
        1792,  # ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION: transaction_read_only
        1836,  # ER_READ_ONLY_MODE
        1874,  # ER_INNODB_READ_ONLY
        1927,  # ER_CONNECTION_KILLED, of MariaDB
        3024,  # ER_QUERY_TIMEOUT: the server does not execute our statements in its time
        3032,  # ER_SERVER_OFFLINE_MODE
        3100,  # ER_RUN_HOOK_ERROR: a member of Group Replication has left its group
        3101,  # ER_TRANSACTION_ROLLBACK_DURING_COMMIT: Group Replication rejected the transaction
        3169,  # ER_SESSION_WAS_KILLED
        9001,  # of ProxySQL: no server of the hostgroup for writes
    }
)
"""Numbers of MySQL's errors, and of those that speak its protocol, with which a server takes no writes.

Sources: MySQL 8.4 error reference, MariaDB error codes, ProxySQL's documentation.
"""
_READ_ONLY_TEXT: Final = re.compile(r"\bread[-_ ]?only\b", re.IGNORECASE)
"""Managed servers and proxies report a server without writes by numbers of their own, or by 1105 (unknown error)."""
_SQLITE_CODES: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
"""SQLITE_IOERR: a full disk has that name where the file of shared memory cannot grow."""


def refuses_writes(error: BaseException | None) -> bool:
    """Return True if a driver's error says that the database takes no writes now, False for every other error."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)  # errors of the Python module itself have none
        return code is not None and code & 0xFF in _SQLITE_CODES
    arguments = error.args if error is not None else ()
    if not arguments or not isinstance(arguments[0], int):
        return False
    return arguments[0] in _MYSQL_NUMBERS or any(
        _READ_ONLY_TEXT.search(text) is not None for text in arguments[1:] if isinstance(text, str)
    )


class WriteRefusals:
    """A watch over an engine's errors: it empties the pool after an error that refuses writes, and remembers it."""

    def __init__(self) -> None:
        self.is_refusing = False
        """True from an error that refuses writes on, until the owner finds by a write that the database takes them."""

    def watch(self, engine: Engine) -> None:
        """Look at each error of the engine's connections from now on."""
        event.listen(engine, "handle_error", self._handle_error)

    def _handle_error(self, context: ExceptionContext) -> None:
        """Treat an error that refuses writes as a lost connection: SQLAlchemy then discards the pool's connections."""
        if refuses_writes(context.original_exception):
            self.is_refusing = True
            context.is_disconnect = True
