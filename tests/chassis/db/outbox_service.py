"""A service with an outbox, and its relays, for tests without a broker."""

from sqlalchemy import MetaData, insert

from chassis.db.database import Database
from chassis.db.outbox import LeaseWatch, Outbox, OutboxMessage, SequencedMessage

NOW = 1_360_713_600.0
"""The time of the first claim, in seconds since the epoch."""


def message(text: str) -> OutboxMessage:
    """Return a message with this text as its value."""
    return OutboxMessage("events.v1", 0, b"key", text.encode())


def values(claimed: list[SequencedMessage]) -> list[str]:
    """Return the messages' values as texts."""
    return [(each.message.value or b"").decode() for each in claimed]


class Relay:
    """One relay of an outbox, which runs each step in a transaction of its own."""

    def __init__(self, database: Database, outbox: Outbox, owner: str) -> None:
        self._database = database
        self._outbox = outbox
        self._owner = owner
        self._watch = LeaseWatch()

    def claim(self, now: float = NOW, wall: float | None = None) -> list[SequencedMessage]:
        """Claim the next messages at this time; `wall` is what the wall clock shows then, if it is wrong."""
        with self._database.transaction() as session:
            shown = now if wall is None else wall
            return self._outbox.claim_messages(session, self._owner, shown, self._watch, now - NOW)

    def release(self) -> None:
        """Release the lease."""
        with self._database.transaction() as session:
            self._outbox.release_lease(session, self._owner)

    def end(self, published: list[SequencedMessage]) -> None:
        """End a round: delete published messages, and end the lease if none remain."""
        with self._database.transaction() as session:
            self._outbox.end_round(session, self._owner, published)

    def delete(self, published: list[SequencedMessage]) -> None:
        """Delete published messages."""
        with self._database.transaction() as session:
            self._outbox.delete_published(session, published)


class Service:
    """A service that adds events to its outbox, and creates relays."""

    def __init__(self, url: str) -> None:
        schema = MetaData()
        self.outbox = Outbox(schema)
        self.database = Database(url)
        self._relays: dict[str, Relay] = {}
        schema.create_all(self.database.engine)

    def write(self, *texts: str) -> None:
        """Add one event for each text, in one transaction."""
        with self.database.transaction() as session:
            self.outbox.add(session, [message(text) for text in texts])

    def commit_with_id(self, row: int, text: str) -> None:
        """Commit an event with this row id, as if its transaction had got the id earlier than it commits."""
        with self.database.transaction() as session:
            added = message(text)
            session.execute(
                insert(self.outbox.rows).values(
                    id=row, topic=added.topic, partition=added.partition, key=added.key, value=added.value
                )
            )

    def relay(self, owner: str = "one") -> Relay:
        """Return the relay that claims in this owner's name: the same one in each call."""
        return self._relays.setdefault(owner, Relay(self.database, self.outbox, owner))

    def backlog(self) -> int:
        """Return how many events are not published yet."""
        with self.database.transaction() as session:
            return self.outbox.count_unpublished(session)
