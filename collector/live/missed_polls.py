"""Missed polls: the instants that are requested after a pause, and which answers about them count. Pure.

After a pause that the detector does not bridge, a source that gives the states of the last hour can still fill the hole
in the polls. See docs/adr/0075-missed-polls.md.
"""

import math
from typing import Final

from collector.live.feeds import OutdatedAnswerError, RoundResult, has_fresh_position
from collector.live.movements import BRIDGED_PAUSE_S
from collector.sources.merging import merge_polls
from collector.sources.state_vector import Poll

LOOK_BACK_S: Final = 3_480.0
"""OpenSky gives an account the states of the last hour. Two minutes are left out, which the requests may take."""
SHORTEST_STEP_S: Final = 60.0
"""Least seconds between two missed polls: denser ones find hardly another movement (ADR 36), and each costs credits."""
LONGEST_STEP_S: Final = 90.0
"""Most seconds between two missed polls: farther apart, the detector finds fewer movements (ADR 36)."""

_RESOLUTION_S: Final = 10
"""Instants are multiples of so many seconds: the resolution in time of the source's answers is this or finer."""


def list_missed_times(heard_until: float, until: float, interval_s: float) -> list[int]:
    """Return the instants of the missed polls between two that count, in their order; empty if the pause is bridged.

    All times are Unix seconds by the source's clock. `interval_s`: the usual seconds between two polls. Instants that
    are too long ago for the source are left out.
    """
    if until - heard_until <= BRIDGED_PAUSE_S:
        return []
    step_s = min(max(interval_s, SHORTEST_STEP_S), LONGEST_STEP_S)
    begin = max(heard_until + step_s, until - LOOK_BACK_S)
    steps = max(math.ceil((until - begin) / step_s), 1)
    instants = (begin + (until - begin) * number / steps for number in range(steps))
    return [math.ceil(each / _RESOLUTION_S) * _RESOLUTION_S for each in instants if until - each > _RESOLUTION_S]


def merge_missed_poll(result: RoundResult, at: int) -> Poll:
    """Return the answers to the requests for the states of an instant as one poll.

    Raises SourceError if a request failed, and OutdatedAnswerError if an answer is about another time (some sources
    ignore the instant), or if no aircraft in the answers has a fresh position.
    """
    for error in result.failures.values():
        raise error
    polls = {f"{source} {name}": poll for source, each in result.polls.items() for name, poll in each.items()}
    if not polls or any(abs(poll.time - at) > _RESOLUTION_S for poll in polls.values()):
        raise OutdatedAnswerError("the source does not give the states of the time that it is asked for")
    if not any(map(has_fresh_position, polls.values())):
        raise OutdatedAnswerError("the source knows no aircraft of the time that it is asked for")
    return merge_polls(polls, max(poll.time for poll in polls.values())).poll
