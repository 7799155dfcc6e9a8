"""What the demo waits for before a story with thresholds in percent begins."""

from datetime import UTC, datetime

from local.demo.learning_wait import LearningWait
from local.demo.options import parse_interest
from local.demo.plan import plan_demo
from local.opensky.nightly_record import NIGHTLY


def test_the_story_begins_when_the_weeks_of_all_percents_are_collected() -> None:
    """All directions of interests in percent must be covered from five weeks before on; those in flights need none."""
    begin, end = datetime(2013, 2, 8, tzinfo=UTC), datetime(2013, 2, 9, tzinfo=UTC)
    texts = ("KJFK:both:1h:low=50%", "KBOS:arrivals:1d:low=1", "KLGA:arrivals:1h:low=50%")
    interests = [parse_interest(text, begin) for text in texts]
    wait = LearningWait(interests, plan_demo(begin, end, NIGHTLY, learning_targets=3), unheard={"KLGA"})
    assert wait.airports == {"KJFK"}
    assert wait.begin == datetime(2013, 1, 4, tzinfo=UTC)
    early, late = {"covered_from": "2013-01-04T00:00:00Z"}, {"covered_from": "2013-01-05T00:00:00Z"}
    assert not wait.is_over({})
    assert not wait.is_over({"KJFK": {"arrivals": early, "departures": None}})
    assert not wait.is_over({"KJFK": {"arrivals": early, "departures": late}})
    assert wait.is_over({"KJFK": {"arrivals": early, "departures": early}})
    assert "4 January" in wait.describe_end(True)
    assert "Not all" in wait.describe_end(False)
