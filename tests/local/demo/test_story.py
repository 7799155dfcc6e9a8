"""What the demo says about the record of its source."""

from datetime import UTC, date, datetime, timedelta

from local.demo.plan import plan_demo
from local.demo.wording import describe_record
from local.opensky.nightly_record import NIGHTLY, RecordSchedule

BEGIN, END = datetime(2013, 2, 8, tzinfo=UTC), datetime(2013, 2, 11, tzinfo=UTC)


def test_it_says_when_the_record_comes() -> None:
    """Without options that is all."""
    assert describe_record(plan_demo(BEGIN, END, NIGHTLY), ()) == [
        "The source records the flights of each day in the night after it, at 02:40 UTC"
    ]


def test_it_says_what_the_record_lacks() -> None:
    """Both parts of the record, late and missing days, live departures, and airports that are never heard."""
    schedule = RecordSchedule(
        second_part_after=timedelta(hours=1),
        late_days=frozenset({date(2013, 2, 9)}),
        missing_days=frozenset({date(2013, 2, 8)}),
        departures_live=True,
    )
    said = describe_record(plan_demo(BEGIN, END, schedule), {"KBOS"})
    assert "02:40 and, the other half of it, at 03:40 UTC" in said[0]
    assert said[1:] == [
        "The record of 9 February comes a day late",
        "The record of 8 February never comes: the day becomes a gap, a week after its end",
        "The source gives departures of today, too; they prove nothing",
        "No flight of KBOS is ever recorded, so no alert is said about it, and one mail says that nobody hears it",
    ]
