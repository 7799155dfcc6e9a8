"""Local times are told apart where clocks go back, and only there."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st

from domain.local_times import format_hours, format_time

ROME = "Europe/Rome"

ZONES = (
    "Africa/Casablanca", "America/Havana", "America/New_York", "America/Santiago", "America/Sao_Paulo",
    "America/St_Johns", "Antarctica/Troll", "Asia/Amman", "Asia/Kolkata", "Atlantic/Azores", "Australia/Lord_Howe",
    "Europe/Dublin", "Europe/London", "Europe/Rome", "Pacific/Apia", "Pacific/Chatham", "UTC",
)  # fmt: skip


def at(text: str) -> datetime:
    """Return the UTC moment of a text without a zone: "2026-10-25 00:00"."""
    return datetime.fromisoformat(f"{text}Z")


@pytest.mark.parametrize(
    ("zone", "moment", "text"),
    [
        (ROME, "2026-10-24 23:59", "01:59"),
        (ROME, "2026-10-25 00:00", "02:00 CEST"),
        (ROME, "2026-10-25 00:59", "02:59 CEST"),
        (ROME, "2026-10-25 01:00", "02:00 CET"),
        (ROME, "2026-10-25 02:00", "03:00"),
        (ROME, "2026-03-29 00:59", "01:59"),
        (ROME, "2026-03-29 01:00", "03:00"),
        (ROME, "2026-03-29 00:00", "01:00"),
        ("America/New_York", "2026-11-01 05:30", "01:30 EDT"),
        ("America/New_York", "2026-11-01 06:30", "01:30 EST"),
        ("America/New_York", "2026-11-01 07:00", "02:00"),
        ("America/New_York", "2026-03-08 07:00", "03:00"),
        ("Europe/London", "2026-10-25 00:00", "01:00 BST"),
        ("Europe/London", "2026-10-25 01:00", "01:00 GMT"),
        ("Europe/Dublin", "2026-10-25 00:30", "01:30 IST"),
        ("Australia/Lord_Howe", "2026-04-04 14:29", "01:29"),
        ("Australia/Lord_Howe", "2026-04-04 14:30", "01:30 UTC+11"),
        ("Australia/Lord_Howe", "2026-04-04 15:00", "01:30 UTC+10:30"),
        ("Australia/Lord_Howe", "2026-04-04 15:30", "02:00"),
        ("Africa/Casablanca", "2026-02-15 01:00", "02:00 UTC+1"),
        ("Africa/Casablanca", "2026-02-15 02:00", "02:00 UTC+0"),
        ("Antarctica/Troll", "2026-10-24 23:59", "01:59 UTC+2"),
        ("Antarctica/Troll", "2026-10-25 02:00", "02:00 UTC+0"),
        ("Asia/Kolkata", "2026-10-25 00:00", "05:30"),
        ("America/Sao_Paulo", "2018-02-18 01:00", "23:00 UTC-2"),
        ("America/Sao_Paulo", "2018-02-18 02:00", "23:00 UTC-3"),
        ("America/Sao_Paulo", "2018-02-18 03:00", "00:00"),
        ("America/Sao_Paulo", "2026-02-15 02:00", "23:00"),
        ("America/Havana", "2026-11-01 04:00", "00:00 CDT"),
        ("America/Havana", "2026-11-01 05:00", "00:00 CST"),
        ("Pacific/Apia", "2011-12-30 09:59", "23:59"),
        ("Pacific/Apia", "2011-12-30 10:00", "00:00"),
        ("UTC", "2026-10-25 01:00", "01:00"),
    ],
)  # fmt: skip
def test_a_time_has_letters_only_where_clocks_show_it_twice(zone: str, moment: str, text: str) -> None:
    """A time that clocks show twice has its letters or its offset; before, after, and when clocks go forward, none."""
    assert format_time(at(moment), ZoneInfo(zone)) == text


@pytest.mark.parametrize(
    ("zone", "start", "end", "text"),
    [
        (ROME, "2026-10-24 23:00", "2026-10-25 00:00", "01:00–02:00 CEST"),
        (ROME, "2026-10-25 00:00", "2026-10-25 01:00", "02:00 CEST – 02:00 CET"),
        (ROME, "2026-10-25 01:00", "2026-10-25 02:00", "02:00 CET – 03:00"),
        (ROME, "2026-10-25 02:00", "2026-10-25 03:00", "03:00–04:00"),
        (ROME, "2026-10-24 22:00", "2026-10-25 04:00", "00:00–05:00"),
        (ROME, "2026-10-24 22:00", "2026-10-25 23:00", "00:00–24:00"),
        (ROME, "2026-03-29 00:00", "2026-03-29 01:00", "01:00–03:00"),
        (ROME, "2026-03-28 23:00", "2026-03-29 22:00", "00:00–24:00"),
        ("America/Havana", "2026-11-01 03:00", "2026-11-01 04:00", "23:00–24:00"),
        ("America/Havana", "2026-11-01 04:00", "2026-11-01 05:00", "00:00 CDT – 00:00 CST"),
        ("America/Havana", "2026-11-01 05:00", "2026-11-01 06:00", "00:00 CST – 01:00"),
        ("America/Sao_Paulo", "2018-02-18 02:00", "2018-02-18 03:00", "23:00 UTC-3 – 24:00"),
        ("America/Sao_Paulo", "2018-11-04 03:00", "2018-11-04 04:00", "01:00–02:00"),
        ("Australia/Lord_Howe", "2026-04-04 14:00", "2026-04-04 15:00", "01:00–01:30 UTC+10:30"),
    ],
)  # fmt: skip
def test_the_hours_of_a_range_are_told_apart(zone: str, start: str, end: str, text: str) -> None:
    """Only that end of a range has letters which clocks show twice; days of 23 and 25 hours end at 24:00."""
    assert format_hours(at(start), at(end), ZoneInfo(zone)) == text


@settings(deadline=None)
@given(st.sampled_from(ZONES), st.datetimes(datetime(1990, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)))
def test_no_two_moments_look_the_same(zone: str, start: datetime) -> None:
    """Of all minutes of the day in which clocks change no two have the same text; those days away have no letters."""
    local = ZoneInfo(zone)
    change = find_change(start.replace(minute=0, second=0, microsecond=0), local)
    moments = [change + step * timedelta(minutes=15) for step in range(-100, 101)]
    shown = [f"{moment.astimezone(local):%F} {format_time(moment, local)}" for moment in moments]
    assert len(set(shown)) == len(shown)
    assert all(len(text) == len("2026-10-25 02:00") for text in (*shown[:80], *shown[-80:]))


def find_change(start: datetime, zone: ZoneInfo) -> datetime:
    """Return the end of the first quarter of an hour in which a zone's offset changes; or else the time in 400 days."""
    moment, end = start, start + timedelta(days=400)
    for step in (timedelta(days=1), timedelta(minutes=15)):
        while moment < end and moment.astimezone(zone).utcoffset() == (moment + step).astimezone(zone).utcoffset():
            moment += step
    return moment + timedelta(minutes=15)
