"""The desk where the two inputs meet: what each event changes, and what it makes to be said.

Pure in its effects: it reads the tables and returns what to send and what to write, so that the agent can do
the one before the other. The indexes in memory are derived from the tables and may be dropped at any time.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from domain.alerts import Alert
from domain.interests import Interest
from domain.judgement import NOTHING_KNOWN, alerts_between
from domain.traffic import Traffic
from streams.errors import UndecodableError
from streams.messages import ObservedFlights, decode_interest, is_icao
from streams.state import decode_airport, decode_interest_entry, encode_airport, encode_interest


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows from an event: alerts to be acknowledged by the broker first, then one table entry to write."""

    alerts: tuple[Alert, ...]
    key: bytes
    entry: bytes
    airport: str
    known: "tuple[int, Traffic] | Interest | UUID"
    """What the entry means: the traffic with its sequence, the interest that is set, or the one that is removed."""
    flights: int = 0
    """How many flights were folded."""
    stray_flights: int = 0
    """How many were left out, because they lie out of their batch's reach."""


class Desk:
    """The airports and interests of the partitions that this worker owns."""

    def __init__(self, airports: Mapping[bytes, bytes], interests: Mapping[bytes, bytes]) -> None:
        self._airport_table = airports
        self._interest_table = interests
        self._traffic: dict[str, tuple[int, Traffic]] = {}
        self._interests: defaultdict[str, dict[UUID, Interest]] | None = None

    def forget(self) -> None:
        """Drop the indexes, because the tables may have changed under them (a rebalance, a recovery)."""
        self._traffic.clear()
        self._interests = None

    def traffic(self, airport: str) -> tuple[int, Traffic]:
        """The sequence of the last batch folded, and the traffic; (0, NOTHING_KNOWN) where there is none."""
        known = self._traffic.get(airport)
        if known is None:
            entry = self._airport_table.get(airport.encode())
            known = decode_airport(entry) if entry else (0, NOTHING_KNOWN)
            self._traffic[airport] = known
        return known

    def interests(self, airport: str) -> dict[UUID, Interest]:
        """The interests in force at an airport."""
        if self._interests is None:
            self._interests = defaultdict(dict)
            for entry in self._interest_table.values():
                _, interest = decode_interest_entry(entry)
                if interest is not None:
                    self._interests[interest.airport][interest.interest_id] = interest
        return self._interests[airport]

    def flights_observed(self, sequence: int, batch: ObservedFlights) -> Outcome | None:
        """Fold a batch, or None where it was folded before."""
        folded, before = self.traffic(batch.airport)
        if sequence <= folded:
            return None
        after = before.fold(batch.observation)
        alerts = [
            alert
            for interest in self.interests(batch.airport).values()
            for alert in alerts_between(interest, before, after)
        ]
        alerts.sort(key=lambda alert: (alert.window_start, alert.interest_id, alert.bound))
        times = batch.observation.event_times
        within = sum(at in batch.observation.reach for at in times)
        return Outcome(
            alerts=tuple(alerts),
            key=batch.airport.encode(),
            entry=encode_airport(sequence, after),
            airport=batch.airport,
            known=(sequence, after),
            flights=within,
            stray_flights=len(times) - within,
        )

    def interest_changed(self, sequence: int, key: bytes, value: bytes | None) -> Outcome | None:
        """Set or remove (value None) an interest, or None where that was done before or is out of date."""
        airport, interest_id = _parts(key)
        known = self._interest_table.get(key)
        folded, present = decode_interest_entry(known) if known else (0, None)
        if sequence <= folded:
            return None
        if value is None:
            return Outcome((), key, encode_interest(sequence, None), airport, interest_id)
        interest = decode_interest(value)
        if (interest.airport, interest.interest_id) != (airport, interest_id):
            raise UndecodableError("an InterestSet under another interest's key")
        if present is not None and interest.version <= present.version:
            return None
        _, traffic = self.traffic(airport)
        alerts = tuple(alerts_between(interest, NOTHING_KNOWN, traffic))
        return Outcome(alerts, key, encode_interest(sequence, value), airport, interest)

    def written(self, outcome: Outcome) -> None:
        """Follow in memory what was written to a table. To be called right after the write."""
        match outcome.known:
            case Interest() as interest:
                self.interests(outcome.airport)[interest.interest_id] = interest
            case UUID() as removed:
                self.interests(outcome.airport).pop(removed, None)
            case traffic:
                self._traffic[outcome.airport] = traffic


def _parts(key: bytes) -> tuple[str, UUID]:
    """The airport and the interest's id in a key of interests.changed.v1."""
    try:
        airport, _, text = key.decode().partition("/")
        interest_id = UUID(text)
    except ValueError:
        raise UndecodableError("a key that is not airport/interest_id") from None
    if not is_icao(airport) or str(interest_id) != text:  # another spelling would be another entry
        raise UndecodableError("a key that is not airport/interest_id")
    return airport, interest_id
