"""The contract of flights and alerts stays compatible: messages from before a field was added are read as they were."""

from domain.traffic import Coverage
from streams.messages import decode_flights
from towerwatch.alerts.v1.events_pb2 import AlertRaised, State
from towerwatch.flights.v1.events_pb2 import FlightsObserved, Provenance

OLD_FLIGHTS = bytes.fromhex(
    "0a044b4a464b10021a06088080d18805220608909cd188052a1e0a066162636465661204545354311a06088180d18805"
    "220608e8b9d188053002"
)
"""A batch of one departure of KJFK, as a collector published it before flights could be retracted."""


def test_a_batch_from_before_flights_could_be_retracted_is_read() -> None:
    """It retracts nothing and does not say where it comes from; its flight is counted, and can be retracted."""
    batch = FlightsObserved.FromString(OLD_FLIGHTS)
    assert (batch.provenance, len(batch.retracted)) == (Provenance.PROVENANCE_UNSPECIFIED, 0)
    observed = decode_flights(OLD_FLIGHTS).observation
    assert (observed.coverage, len(observed.event_times), observed.retracted) == (Coverage.COMPLETE, 1, ())
    assert len(observed.fingerprints) == 1


def test_the_numbers_of_fields_stay() -> None:
    """A number that was given is never given to another field, so that old and new versions read each other."""
    assert {field.number: field.name for field in FlightsObserved.DESCRIPTOR.fields} == {
        1: "airport",
        2: "direction",
        3: "begin",
        4: "end",
        5: "flights",
        6: "coverage",
        7: "past",
        8: "begins_anew",
        9: "covered_from",
        10: "provenance",
        11: "retracted",
        12: "record_part",
        13: "history",
    }
    numbers = {field.name: field.number for field in AlertRaised.DESCRIPTOR.fields}
    assert (numbers["withdrawn_count"], numbers["episode_id"]) == (14, 18)
    assert (numbers["withdrawn_state"], numbers["revision"]) == (19, 20)
    assert Provenance.items() == [
        ("PROVENANCE_UNSPECIFIED", 0),
        ("PROVENANCE_SETTLED", 1),
        ("PROVENANCE_LIVE", 2),
        ("PROVENANCE_RECENT", 3),
    ]
    assert State.Value("STATE_WITHDRAWN") == 4
