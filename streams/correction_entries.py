"""The bytes of the corrections that stand in the stream's table entries."""

from collections.abc import Iterable, Sequence

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

from domain.corrections import Correction, QuarterDetail
from towerwatch.streams.v1 import state_pb2


def encode_correction(state: state_pb2.CountCorrection, correction: Correction) -> None:
    """Set the fields of the empty message `state` to a correction."""
    state.number = correction.number
    state.watermark_before = correction.watermark_before
    state.watermark_after = correction.watermark_after
    if correction.other_watermark is not None:
        state.other_watermark = correction.other_watermark
    _add_hours(state.changes, correction.changes)
    _add_hours(state.open_hours, correction.open_hours)
    _add_hours(state.other_open_hours, correction.other_open_hours)
    for begin, end in correction.filled:
        state.filled.add(begin=begin, end=end)
    if correction.covered_from_before is not None:
        state.covered_from_before = correction.covered_from_before
    if correction.quarters is not None:
        state.quarters.SetInParent()
        _add_quarters(state.quarters.changes, correction.quarters.changes)
        _add_quarters(state.quarters.open, correction.quarters.open)
        _add_quarters(state.quarters.other_open, correction.quarters.other_open)


def decode_correction(state: state_pb2.CountCorrection) -> Correction:
    """Decode the record of a correction from its protobuf message."""
    return Correction(
        number=state.number,
        watermark_before=state.watermark_before,
        watermark_after=state.watermark_after,
        other_watermark=state.other_watermark if state.HasField("other_watermark") else None,
        changes=_read_hours(state.changes),
        open_hours=_read_hours(state.open_hours),
        other_open_hours=_read_hours(state.other_open_hours),
        filled=tuple((gap.begin, gap.end) for gap in state.filled),
        covered_from_before=state.covered_from_before if state.HasField("covered_from_before") else None,
        quarters=_read_detail(state.quarters) if state.HasField("quarters") else None,
    )


def _read_detail(state: state_pb2.QuarterDetail) -> QuarterDetail:
    """Decode what a correction says by quarters of an hour."""
    return QuarterDetail(_read_quarters(state.changes), _read_quarters(state.open), _read_quarters(state.other_open))


def _add_hours(
    messages: "RepeatedCompositeFieldContainer[state_pb2.HourFlights]", hours: Sequence[tuple[int, int]]
) -> None:
    """Add a message for each hour (since 1970) with its flights."""
    for hour, flights in hours:
        messages.add(hour=hour, flights=flights)


def _read_hours(messages: Iterable[state_pb2.HourFlights]) -> tuple[tuple[int, int], ...]:
    """Return the hours (since 1970) of the messages, each with its flights."""
    return tuple((each.hour, each.flights) for each in messages)


def _add_quarters(
    messages: "RepeatedCompositeFieldContainer[state_pb2.QuarterFlights]", quarters: Sequence[tuple[int, int]]
) -> None:
    """Add a message for each quarter of an hour (since 1970) with its flights."""
    for quarter, flights in quarters:
        messages.add(quarter=quarter, flights=flights)


def _read_quarters(messages: Iterable[state_pb2.QuarterFlights]) -> tuple[tuple[int, int], ...]:
    """Return the quarters (since 1970) of the messages, each with its flights."""
    return tuple((each.quarter, each.flights) for each in messages)
