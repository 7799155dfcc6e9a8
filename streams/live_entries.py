"""The bytes of what was told from positions, as it stands in the stream's table entries."""

from domain.live_record import LiveRecord
from towerwatch.streams.v1 import state_pb2


def encode_live_record(state: state_pb2.LiveRecord, live: LiveRecord) -> None:
    """Set the fields of the empty message `state` to a record."""
    state.begin, state.end = live.begin, live.end
    if live.settled_until is not None:
        state.settled_until = live.settled_until
    for begin, end in live.covered:
        state.covered.add(begin=begin, end=end)
    for begin, end in live.left_live:
        state.left_live.add(begin=begin, end=end)


def decode_live_record(state: state_pb2.LiveRecord) -> LiveRecord:
    """Decode the record of what was told live from its protobuf message."""
    return LiveRecord(
        begin=state.begin,
        end=state.end,
        settled_until=state.settled_until if state.HasField("settled_until") else None,
        covered=tuple((each.begin, each.end) for each in state.covered),
        left_live=tuple((each.begin, each.end) for each in state.left_live),
    )
