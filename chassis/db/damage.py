"""Damage of a database: errors that report unreadable data, and a file of SQLite that was removed or replaced.

SQLite finds a damaged page only when it reads it, and goes on with a file that another one has replaced: what is
written then is lost at the next start. So the first sign of either ends the use of the file until the service starts
again. SQLite has no checksums: a changed byte inside of a value is not found. Of a MySQL server see `table_damage`.
"""

import re
import sqlite3
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import event, text
from sqlalchemy.engine import Connection, Engine, ExceptionContext

from chassis.errors import DatabaseDamagedError

log = structlog.get_logger()

DAMAGED: Final = "The database is damaged; its operator must restore a backup and start the service again."
FILE_REPLACED: Final = (
    "The database's file was removed or replaced while the service ran; its operator must restore a backup, or put the "
    "file back, and start the service again."
)

_SQLITE_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_MYSQL_NUMBERS: Final = frozenset(
    {
        1033,  # ER_NOT_FORM_FILE
        1034,  # ER_NOT_KEYFILE: incorrect key file, try to repair it
        1035,  # ER_OLD_KEYFILE
        1194,  # ER_CRASHED_ON_USAGE
        1195,  # ER_CRASHED_ON_REPAIR
        1712,  # ER_INDEX_CORRUPT
        1812,  # ER_TABLESPACE_MISSING
        1814,  # ER_TABLESPACE_DISCARDED
        1877,  # ER_TABLE_CORRUPT
        1932,  # ER_NO_SUCH_TABLE_IN_ENGINE, of MariaDB
    }
)
"""Numbers of MySQL's and MariaDB's errors about a table that cannot be read.

Sources: MySQL 8.4 error reference, MariaDB error codes.
"""
_HANDLER_ERROR: Final = 1030
"""ER_GET_ERRNO, whose text has the storage engine's number."""
_HANDLER_NUMBERS: Final = frozenset({126, 127, 130, 134, 141, 144, 145, 180, 192, 194})
"""HA_ERR_CRASHED, _WRONG_IN_RECORD, _NOT_A_TABLE, _RECORD_DELETED, _CRASHED_ON_REPAIR …, _INDEX_CORRUPT, and of MariaDB
_DECRYPTION_FAILED and _TABLESPACE_MISSING (my_base.h). MariaDB also sends them as the numbers of errors."""
_NUMBER: Final = re.compile(r"\b[0-9]+\b")


def reports_damage(error: BaseException | None) -> bool:
    """Return True if a driver's error says that the database's own data cannot be read, False for every other error."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)  # errors of the Python module itself have none
        return code is not None and code & 0xFF in _SQLITE_CODES
    arguments = error.args if error is not None else ()
    if not arguments or not isinstance(arguments[0], int):
        return False
    if arguments[0] == _HANDLER_ERROR:
        texts = [each for each in arguments[1:] if isinstance(each, str)]
        return any(int(found) in _HANDLER_NUMBERS for each in texts for found in _NUMBER.findall(each))
    if isinstance(error, OSError):  # its numbers are the operating system's
        return False
    return arguments[0] in _MYSQL_NUMBERS | _HANDLER_NUMBERS


class FileWatch:
    """A watch over the file of an SQLite database: whether it is damaged, and still the file that was opened first.

    Any thread may use it. It does nothing for a database on a server, or in memory: `path` is None then.
    """

    def __init__(self, path: str | None) -> None:
        self._path = None if path in ("", ":memory:") else path
        self._opened: tuple[int, int] | None = None
        self.fault: str | None = None
        """The sentence that says why the file is not used any more; None while it is used."""

    def watch(self, engine: Engine) -> None:
        """Listen to the engine's new connections and errors: an error that reports damage ends the use of the file."""
        if self._path is not None:
            event.listen(engine, "connect", self._remember_file)
            event.listen(engine, "handle_error", self._handle_error)

    def require_intact(self) -> None:
        """Raise DatabaseDamagedError if a fault was stored before, or the path leads to another file than at first."""
        if self.fault is None and self._opened is not None and self._identify_file() != self._opened:
            self._record_fault(FILE_REPLACED)
        if self.fault is not None:
            raise DatabaseDamagedError(self.fault)

    def check_pages(self, connection: Connection) -> None:
        """Read each page of the file. Raises DatabaseDamagedError if one is damaged, or the driver's error.

        SQLite reads some hundred MB in a second.
        """
        if self._path is not None and connection.execute(text("PRAGMA quick_check(1)")).scalar() != "ok":
            self._record_fault(DAMAGED)
            raise DatabaseDamagedError(DAMAGED)

    def forget(self) -> None:
        """Forget the fault and which file was opened, as before the first connection."""
        self._opened = self.fault = None

    def _identify_file(self) -> tuple[int, int] | None:
        """Return the device and inode of the file at the path now, or None if there is none."""
        try:
            found = Path(self._path or "").stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _remember_file(self, _connection: object, _record: object) -> None:
        """Remember which file the first connection has opened."""
        if self._opened is None:
            self._opened = self._identify_file()

    def _handle_error(self, context: ExceptionContext) -> None:
        """End the use of the file after an error that reports damage."""
        if reports_damage(context.original_exception):
            self._record_fault(DAMAGED)

    def _record_fault(self, fault: str) -> None:
        """Store the sentence that ends the use of the file, and log the first one."""
        if self.fault is None:
            log.error("database.damaged", reason=fault)
        self.fault = fault
