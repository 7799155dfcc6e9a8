"""Wishes for a collection, from any replica to the one that collects."""

from chassis.db.database import Database
from collector.errors import NoSuchAirportError
from collector.messages import collection_requested
from collector.model import OUTBOX
from domain.airports import find_airport


class CollectionRequests:
    """Puts wishes on their way."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def request(self, icao: str | None) -> None:
        """Ask for a collection of one airport, or of all. Raises NoSuchAirportError, DatabaseAwayError."""
        if icao is not None and find_airport(icao) is None:
            raise NoSuchAirportError(f"{icao} is no airport's ICAO code; ICAO codes look like KJFK.")
        with self._database.transaction() as session:
            OUTBOX.add(session, [collection_requested(icao or "")])
