"""Tests of what the demo says while it waits: how much was seen live so far, and what the record has covered."""

from datetime import UTC, datetime, timedelta

from domain.interests import Direction
from local.demo.live_share import describe_live_share, find_settled

BEGIN = datetime(2013, 2, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEYS = [("KJFK", Direction.DEPARTURES), ("KLGA", Direction.DEPARTURES)]


def cover(*stretches: tuple[datetime, datetime]) -> dict[str, object]:
    """Return an answer of the collector with these stretches of live departures, and no record."""
    told = [{"covered_from": begin.isoformat(), "covered_until": end.isoformat()} for begin, end in stretches]
    return {"arrivals": None, "departures": None, "live": {"departures": {"stretches": told}}}


def test_the_share_that_was_seen_live_is_of_the_time_so_far() -> None:
    """What was covered before the story or after now counts for nothing, and an airport without an answer for none."""
    coverage = {"KJFK": cover((BEGIN - HOUR, BEGIN + HOUR), (BEGIN + 3 * HOUR, BEGIN + 9 * HOUR))}
    told = describe_live_share(coverage, KEYS, BEGIN, BEGIN + 4 * HOUR)
    assert told == "   25% seen live so far; the night's record fills the rest"


def test_nothing_is_said_before_the_story_or_without_an_answer() -> None:
    """There is no share of no time."""
    assert describe_live_share({"KJFK": cover()}, KEYS, BEGIN, BEGIN) == ""
    assert describe_live_share({}, KEYS, BEGIN, BEGIN + HOUR) == ""


def test_the_record_has_covered_what_the_answers_say() -> None:
    """A direction without coverage is missing."""
    answer = cover() | {"departures": {"covered_until": "2013-02-10T00:00:00Z"}}
    assert find_settled({"KJFK": answer}) == {("KJFK", Direction.DEPARTURES): BEGIN + 24 * HOUR}
