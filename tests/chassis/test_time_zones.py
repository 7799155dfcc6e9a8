"""Names of time zones: those that people's machines send are known, those that no person is in are not."""

from zoneinfo import ZoneInfo

import pytest

from chassis.time_zones import list_time_zones, suggest_time_zone

SENT_BY_BROWSERS = [
    "Europe/Rome", "UTC", "Etc/UTC", "Etc/GMT", "Etc/GMT+3", "Etc/GMT-14", "GMT", "Asia/Calcutta", "Asia/Kolkata",
    "US/Eastern", "Europe/Kiev", "Europe/Kyiv", "America/Buenos_Aires", "America/Argentina/Buenos_Aires",
    "Asia/Saigon", "Asia/Katmandu", "Asia/Rangoon", "America/Indianapolis", "Africa/Asmera", "Atlantic/Faeroe",
    "Pacific/Truk", "America/Coral_Harbour", "America/Godthab", "Australia/Currie", "EST5EDT", "PST8PDT", "EST", "MST",
    "HST", "CET", "WET", "GB", "NZ", "PRC", "Zulu", "Antarctica/Troll", "America/Ciudad_Juarez", "Pacific/Enderbury",
    "Arctic/Longyearbyen",
]  # fmt: skip
"""Names that `Intl.DateTimeFormat().resolvedOptions().timeZone` has given, by CLDR or by the machine's database."""

NOBODYS = [
    "localtime", "Factory", "posixrules", "Etc/Unknown", "SystemV/EST5EDT", "SystemV/AST4", "right/Europe/Rome",
    "posix/Europe/Rome", "posix/UTC", "europe/rome", "EUROPE/ROME", "utc", "us/eastern", " UTC", "Europe/Rome ",
    "Europe", "Europe/", "/usr/share/zoneinfo/UTC", "../UTC", "Europe/../UTC", "leapseconds", "tzdata.zi", "zone.tab",
    "+00:00", "GMT+03:00", "UTC+3", "", "undefined", "null", "<+03>-3", "EST5EDT,M3.2.0,M11.1.0", "Europe/Rome\n",
    "Europe\\Rome",
]  # fmt: skip
"""Names that some databases have and no person is in, and texts that are no name."""


@pytest.mark.parametrize("name", SENT_BY_BROWSERS)
def test_what_browsers_send_is_a_time_zone(name: str) -> None:
    """Older names stay valid: browsers go by CLDR, which keeps the first name that a zone ever had."""
    assert name in list_time_zones()


@pytest.mark.parametrize("name", NOBODYS)
def test_what_no_person_is_in_is_none(name: str) -> None:
    """The list does not depend on the files of the machine, on letter case, or on what a path may mean."""
    assert name not in list_time_zones()


def test_every_time_zone_loads() -> None:
    """Whatever is accepted can be shown in a mail later, on a machine with or without a database of its own."""
    assert len(list_time_zones()) > 500
    for name in list_time_zones():
        assert ZoneInfo(name).key == name


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("europe/rome", "Europe/Rome"),
        ("EUROPE/ROME ", "Europe/Rome"),
        ("Europe/Roma", "Europe/Rome"),
        ("posix/Europe/Rome", "Europe/Rome"),
        ("right/UTC", "UTC"),
        ("utc", "UTC"),
        ("New York", "America/New_York"),
        ("america/new york", "America/New_York"),
        ("Tokyo", "Asia/Tokyo"),
        ("GMT+03:00", "Etc/GMT-3"),
        ("UTC-3", "Etc/GMT+3"),
        ("+1400", "Etc/GMT-14"),
        ("-13:00", None),
        ("+05:30", None),
        ("Europe/Milan", None),
        ("Europe/Rmoe", "Europe/Rome"),
        ("America/NewYork", "America/New_York"),
        ("localtime", None),
        ("Factory", None),
        ("", None),
        ("x" * 100_000, None),
    ],
)
def test_a_name_that_is_meant_is_suggested(text: str, meant: str | None) -> None:
    """A hint names one time zone that exists, or there is no hint."""
    assert suggest_time_zone(text) == meant
