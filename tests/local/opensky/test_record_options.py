"""The options of the nightly record."""

import argparse
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given, strategies as st

from local.opensky.nightly_record import NIGHTLY, RecordSchedule
from local.opensky.record_options import add_record_options, encode_record_options, parse_record_options


def parse(*arguments: str) -> RecordSchedule:
    """Return the schedule of a command line that has only options of the record."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_record_options(parser)
    return parse_record_options(parser.parse_args(arguments))


def test_without_options_the_record_is_nightly() -> None:
    """The default is the whole record at 02:40, for every day and airport, and no live departures."""
    assert parse() == NIGHTLY


def test_every_option_has_its_effect() -> None:
    """Repeatable options add up, and an airport may be in lower case."""
    schedule = parse(
        "--record-at", "05:00", "--record-parts", "2", "--second-part-after", "03:30", "--record-late", "2013-02-08",
        "--record-late", "2013-02-09", "--record-missing", "2013-02-10", "--without", "kbos", "--departures-live",
    )  # fmt: skip
    assert schedule == RecordSchedule(
        record_after=timedelta(hours=5),
        second_part_after=timedelta(hours=3, minutes=30),
        late_days=frozenset({date(2013, 2, 8), date(2013, 2, 9)}),
        missing_days=frozenset({date(2013, 2, 10)}),
        unheard_airports=frozenset({"KBOS"}),
        departures_live=True,
    )


def test_the_second_part_comes_an_hour_later_by_default() -> None:
    """`--record-parts 2` alone is enough."""
    assert parse("--record-parts", "2").second_part_after == timedelta(hours=1)


days = st.dates(date(2013, 1, 1), date(2014, 1, 1))
minutes = st.integers(0, 24 * 60 - 1).map(lambda number: timedelta(minutes=number))


@given(
    st.builds(
        RecordSchedule,
        record_after=minutes,
        second_part_after=st.none() | minutes.filter(bool),
        late_days=st.just(frozenset()),
        missing_days=st.frozensets(days),
        unheard_airports=st.frozensets(st.sampled_from(["KJFK", "KBOS"])),
        departures_live=st.booleans(),
        first_day=st.none() | st.dates(date(2013, 1, 1), date(2013, 6, 1)),
        last_day=st.none() | st.dates(date(2013, 6, 1), date(2014, 1, 1)),
    ),
    st.frozensets(days),
)
def test_the_encoded_options_make_the_same_schedule(schedule: RecordSchedule, late: frozenset[date]) -> None:
    """So the demo can pass its schedule on to the replay."""
    each = replace(schedule, late_days=late - schedule.missing_days)
    assert parse(*encode_record_options(each)) == each


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--record-at", "2:40"], "--record-at 2:40: is no time; write it as 02:40"),
        (["--record-at", "24:00"], "--record-at 24:00: a time of day is from 00:00 to 23:59"),
        (["--record-at", "02:60"], "--record-at 02:60: is no time"),
        (["--record-parts", "3"], "--record-parts 3: the record comes in 1 part or in 2"),
        (["--second-part-after", "01:00"], "--second-part-after needs --record-parts 2"),
        (["--record-parts", "2", "--second-part-after", "00:00"], "must appear later than the first"),
        (["--record-parts", "2", "--second-part-after", "soon"], "--second-part-after soon: is no time"),
        (["--record-late", "9 February"], "--record-late 9 February: is no day; write it as 2013-02-09"),
        (["--record-late", "20130209"], "is no day"),
        (["--record-missing", "2013-02-30"], "--record-missing 2013-02-30: there is no such day"),
        (["--record-missing", "2012-12-31"], "--record-missing 2012-12-31: the flights are of the UTC days from"),
        (["--record-late", "2014-01-02"], "from 2013-01-01 to 2014-01-01"),
        (["--first-day", "2013-02-09", "--last-day", "2013-02-08"], "must not be before --first-day 2013-02-09"),
        (["--last-day", "soon"], "--last-day soon: is no day"),
        (["--record-late", "2013-02-09", "--record-missing", "2013-02-09"], "cannot be both late"),
        (["--without", "BOS"], "--without BOS: is no airport's ICAO code"),
        (["--without", "XXXX"], "--without XXXX: is no airport's ICAO code"),
    ],
)
def test_an_invalid_option_is_rejected_with_one_sentence(arguments: list[str], says: str) -> None:
    """The sentence names the option."""
    with pytest.raises(ValueError) as error:
        parse(*arguments)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
