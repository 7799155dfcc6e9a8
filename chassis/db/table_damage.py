"""Damaged tables of a MySQL server: the service is not ready from the first error that reports one until all are read.

The server keeps damage to the tables that have it, and its operator may repair or restore them while services run. So
an error ends no more than its own transaction; but a service that answers some requests with errors for good must say
why. Whether the tables are whole again is found by reading all of them, in a thread of its own.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog
from sqlalchemy import event, inspect, text
from sqlalchemy.engine import Connection, Engine, ExceptionContext
from sqlalchemy.exc import SQLAlchemyError

from chassis.db.damage import reports_damage

log = structlog.get_logger()

DAMAGED_TABLES: Final = (
    "A table of the database is damaged; its operator must repair or restore it, then the service goes on by itself."
)
_READ_EVERY_S: Final = 10.0
"""Seconds between the end of one reading of all tables and the begin of the next one."""


class TableWatch:
    """A watch over an engine's errors: it remembers that a table is damaged until all tables can be read again.

    Any thread may use it.
    """

    def __init__(self, read_tables: Callable[[], None], read_every_s: float = _READ_EVERY_S) -> None:
        """`read_tables` reads all tables of the database and raises SQLAlchemyError for one that cannot be read."""
        self._read_tables = read_tables
        self._read_every_s = read_every_s
        self._lock = threading.Lock()
        self._errors = 0
        """Errors so far that reported damage."""
        self._is_damaged = False
        self._is_reading = False
        self._read_next_at = 0.0

    def watch(self, engine: Engine) -> None:
        """Look at each error of the engine's connections from now on."""
        event.listen(engine, "handle_error", self._handle_error)

    def explain_damage(self) -> str | None:
        """Return the sentence that says that a table is damaged, or None if none is known to be.

        While one is, it also starts to read all tables in a thread, unless that runs, or ended a short time ago.
        """
        with self._lock:
            if not self._is_damaged:
                return None
            if not self._is_reading and time.monotonic() >= self._read_next_at:
                self._is_reading = True
                threading.Thread(target=self._look_for_repair, args=(self._errors,), daemon=True).start()
        return DAMAGED_TABLES

    def _handle_error(self, context: ExceptionContext) -> None:
        """Remember an error that reports damage, and log the first one."""
        if not reports_damage(context.original_exception):
            return
        with self._lock:
            self._errors += 1
            first, self._is_damaged = not self._is_damaged, True
        if first:
            log.error("database.damaged", reason=DAMAGED_TABLES)

    def _look_for_repair(self, errors: int) -> None:
        """Read all tables; if each can be read, and no other error came meanwhile, the damage is over."""
        is_readable = False
        try:
            self._read_tables()
            is_readable = True
        except SQLAlchemyError as error:
            log.debug("database.still_damaged", error=type(error).__name__)
        finally:
            with self._lock:
                self._is_reading = False
                self._read_next_at = time.monotonic() + self._read_every_s
                is_repaired = is_readable and self._errors == errors
                self._is_damaged = not is_repaired
        if is_repaired:
            log.info("database.repaired")


def read_all_tables(connection: Connection) -> None:
    """Read each index of each table of a MySQL database from end to end, the primary key's with all rows among them.

    Raises SQLAlchemyError if one cannot be read.
    """
    quote = connection.dialect.identifier_preparer.quote
    for (table,) in connection.execute(text("SHOW TABLES")).all():
        names = {index["name"] for index in inspect(connection).get_indexes(table)}
        if inspect(connection).get_pk_constraint(table)["constrained_columns"]:
            names.add("PRIMARY")
        for hint in [f" FORCE INDEX ({quote(each)})" for each in sorted(filter(None, names))] or [""]:
            connection.execute(text(f"SELECT COUNT(*) FROM {quote(table)}{hint}"))
