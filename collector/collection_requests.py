"""Requests for an immediate collection, which any replica sends to the leader."""

from chassis.db.database import Database
from collector.errors import NoSuchAirportError
from collector.messages import encode_collection_request
from collector.model import OUTBOX
from domain.airports import describe_unknown_code, find_airport


class CollectionRequests:
    """A sender of collection requests: adds their events to the outbox, by which they reach the leader."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def request(self, icao: str | None) -> None:
        """Add a request for a collection of one airport, or of all (None), to the outbox, in its own transaction.

        Returns without waiting for the collection, which the leader begins once the event is published. Raises
        NoSuchAirportError, DatabaseUnavailableError.
        """
        if icao is not None and find_airport(icao) is None:
            raise NoSuchAirportError(f"{icao[:10]}: {describe_unknown_code(icao)}", "airport_icao")
        with self._database.transaction() as session:
            OUTBOX.add(session, [encode_collection_request(icao or "")])
