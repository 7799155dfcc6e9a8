"""A join state whose tables are dicts, for tests without Kafka and Faust."""

from domain.alerts import Alert
from streams.join_state import FoldResult, JoinState
from streams.messages import decode_flights
from tests.streams.events import Event
from towerwatch.topics import FLIGHTS_OBSERVED


class JoinStateOnDicts:
    """A join state and its tables, which are dicts and are written in the order of the agent."""

    def __init__(self) -> None:
        self.airports: dict[bytes, bytes] = {}
        self.interests: dict[bytes, bytes] = {}
        self.history: dict[bytes, bytes] = {}
        self.state = self.new_state()

    def new_state(self) -> JoinState:
        """Return a new join state on the same tables, with empty indexes."""
        return JoinState(self.airports, self.interests, self.history)

    def compute_result(self, event: Event) -> FoldResult | None:
        """Return the result of an event (None: a duplicate) and write nothing."""
        assert event.sequence is not None
        if event.topic is FLIGHTS_OBSERVED:
            return self.state.fold_flights(event.sequence, decode_flights(event.value))
        return self.state.fold_interest(event.sequence, event.key or b"", event.value)

    def write_history(self, result: FoldResult) -> None:
        """Write the history entries of a result, which come before its table entry; a crash may follow."""
        for key, entry in result.history_entries.items():
            if entry is None:
                del self.history[key]
            else:
                self.history[key] = entry

    def write_result(self, event: Event, result: FoldResult) -> None:
        """Write all entries of an event's result, and apply the result to the join state."""
        self.write_history(result)
        table = self.airports if event.topic is FLIGHTS_OBSERVED else self.interests
        table[result.key] = result.entry
        self.state.apply_after_write(result)

    def fold(self, event: Event) -> tuple[Alert, ...]:
        """Fold an event, write its result and return its alerts; a duplicate has none."""
        result = self.compute_result(event)
        if result is None:
            return ()
        alerts = tuple(self.state.build_alerts(result))
        self.write_result(event, result)
        return alerts
