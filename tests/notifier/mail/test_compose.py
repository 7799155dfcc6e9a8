"""What a mail says, in its subject and in both of its forms."""

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction
from domain.windows import Window
from notifier.errors import PermanentlyRefused
from notifier.mail import Contact, alert_mail, alerts_mail, confirmation_mail
from notifier.mail.alert_header import ALERT_HEADER, parse_alert_header, told
from tests.notifier.alerts import (
    ALERT,
    CAUSE,
    CONTACT,
    EARLIER,
    NOW,
    SENDER,
    a_day_at_five_airports,
    alerts,
    delivered,
    names,
)

ABROAD = replace(CONTACT, time_zone="UTC")


def text(*given: Alert, to: Contact = CONTACT, now: datetime = NOW) -> str:
    """The text of a mail, unwrapped."""
    return " ".join(delivered(alerts_mail(given, to, SENDER, now, CAUSE)).get_body(("plain",)).get_content().split())


def page(*given: Alert, to: Contact = CONTACT) -> str:
    """What the HTML of a mail shows, without its marks."""
    html = delivered(alerts_mail(given, to, SENDER, NOW, CAUSE)).get_body(("html",)).get_content()
    return " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL)).split())


@pytest.mark.parametrize(
    ("alert", "line"),
    [
        (ALERT, "KJFK: 24 departures, above 20, Fri 8 Feb 2013 00:00–01:00 UTC"),
        (
            replace(ALERT, state=AlertState.RESOLVED, count=15, window_start=datetime(2013, 2, 8, 1, tzinfo=UTC)),
            "KJFK: back to normal, 15 departures, not above 20, Fri 8 Feb 2013 01:00–02:00 UTC",
        ),
        (replace(ALERT, state=AlertState.STILL), "KJFK: 24 departures, still above 20, Fri 8 Feb 2013 00:00–01:00 UTC"),
        (
            replace(
                ALERT,
                airport="KBOS",
                direction=Direction.ARRIVALS,
                window=Window.ONE_DAY,
                window_start=datetime(2013, 2, 9, tzinfo=UTC),
                bound=Bound.LOW,
                count=0,
                threshold=10,
            ),
            "KBOS: 0 arrivals, below 10, Sat 9 Feb 2013 UTC",
        ),
        (
            replace(ALERT, bound=Bound.LOW, state=AlertState.WITHDRAWN, withdrawn_count=19),
            "KJFK: correction, 24 departures (not 19), not below 20, Fri 8 Feb 2013 00:00–01:00 UTC",
        ),
        (
            replace(
                ALERT,
                window=Window.SIX_HOURS,
                window_start=datetime(2026, 11, 21, 18, tzinfo=UTC),
                direction=Direction.BOTH,
                for_windows=3,
                count=2_400,
            ),
            "KJFK: 2,400 arrivals and departures, above 20 for 3 six-hour windows in a row, Sat 21 Nov 18:00–24:00 UTC",
        ),
        (replace(ALERT, count=1, threshold=0), "KJFK: 1 departure, above 0, Fri 8 Feb 2013 00:00–01:00 UTC"),
    ],
)
def test_the_subject_says_it_all(alert: Alert, line: str) -> None:
    """Airport, count, level and window can be read without opening the mail."""
    assert alert_mail(alert, ABROAD, SENDER, NOW, CAUSE)["Subject"] == line


@pytest.mark.parametrize(
    ("start", "zone", "when"),
    [
        (datetime(2026, 11, 23, 0, tzinfo=UTC), "America/New_York", "00:00–01:00 UTC (19:00 local)"),
        (datetime(2026, 11, 22, 23, tzinfo=UTC), "America/New_York", "23:00–24:00 UTC (18:00 local)"),
        (datetime(2026, 11, 22, 4, tzinfo=UTC), "America/New_York", "Sun 22 Nov 04:00–05:00 UTC (Sat 23:00 local)"),
        (datetime(2026, 11, 22, 4, tzinfo=UTC), "Asia/Kathmandu", "Sun 22 Nov 04:00–05:00 UTC (09:45 local)"),
        (datetime(2026, 11, 23, 6, tzinfo=UTC), "UTC", "Mon 23 Nov 06:00–07:00 UTC"),
        (datetime(2026, 7, 1, 12, tzinfo=UTC), "Europe/London", "Wed 1 Jul 12:00–13:00 UTC (13:00 local)"),
        (datetime(2026, 1, 1, 12, tzinfo=UTC), "Europe/London", "Thu 1 Jan 12:00–13:00 UTC"),
    ],
)
def test_the_subject_has_the_date_where_it_is_not_obvious(start: datetime, zone: str, when: str) -> None:
    """Hours of the day that just went by are enough; for others, and for what is yet to come, the date is told."""
    mail = alert_mail(replace(ALERT, window_start=start), replace(CONTACT, time_zone=zone), SENDER, NOW, CAUSE)
    assert mail["Subject"] == f"KJFK: 24 departures, above 20, {when}"


@pytest.mark.parametrize("said", [text, page])
def test_both_forms_tell_airport_level_and_both_times(said) -> None:
    """A reader learns which airport it is, what was passed, when it was on their own clock, and what was before."""
    for_reader = replace(CONTACT, unsubscribe_url="https://example.org/u?t=1")
    shown = said(replace(ALERT, earlier=EARLIER), to=for_reader)
    for what in ("Ada Lovelace", "John F Kennedy International Airport", "KJFK", "New York"):
        assert what in shown
    assert "more than your level of 20" in shown
    assert "24 departures" in shown
    assert "Fri 8 Feb 2013 00:00–01:00" in shown
    assert "Thu 7 Feb 2013 19:00–20:00" in shown
    assert "The hour before had 12. In the 12 hours before, it was between 8 and 19." in shown
    assert f"remove the interest {ALERT.interest_id}" in shown
    assert "Stop all alerts" in shown


def test_the_text_holds_the_link_that_stops_it() -> None:
    """On a line of its own, whole; and none where there is none."""
    url = "https://example.org/unsubscribe?token=" + "a-B_9." * 40
    mail = delivered(alert_mail(ALERT, replace(CONTACT, unsubscribe_url=url), SENDER, NOW, CAUSE))
    assert url in mail.get_body(("plain",)).get_content().splitlines()
    assert f'href="{url}"' in mail.get_body(("html",)).get_content()
    assert "Stop all alerts" not in text(ALERT) + page(ALERT)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"for_windows": 3}, "so for 3 hours in a row"),
        ({"state": AlertState.STILL, "earlier": (30, 12, 22, 25)}, "It has been above 20 for 3 hours now."),
        ({"state": AlertState.STILL, "earlier": (22, 25)}, "It has been above 20 for at least 3 hours now."),
        (
            {"state": AlertState.RESOLVED, "count": 9, "earlier": (5, 22, 25)},
            "Before, it was above 20 for 2 hours, with 25 at most.",
        ),
        (
            {"state": AlertState.RESOLVED, "bound": Bound.LOW, "earlier": (30, None, 3, 2)},
            "Before, it was below 20 for 2 hours, with 2 at least.",
        ),
        (
            {"state": AlertState.WITHDRAWN, "bound": Bound.LOW, "withdrawn_count": 7},
            "flights turned up late. We wrote 7.",
        ),
        ({"count": 21}, "its final count may be higher"),
        ({"count": 21, "window_start": NOW}, "The window has not ended yet"),
    ],
)
def test_what_happened_before_is_told(changes: dict[str, object], sentence: str) -> None:
    """As it is to be known for each state, in both forms."""
    alert = replace(ALERT, **changes)  # type: ignore[arg-type]
    assert sentence in text(alert)
    assert sentence in page(alert)


def test_a_count_that_is_final_is_told_as_such() -> None:
    """Only the count with which a threshold was passed may grow."""
    assert "may be higher" not in text(ALERT)


@pytest.mark.parametrize("zone", ["UTC", "Etc/UTC", "Africa/Abidjan", "Mars/Olympus", "", "../etc", "Europe", "\x00"])
def test_a_time_zone_that_adds_nothing_is_left_out(zone: str) -> None:
    """UTC is not said twice, and a zone that nobody knows does no harm."""
    assert "our time" not in text(ALERT, to=replace(CONTACT, time_zone=zone))


def test_names_are_shown_as_they_are() -> None:
    """What a person calls themselves is text, never marks of the page."""
    mallory = replace(CONTACT, name='<b>&"x"</b><img src=x onerror=alert(1)>')
    html = delivered(alert_mail(ALERT, mallory, SENDER, NOW, CAUSE)).get_body(("html",)).get_content()
    assert "<b>" not in html
    assert "<img src=x" not in html
    assert mallory.name in page(ALERT, to=mallory)


def test_a_mail_is_small() -> None:
    """One alert with its chart stays under 25 kB, a night at five airports under the 102 kB at which programs cut."""
    alert = replace(ALERT, earlier=EARLIER)
    assert len(alert_mail(alert, CONTACT, SENDER, NOW, CAUSE).as_bytes()) < 25_000
    night = delivered(alerts_mail(a_day_at_five_airports(NOW), CONTACT, SENDER, NOW, CAUSE))
    assert len(night.get_body(("html",)).as_bytes()) < 50_000
    assert len(night.as_bytes()) < 150_000


def test_a_night_at_five_airports_is_one_readable_mail() -> None:
    """Ordered by airport, runs as ranges, a breach and its end in one line; all of it stands in the headers."""
    night = a_day_at_five_airports(datetime(2026, 11, 23, 3, tzinfo=UTC))
    mail = delivered(alerts_mail(night, CONTACT, SENDER, NOW, CAUSE))
    assert mail["Subject"] == (
        "EGLL above 35, KBOS below 6, KJFK above 20, LICC back to normal and 1 more "
        "(109 alerts, Sun 22 Nov 03:00 – Mon 23 Nov 03:00 UTC)"
    )
    shown = mail.get_body(("plain",)).get_content()
    assert len(shown.splitlines()) < 100
    flat = " ".join(shown.split())
    places = [flat.index(each) for each in ("EGLL: London", "KBOS: General", "KJFK: John", "LICC: Catania", "ZBAA: ")]
    assert places == sorted(places)
    assert "3 of your levels are passed, 2 back to normal." in flat
    assert (
        "- Sun 22 Nov 03:00 – Mon 23 Nov 03:00 UTC (Sat 21 Nov 22:00 – Sun 22 Nov 22:00 local): above 20 for 24 "
        in flat
    )
    assert "above 20 for 24 hours: 24 to 30 arrivals" in flat
    assert "above 12 for 7 hours: 14 departures, then back to normal with 8" in flat
    assert "correction: 9 arrivals; not below 5" in flat
    assert flat.count("above 35: 41 arrivals, then back to normal with 30") == 11
    in_headers = [parse_alert_header(value) for value in mail.get_all(ALERT_HEADER)]
    assert Counter(in_headers) == Counter(map(told, night))
    assert [part.get_content_type() for part in mail.walk()].count("image/png") == 5


@pytest.mark.parametrize(
    ("states", "line"),
    [
        (
            [(AlertState.FIRING, 24), (AlertState.STILL, 30), (AlertState.RESOLVED, 9)],
            "KJFK: above 20 for 2 hours: 24 to 30 departures, then back to normal with 9, 00:00–03:00 UTC",
        ),
        (
            [(AlertState.FIRING, 24), (AlertState.STILL, 24)],
            "KJFK: above 20 for 2 hours: 24 departures, 00:00–02:00 UTC",
        ),
        (
            [(AlertState.FIRING, 24), (AlertState.RESOLVED, 9), (AlertState.FIRING, 21)],
            "KJFK above 20 (3 alerts, 00:00–03:00 UTC)",
        ),
        (
            [(AlertState.WITHDRAWN, 24), (AlertState.WITHDRAWN, 22)],
            "KJFK: correction: 22 to 24 departures; not above 20, 00:00–02:00 UTC",
        ),
    ],
)  # fmt: skip
def test_the_subject_of_several_tells_how_it_stands(states: list[tuple[AlertState, int]], line: str) -> None:
    """One breach is told from beginning to end; of several, what is so now."""
    given = [
        replace(ALERT, alert_id=UUID(int=n), state=state, count=count, window_start=NOW.replace(hour=n))
        for n, (state, count) in enumerate(states)
    ]
    assert alerts_mail(given, ABROAD, SENDER, NOW, CAUSE)["Subject"] == line


def test_a_count_that_may_grow_is_told_as_such_among_others() -> None:
    """The count with which a threshold was passed before its window ended is the least that it can be."""
    early = replace(ALERT, count=21, window_start=ALERT.window_start + timedelta(hours=5), alert_id=UUID(int=1))
    assert "above 20: at least 21 departures" in text(ALERT, early)


def test_the_order_in_which_alerts_come_makes_no_difference() -> None:
    """The same alerts are the same mail, also when one is among them twice."""
    night = a_day_at_five_airports(NOW)
    one = alerts_mail(night, CONTACT, SENDER, NOW, CAUSE)
    other = alerts_mail([*reversed(night), night[3]], CONTACT, SENDER, NOW, CAUSE)
    assert one.items()[:-1] == other.items()[:-1]  # the last: Content-Type, with a boundary of its own
    for form in ("plain", "html"):
        assert one.get_body((form,)).get_content() == other.get_body((form,)).get_content()


def test_what_is_too_much_to_be_read_is_counted() -> None:
    """Of a level that is passed every other hour for days, the latest times are told and the others counted."""
    hour = timedelta(hours=1)
    flips = [replace(ALERT, alert_id=UUID(int=n), window_start=ALERT.window_start + 2 * n * hour) for n in range(40)]
    assert "… and 28 earlier times" in text(*flips)
    assert page(*flips).count("Above 20: 24 departures") == 12


def test_a_mail_without_alerts_is_none() -> None:
    """There is nothing that it could say."""
    with pytest.raises(ValueError):
        alerts_mail([], CONTACT, SENDER, NOW, CAUSE)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(alerts, min_size=1, max_size=6, unique_by=lambda each: each.alert_id),
    names,
    st.sampled_from(("UTC", "America/New_York", "Asia/Kathmandu", "nowhere")),
)
def test_any_alerts_to_any_name_are_a_sound_mail(given: list[Alert], name: str, zone: str) -> None:
    """Whatever is told to whomever: both forms, no part with a defect, all alerts in headers, lines of mail's width."""
    mail = delivered(alerts_mail(given, replace(CONTACT, name=name, time_zone=zone), SENDER, NOW, CAUSE))
    for part in mail.walk():
        assert not part.defects
        assert not [header for header in part.values() if header.defects]
    assert [part.get_content_type() for part in mail.walk()][:2] == ["multipart/alternative", "text/plain"]
    in_headers = [parse_alert_header(value) for value in mail.get_all(ALERT_HEADER)]
    assert Counter(in_headers) == Counter(map(told, given))
    assert all(len(line) <= 78 and line.isascii() for line in mail.as_bytes().split(b"\n"))
    html = mail.get_body(("html",)).get_content()
    shown = set(re.findall(r'"cid:([^"]+)"', html))
    related = {part["Content-ID"] for part in mail.walk() if part.get_content_type() == "image/png"}
    assert {f"<{each}>" for each in shown} == related


@pytest.mark.parametrize("address", ["", "nobody", "a@b\r\nBcc: c@d", "a b@c", "@", "zoë", "@ü"])
def test_an_impossible_address_is_refused_for_good(address: str) -> None:
    """No mail can be written to it, now or later."""
    with pytest.raises(PermanentlyRefused) as refused:
        alert_mail(ALERT, replace(CONTACT, email=address), SENDER, NOW, CAUSE)
    assert not address or address not in str(refused.value)


@settings(deadline=None)
@given(names, st.uuids())
def test_a_confirmation_mail_holds_its_link_whole(name: str, wish: UUID) -> None:
    """In the text the link is on a line of its own, however long it is; on the page it is a button, and to be read."""
    url = "https://towerwatch.example.org/users/confirm?token=" + "a-B_9." * 40
    contact: Contact = replace(CONTACT, name=name, confirmed=False, confirm_url=url)
    mail = delivered(confirmation_mail(contact, str(wish), SENDER, NOW))
    assert url in mail.get_body(("plain",)).get_content().splitlines()
    assert mail.get_body(("html",)).get_content().count(f'href="{url}"') == 2
    assert not mail.defects
    assert mail["Message-ID"] == delivered(confirmation_mail(contact, str(wish), SENDER, NOW))["Message-ID"]
