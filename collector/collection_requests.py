"""Wishes for a collection, from any replica to the one that collects."""

from chassis.database import Database
from collector.messages import collection_requested
from collector.model import OUTBOX


class CollectionRequests:
    """Puts wishes on their way."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def request(self, airport: str) -> None:
        """Ask for a collection of one airport, or of all ("")."""
        with self._database.transaction() as session:
            OUTBOX.add(session, [collection_requested(airport)])
