"""A desk and its tables, without Kafka and Faust."""

from domain.alerts import Alert
from streams.join_state import FoldResult, JoinState
from streams.messages import decode_flights
from tests.streams.events import Event
from towerwatch.topics import FLIGHTS_OBSERVED


class Bench:
    """A desk and its tables, written as the agent writes them."""

    def __init__(self) -> None:
        self.airports: dict[bytes, bytes] = {}
        self.interests: dict[bytes, bytes] = {}
        self.history: dict[bytes, bytes] = {}
        self.desk = self.new_desk()

    def new_desk(self) -> JoinState:
        """A desk that knows nothing but the tables."""
        return JoinState(self.airports, self.interests, self.history)

    def outcome(self, event: Event) -> FoldResult | None:
        """What follows from an event; nothing is written."""
        assert event.sequence is not None
        if event.topic is FLIGHTS_OBSERVED:
            return self.desk.fold_flights(event.sequence, decode_flights(event.value))
        return self.desk.fold_interest(event.sequence, event.key or b"", event.value)

    def write_past(self, outcome: FoldResult) -> None:
        """The entries that come before all else; a crash may follow."""
        for key, entry in outcome.history_entries.items():
            if entry is None:
                del self.history[key]
            else:
                self.history[key] = entry

    def write(self, event: Event, outcome: FoldResult) -> None:
        self.write_past(outcome)
        table = self.airports if event.topic is FLIGHTS_OBSERVED else self.interests
        table[outcome.key] = outcome.entry
        self.desk.apply_after_write(outcome)

    def fold(self, event: Event) -> tuple[Alert, ...]:
        """The alerts of an event that is folded; none of one that is a duplicate."""
        outcome = self.outcome(event)
        if outcome is None:
            return ()
        alerts = tuple(self.desk.build_alerts(outcome))
        self.write(event, outcome)
        return alerts
