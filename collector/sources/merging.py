"""Merging of the polls of several sources into one: each aircraft once, by its freshest position. Pure.

The order in which the sources are named does not matter.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from collector.sources.state_vector import MAX_CLOCK_LEAD_S, Poll, PositionSource, StateVector

OLDEST_POLL_S: Final = 90.0
"""A source's last poll counts for this long: the longest interval between two polls that are covered live."""
_RANKS: Final = {source: rank for rank, source in enumerate(reversed(PositionSource))}
"""Of two positions of the same time the one that the aircraft sent itself wins: ADS-B has the highest rank."""


@dataclass(frozen=True, slots=True)
class MergedPoll:
    """The polls of several sources as one, and the sources that it leaves out, each with its difference in time."""

    poll: Poll
    """Its time is that of the latest poll that counts, so that no position in it is later; `now` if none counts."""
    ahead: Mapping[str, float]
    """By source: how many seconds its poll is ahead of `now`, where that is more than clocks may differ by."""
    outdated: Mapping[str, float]
    """By source: how many seconds its poll is older than `now`, where that is too old to count."""


def merge_polls(polls: Mapping[str, Poll], now: float, oldest_s: float = OLDEST_POLL_S) -> MergedPoll:
    """Merge the last polls of several sources (by the source's name) into one poll with each aircraft once.

    `now`: Unix seconds. A poll, or a position in it, that is up to MAX_CLOCK_LEAD_S later than `now` counts as one of
    `now`; otherwise a source whose clock is ahead would always win. A poll that is farther ahead is left out, because
    the age of its positions is unknown. A poll that is more than `oldest_s` older than `now` is left out, too.

    Of an aircraft's state vectors the one with the freshest position counts. All of its fields are kept together; only
    an unknown callsign or category is taken from the next best state vector, because they do not change in flight.
    """
    ahead = {name: poll.time - now for name, poll in polls.items() if poll.time > now + MAX_CLOCK_LEAD_S}
    outdated = {name: now - poll.time for name, poll in polls.items() if poll.time < now - oldest_s}
    counted = [poll for name, poll in polls.items() if name not in ahead and name not in outdated]
    dropped: Counter[str] = Counter()
    heard: dict[str, list[StateVector]] = {}
    for poll in counted:
        dropped.update(poll.dropped)
        for state in poll.states:
            heard.setdefault(state.icao24, []).append(state)
    states = [_choose_state(heard[icao24], now) for icao24 in sorted(heard)]
    time = max((poll.time for poll in counted), default=now)
    return MergedPoll(Poll(time, states, dict(dropped)), ahead, outdated)


def _choose_state(states: Sequence[StateVector], now: float) -> StateVector:
    """Return the best of an aircraft's state vectors, with the others' callsign and category if it has none."""
    if len(states) == 1:
        return states[0]
    ranked = sorted(states, key=lambda state: _rank_state(state, now), reverse=True)
    best = ranked[0]
    callsign = next((state.callsign for state in ranked if state.callsign), "")
    category = next((state.category for state in ranked if state.category is not None), None)
    return best._replace(callsign=callsign, category=category)


def _rank_state(state: StateVector, now: float) -> tuple[object, ...]:
    """Return a sort key: higher for a fresher position, then for a later message, then for a better source.

    The rest of the key is the state vector itself, so that a tie does not depend on the order of the sources.
    """
    position = state.position
    return (
        position is not None and position.time <= now + MAX_CLOCK_LEAD_S,
        min(position.time, now) if position is not None else 0.0,
        min(state.contact_time, now),
        _RANKS[state.source],
        tuple((field is not None, field) for field in state[1:11]),  # None is never compared with a value
    )
