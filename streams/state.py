"""The bytes of the stream's tables."""

from domain.interests import Interest
from domain.traffic import Flow, HourlyCounts, Traffic
from streams.errors import UndecodableError
from streams.messages import interest_of
from towerwatch.streams.v1 import state_pb2


def encode_airport(sequence: int, traffic: Traffic) -> bytes:
    """An entry of the table of airports: the traffic, and the sequence of the last batch that is in it."""
    state = state_pb2.AirportState(sequence=sequence)
    _write_flow(state.arrivals, traffic.arrivals)
    _write_flow(state.departures, traffic.departures)
    return state.SerializeToString()


def decode_airport(entry: bytes) -> tuple[int, Traffic]:
    state = state_pb2.AirportState.FromString(entry)
    return state.sequence, Traffic(_read_flow(state.arrivals), _read_flow(state.departures))


def _write_flow(into: state_pb2.FlowState, flow: Flow) -> None:
    if flow.covered_from is not None:
        into.covered_from = flow.covered_from
    if flow.watermark is not None:
        into.watermark = flow.watermark
    into.first_hour = flow.counts.first_hour
    into.counts.extend(flow.counts.counts)
    into.gaps.extend(state_pb2.Gap(begin=begin, end=end) for begin, end in flow.gaps)


def _read_flow(state: state_pb2.FlowState) -> Flow:
    return Flow(
        counts=HourlyCounts(state.first_hour, tuple(state.counts)),
        covered_from=state.covered_from if state.HasField("covered_from") else None,
        watermark=state.watermark if state.HasField("watermark") else None,
        gaps=tuple((gap.begin, gap.end) for gap in state.gaps),
    )


def encode_interest(sequence: int, value: bytes | None) -> bytes:
    """An entry of the table of interests: the event as it came, or that the interest was removed.

    A removed interest keeps its entry, so that a repeated older event does not bring it back.
    """
    entry = state_pb2.InterestEntry(sequence=sequence)
    if value is not None:
        entry.interest.ParseFromString(value)
    return entry.SerializeToString()


def decode_interest_entry(entry: bytes) -> tuple[int, Interest | None]:
    """The sequence, and the interest; None once it was removed.

    None also for one that this version refuses and an earlier one accepted: it must not stop the others.
    """
    state = state_pb2.InterestEntry.FromString(entry)
    if not state.HasField("interest"):
        return state.sequence, None
    try:
        return state.sequence, interest_of(state.interest)
    except UndecodableError:
        return state.sequence, None


def sequence_of_airport(entry: bytes) -> int:
    """The sequence in an entry of the table of airports."""
    return state_pb2.AirportState.FromString(entry).sequence


def sequence_of_interest(entry: bytes) -> int:
    """The sequence in an entry of the table of interests."""
    return state_pb2.InterestEntry.FromString(entry).sequence
