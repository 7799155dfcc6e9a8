"""The log is lost and the databases are kept: the collector writes it anew, and people are told what they would be."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from domain.interests import Direction, Interest
from domain.windows import Window
from tests.faults.lost_log import AIRPORT, Stack, running_stack
from tests.waiting import eventually
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, INTERESTS_CHANGED

pytestmark = pytest.mark.faults

DAY = timedelta(days=1)
FIRST = datetime(2013, 2, 11, tzinfo=UTC)
ANN, BOB, CARL = (UUID(int=number) for number in (1, 2, 3))


def make_interest(number: int, user_id: UUID, **changes: object) -> Interest:
    """Return an interest in the departures of a day at the airport, from the first day on."""
    fields: dict[str, object] = {"high": None, "low": None, "for_windows": 1, "repeat": False} | changes
    return Interest(
        interest_id=UUID(int=number),
        user_id=user_id,
        airport=AIRPORT,
        direction=Direction.DEPARTURES,
        window=Window.ONE_DAY,
        effective_from=FIRST,
        version=1,
        **fields,  # type: ignore[arg-type]
    )


def collect_day(stack: Stack, number: int, flights: int) -> set[UUID]:
    """Collect a day with so many departures; return the ids of the alerts that follow."""
    begin = FIRST + number * DAY
    return stack.collect(
        Direction.DEPARTURES, begin, begin + DAY, [begin + timedelta(minutes=10 * each) for each in range(flights)]
    )


@pytest.mark.parametrize(
    ("lost", "store"),
    [
        ("everything", "memory"),
        pytest.param("everything", "rocksdb", marks=pytest.mark.long),
        (FLIGHTS_OBSERVED.name, "memory"),
        pytest.param(INTERESTS_CHANGED.name, "rocksdb", marks=pytest.mark.long),
        pytest.param(ALERTS_RAISED.name, "memory", marks=pytest.mark.long),
        ("streams-airports-changelog", "rocksdb"),
    ],
)
def test_the_story_goes_on_after_the_log_is_lost(lost: str, store: str, tmp_path: Path) -> None:
    """The alerts are exactly those of a story without the loss; what was noted as told is not told again.

    Breaches that began before the loss go on: the day after it is RESOLVED or STILL, and never FIRING again. An alert
    that was raised but not mailed, and an interest that nobody was told of yet, are raised anew.
    """
    with running_stack(tmp_path, store) as stack:
        told, untold = tell_first_part(stack)
        if lost == "everything":
            stack.lose_everything()
        else:
            stack.lose_topic(lost)
        assert_second_part(stack, told, untold, alerts_were_lost=lost in ("everything", ALERTS_RAISED.name))


def test_a_log_that_is_lost_again_while_it_is_written_anew(tmp_path: Path) -> None:
    """The second loss begins from what was noted before the first: nothing is told twice, and nothing is missed."""
    with running_stack(tmp_path) as stack:
        told, untold = tell_first_part(stack)
        stack.stop_worker()  # so that the barrier stays
        stack.lose_everything()
        eventually(lambda: stack.count_losses() == 1, "the first loss")
        stack.lose_everything()
        eventually(lambda: stack.count_losses() == 2, "the second loss")
        assert_second_part(stack, told, untold, alerts_were_lost=True)


def tell_first_part(stack: Stack) -> tuple[set[UUID], set[UUID]]:
    """Tell a story up to the loss; return the ids of the alerts that are noted as told, and of those that are not."""
    told = stack.set_interest(make_interest(1, ANN, high=5, repeat=True))
    told |= stack.set_interest(make_interest(2, CARL, low=3))
    for day, flights in enumerate((1, 9, 8)):
        told |= collect_day(stack, day, flights)
    assert len(told) == 4
    stack.wait_until_raised(told)
    stack.wait_until_told()
    untold = collect_day(stack, 3, 7) | stack.set_interest(make_interest(3, BOB, high=6, for_windows=2))
    assert untold
    stack.wait_until_raised(untold)
    assert sorted(stack.read_raised()) == sorted(told | untold)
    return told, untold


def assert_second_part(stack: Stack, told: set[UUID], untold: set[UUID], alerts_were_lost: bool) -> None:
    """Tell the rest of the story, and assert that exactly what was not told before, and what follows, is raised.

    `alerts_were_lost`: False if the alerts from before the loss are still on their topic.
    """
    stack.wait_until_written_anew()
    stack.wait_until_raised(untold)
    later = collect_day(stack, 4, 2) | collect_day(stack, 5, 9)
    assert later
    stack.wait_until_raised(later)
    stack.wait_until_told()
    assert stack.collector.metric("interests_out_of_step") == 0
    raised = Counter(stack.read_raised())
    raised.subtract([*untold, *later, *(() if alerts_were_lost else told | untold)])
    assert {each: count for each, count in raised.items() if count} == {}, (told, untold, later)
