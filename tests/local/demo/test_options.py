"""The demo's command line, and the errors for invalid options."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from domain.interests import Direction, Interest
from domain.windows import AlignedTo, Window
from local.demo.options import DEFAULT_INTERESTS, parse_interest, parse_options
from local.demo.wording import build_interest_body, describe_interest
from local.errors import LocalError
from local.opensky.nightly_record import NIGHTLY, RecordSchedule


def test_without_options_it_is_the_blizzard_of_february_2013():
    """The defaults are the demo's own days and interests; settled it has more days than live, as its clock is fast."""
    options, settled = parse_options([]), parse_options(["--settled"])
    assert (options.begin, options.end) == (datetime(2013, 2, 9, tzinfo=UTC), datetime(2013, 2, 10, tzinfo=UTC))
    assert (settled.begin, settled.end) == (datetime(2013, 2, 8, tzinfo=UTC), datetime(2013, 2, 11, tzinfo=UTC))
    assert (options.is_live, settled.is_live) == (True, False)
    assert options.state_faults is None
    assert [parse_interest(text, options.begin) for text in DEFAULT_INTERESTS] == list(options.interests)
    assert not options.once
    assert options.streams_workers == 1
    assert options.schedule == NIGHTLY


def test_an_interest_is_parsed():
    """Each part of the form is parsed as README describes it."""
    begin = datetime(2013, 2, 8, tzinfo=UTC)
    assert parse_interest("kjfk:both:6h:low=2:for=3:repeat:high=40", begin) == Interest(
        interest_id=UUID(int=0),
        user_id=UUID(int=0),
        airport="KJFK",
        direction=Direction.BOTH,
        window=Window.SIX_HOURS,
        high=40,
        low=2,
        for_windows=3,
        repeat=True,
        effective_from=begin,
        version=1,
    )


def test_windows_by_the_airports_clock_are_parsed():
    """`@airport` after the window's length; the clock is told to REST, and the console says it."""
    interest = parse_interest("KBOS:arrivals:1d@airport:low=10", datetime(2013, 2, 8, tzinfo=UTC))
    assert (interest.window, interest.aligned_to) == (Window.ONE_DAY, AlignedTo.AIRPORT)
    assert build_interest_body(interest)["aligned_to"] == "airport"
    assert describe_interest(interest) == "fewer than 10 arrivals in 1d by its clock at KBOS"
    assert parse_interest("KBOS:arrivals:1d:low=10", interest.effective_from).aligned_to is AlignedTo.UTC
    percent = parse_interest("KBOS:arrivals:1d@airport:low=50%", interest.effective_from)
    assert (percent.low, percent.low_percent, percent.aligned_to) == (None, 50, AlignedTo.AIRPORT)


def test_a_day_by_the_airports_clock_gets_the_utc_day_in_which_it_ends():
    """Else the story of one UTC day would end before any such day does, and nothing could be said of it."""
    given = ["--interest", "KBOS:arrivals:1d@airport:low=10"]
    assert parse_options(given).end == datetime(2013, 2, 11, tzinfo=UTC)
    assert parse_options([*given, "--to", "2013-02-10"]).end == datetime(2013, 2, 10, tzinfo=UTC)
    assert parse_options([*given, "--settled"]).end == datetime(2013, 2, 11, tzinfo=UTC)
    assert parse_options(["--interest", "KBOS:arrivals:1d:low=10"]).end == datetime(2013, 2, 10, tzinfo=UTC)


def test_the_record_is_the_one_that_is_asked_for():
    """The options of the replay's record are the demo's, too; the day before the first one may be late as well."""
    arguments = ["--settled", "--record-parts", "2", "--record-late", "2013-02-07", "--record-missing", "2013-02-10"]
    assert parse_options([*arguments, "--without", "kbos", "--departures-live"]).schedule == RecordSchedule(
        second_part_after=timedelta(hours=1),
        late_days=frozenset({date(2013, 2, 7)}),
        missing_days=frozenset({date(2013, 2, 10)}),
        unheard_airports=frozenset({"KBOS"}),
        departures_live=True,
    )


def test_thresholds_may_be_in_percent():
    """N% is a percent of what is usual; the two bounds may differ, and whatever needs a past is counted."""
    begin = datetime(2013, 2, 8, tzinfo=UTC)
    parsed = parse_interest("KJFK:both:1h:low=50%:high=150%:for=2", begin)
    assert (parsed.high, parsed.low, parsed.high_percent, parsed.low_percent) == (None, None, 150, 50)
    mixed = parse_interest("KJFK:both:1h:low=5:high=150%", begin)
    assert (mixed.high, mixed.low, mixed.high_percent, mixed.low_percent) == (None, 5, 150, None)
    wanted = ("both:1h:low=50%", "departures:6h:low=50%", "arrivals:1d:low=1")
    options = parse_options([f"--interest=KJFK:{what}" for what in wanted])
    assert options.learning_targets == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("KJFK:departures:1h:low=50%:low=5", "'low=5' is none of high=N, low=N, high=N%, low=N%"),
        ("KJFK:departures:1h:low=5:low=50%", "'low=50%' is none of"),
        ("KJFK:departures:1h:low=5:for=2%", "'for=2%' is none of"),
        ("KJFK:departures:1h:low=50%%", "'low=50%%' is none of"),
        ("KJFK:departures:1h:low=0%", "low_percent must be from 1 to 99"),
        ("KJFK:departures:1h:low=100%", "low_percent must be from 1 to 99"),
        ("KJFK:departures:1h:high=100%", "high_percent must be from 101 to 10000"),
        ("KJFK", "airport, direction and window are needed"),
        ("XXXX:departures:1h:high=1", "XXXX is no airport's ICAO code"),
        ("JFK:departures:1h:high=1", "JFK is no airport's ICAO code"),
        ("KJFK:sideways:1h:high=1", "'sideways' is no direction"),
        ("KJFK:departures:2h:high=1", "'2h' is no window"),
        ("KJFK:departures:1d@kjfk:high=1", "'1d@kjfk' is no window: 1h, 6h or 1d, and 6h@airport or 1d@airport"),
        ("KJFK:departures:1d@:high=1", "'1d@' is no window"),
        ("KJFK:departures:1h@airport:high=1", "an hour is not aligned to the airport's clock"),
        ("KJFK:departures:1h", "give a high or a low threshold"),
        ("KJFK:departures:1h:high=-1", "'high=-1' is none of"),
        ("KJFK:departures:1h:high=1:high=2", "'high=2' is none of"),
        ("KJFK:departures:1h:high=1:low=1", "high must be above low"),
        ("KJFK:departures:1h:low=0", "low must be 1 or more, because no count is below 0"),
        ("KJFK:departures:1h:high=1:for=0", "for must be from 1"),
        ("KJFK:departures:1h:high=1:often", "'often' is none of"),
        ("KJFK:departures:1h:high=100001", "high must be from 0 to 100000"),
    ],
)
def test_a_malformed_interest_is_rejected(text, says):
    """The error names the invalid part and the form."""
    with pytest.raises(LocalError) as error:
        parse_interest(text, datetime(2013, 2, 8, tzinfo=UTC))
    assert says in str(error.value)
    assert "AIRPORT:DIRECTION:WINDOW" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--from", "2012-12-31"], "--from 2012-12-31: the real flights of the demo are of 2013"),
        (["--from", "2014-01-01"], "--from 2014-01-01: the real flights"),
        (["--to", "2014-01-02"], "--to 2014-01-02: the real flights"),
        (["--from", "8 February"], "is no day; write it as 2013-02-08"),
        (["--from", "2013-02-30"], "is no day"),
        (["--from", "2013-02-11"], "must be a day after --from"),
        (["--settled", "--state-faults", "outage@2013-02-09T14:00Z+15"], "--state-faults: without positions"),
        (["--interest", "KJFK:both:1h:high=1", "--interest", "KJFK:both:1h:low=1"], "is given twice"),
        (["--interest", "KJFK:both:1d:high=1", "--interest", "KJFK:both:1d@airport:low=1"], "is given twice"),
        (["--port-base", "80"], "must be from 1024"),
        (["--streams-workers", "0"], "--streams-workers 0: take from 1 to 12"),
        (["--streams-workers", "13"], "--streams-workers 13: take from 1 to 12"),
        (["--record-parts", "3"], "--record-parts 3: the record comes in 1 part or in 2"),
        (["--record-late", "2013-02-30"], "--record-late 2013-02-30: there is no such day"),
        (["--record-late", "2013-02-11"], "the record of 2013-02-11 can be neither late nor missing"),
        (["--record-missing", "2013-02-06"], "the record of 2013-02-06 can be neither late nor missing"),
        (["--without", "BOS"], "--without BOS: is no airport's ICAO code"),
        (["--json", "/no/such/folder/out.json"], "there is no such folder"),
    ],
)
def test_invalid_options_are_rejected(arguments, says):
    """Options are validated before anything starts; the error is one sentence."""
    with pytest.raises(LocalError) as error:
        parse_options(arguments)
    assert says in str(error.value)


def test_a_folder_that_is_no_demos_is_not_emptied(tmp_path: Path):
    """The folder of --data is deleted at the start, so a typing error must not delete other files."""
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(LocalError, match="no demo's folder"):
        parse_options(["--data", str(tmp_path)])
