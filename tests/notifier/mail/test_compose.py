"""The content of alert mails and confirmation mails: the subject, the plain text and the HTML page."""

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
from notifier.mail import (
    Contact,
    compose_alert_mail,
    compose_alerts_mail,
    compose_confirmation_mail,
    compose_sign_in_mail,
)
from notifier.mail.alert_header import ALERT_HEADER, parse_alert_header, select_header_fields
from notifier.mail.times import ReaderTimes
from tests.chassis.test_time_zones import NOBODYS
from tests.notifier.alerts import (
    ALERT,
    CAUSE,
    CONTACT,
    EARLIER,
    ENGLISH,
    NOW,
    SENDER,
    a_day_at_five_airports,
    alerts,
    delivered,
    names,
)

ABROAD = replace(CONTACT, time_zone="UTC")


def plain_text_of(*given: Alert, to: Contact = CONTACT, now: datetime = NOW) -> str:
    """Return the plain text of a mail about these alerts, in one line."""
    mail = delivered(compose_alerts_mail(given, to, SENDER, now, CAUSE))
    return " ".join(mail.get_body(("plain",)).get_content().split())


def page_text_of(*given: Alert, to: Contact = CONTACT) -> str:
    """Return the text that the HTML page of a mail about these alerts shows, in one line."""
    html = delivered(compose_alerts_mail(given, to, SENDER, NOW, CAUSE)).get_body(("html",)).get_content()
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
            replace(ALERT, state=AlertState.WITHDRAWN, count=19, withdrawn_count=24),
            "KJFK: correction, 19 departures (not 24), not above 20, Fri 8 Feb 2013 00:00–01:00 UTC",
        ),
        (
            replace(ALERT, state=AlertState.WITHDRAWN, withdrawn_count=24, for_windows=3),
            "KJFK: correction, 24 departures, not above 20 for 3 hours in a row, Fri 8 Feb 2013 00:00–01:00 UTC",
        ),
        (
            replace(ALERT, state=AlertState.WITHDRAWN, withdrawn_count=19, withdrawn_state=AlertState.RESOLVED),
            "KJFK: correction, 24 departures (not 19), still above 20, Fri 8 Feb 2013 00:00–01:00 UTC",
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
def test_the_subject_holds_airport_count_level_and_window(alert: Alert, line: str) -> None:
    """A reader learns them without opening the mail."""
    assert compose_alert_mail(alert, ABROAD, SENDER, NOW, CAUSE)["Subject"] == line


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
    """Hours of the last 24 hours have no date; earlier hours and hours of the future have one."""
    mail = compose_alert_mail(replace(ALERT, window_start=start), replace(CONTACT, time_zone=zone), SENDER, NOW, CAUSE)
    assert mail["Subject"] == f"KJFK: 24 departures, above 20, {when}"


@pytest.mark.parametrize("content_of", [plain_text_of, page_text_of])
def test_text_and_page_hold_airport_level_and_both_times(content_of) -> None:
    """A reader learns the airport, the level, the time in their own time zone, and the counts of the windows before."""
    for_reader = replace(CONTACT, unsubscribe_url="https://example.org/u?t=1")
    shown = content_of(replace(ALERT, earlier=EARLIER), to=for_reader)
    for phrase in ("Ada Lovelace", "John F Kennedy International Airport", "KJFK", "New York"):
        assert phrase in shown
    assert "more than your level of 20" in shown
    assert "24 departures" in shown
    assert "Fri 8 Feb 2013 00:00–01:00" in shown
    assert "Thu 7 Feb 2013 19:00–20:00" in shown
    assert "The hour before had 12. In the 12 hours before, as far as they are known, it was between 8 and 19." in shown
    assert f"remove the interest {ALERT.interest_id}" in shown
    assert "Stop all alerts" in shown


def test_the_text_holds_the_link_that_stops_alerts() -> None:
    """The link is unbroken on a line of its own; a mail without such a link has no words about it either."""
    url = "https://example.org/unsubscribe?token=" + "a-B_9." * 40
    mail = delivered(compose_alert_mail(ALERT, replace(CONTACT, unsubscribe_url=url), SENDER, NOW, CAUSE))
    assert url in mail.get_body(("plain",)).get_content().splitlines()
    assert f'href="{url}"' in mail.get_body(("html",)).get_content()
    assert "Stop all alerts" not in plain_text_of(ALERT) + page_text_of(ALERT)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"for_windows": 3}, "so for 3 hours in a row"),
        ({"state": AlertState.STILL, "earlier": (30, 12, 22, 25)}, "It has been above 20 for 3 hours now."),
        ({"state": AlertState.STILL, "earlier": (22, 25)}, "It has been above 20 for at least 3 hours now."),
        (
            {"state": AlertState.RESOLVED, "count": 9, "earlier": (5, 22, 25)},
            "Before, it was above 20 for 2 hours, at its highest 25.",
        ),
        (
            {"state": AlertState.RESOLVED, "bound": Bound.LOW, "earlier": (30, None, 3, 2)},
            "Before, it was below 20 for 2 hours, at its lowest 2.",
        ),
        (
            {"state": AlertState.WITHDRAWN, "bound": Bound.LOW, "withdrawn_count": 7},
            "flights turned up late. We had counted 7.",
        ),
        (
            {"state": AlertState.WITHDRAWN, "count": 19, "withdrawn_count": 24},
            "We take back an earlier alert, because some flights were counted wrongly. We had counted 24.",
        ),
        (
            {"state": AlertState.WITHDRAWN, "withdrawn_state": AlertState.RESOLVED, "withdrawn_count": 19},
            "We take back that this had ended, because flights turned up late. We had counted 19.",
        ),
        ({"count": 21}, "its final count may be higher"),
        ({"count": 21, "window_start": NOW}, "The window has not ended yet"),
    ],
)
def test_the_windows_before_are_described(changes: dict[str, object], sentence: str) -> None:
    """Text and page describe the counts before the alert as each alert state needs it."""
    alert = replace(ALERT, **changes)  # type: ignore[arg-type]
    assert sentence in plain_text_of(alert)
    assert sentence in page_text_of(alert)


def test_a_final_count_has_no_warning() -> None:
    """A count above threshold + 1 belongs to a window that has ended, so it cannot grow any more."""
    assert "may be higher" not in plain_text_of(ALERT)


@pytest.mark.parametrize("zone", ["UTC", "Etc/UTC", "Africa/Abidjan", "Mars/Olympus", "", "../etc", "Europe", "\x00"])
def test_a_time_zone_equal_to_utc_or_unknown_is_omitted(zone: str) -> None:
    """The mail shows times in UTC only, and an unknown zone name raises no error."""
    assert "our time" not in plain_text_of(ALERT, to=replace(CONTACT, time_zone=zone))


def test_names_are_escaped_in_the_page() -> None:
    """A user's name is shown as text; HTML tags in it have no effect."""
    mallory = replace(CONTACT, name='<b>&"x"</b><img src=x onerror=alert(1)>')
    html = delivered(compose_alert_mail(ALERT, mallory, SENDER, NOW, CAUSE)).get_body(("html",)).get_content()
    assert "<b>" not in html
    assert "<img src=x" not in html
    assert mallory.name in page_text_of(ALERT, to=mallory)


def test_a_mail_is_small() -> None:
    """A mail about one alert has under 25 kB; a page about 109 alerts stays under the 102 kB at which programs cut."""
    alert = replace(ALERT, earlier=EARLIER)
    assert len(compose_alert_mail(alert, CONTACT, SENDER, NOW, CAUSE).as_bytes()) < 25_000
    night = delivered(compose_alerts_mail(a_day_at_five_airports(NOW), CONTACT, SENDER, NOW, CAUSE))
    assert len(night.get_body(("html",)).as_bytes()) < 50_000
    assert len(night.as_bytes()) < 150_000


def test_a_night_at_five_airports_is_one_readable_mail() -> None:
    """Alerts are ordered by airport; a breach and its end are one line with a range of counts; headers hold all."""
    night = a_day_at_five_airports(datetime(2026, 11, 23, 3, tzinfo=UTC))
    mail = delivered(compose_alerts_mail(night, CONTACT, SENDER, NOW, CAUSE))
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
    assert Counter(in_headers) == Counter(map(select_header_fields, night))
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
def test_the_subject_of_several_alerts_shows_the_latest_state(states: list[tuple[AlertState, int]], line: str) -> None:
    """Alerts about one breach are described from beginning to end; for several breaches the latest state is shown."""
    given = [
        replace(ALERT, alert_id=UUID(int=n), state=state, count=count, window_start=NOW.replace(hour=n))
        for n, (state, count) in enumerate(states)
    ]
    assert compose_alerts_mail(given, ABROAD, SENDER, NOW, CAUSE)["Subject"] == line


def test_a_count_that_may_grow_is_marked_among_others() -> None:
    """A count of threshold + 1 in a window that may not have ended is shown as "at least"."""
    early = replace(ALERT, count=21, window_start=ALERT.window_start + timedelta(hours=5), alert_id=UUID(int=1))
    assert "above 20: at least 21 departures" in plain_text_of(ALERT, early)


def test_the_order_of_alerts_makes_no_difference() -> None:
    """The same set of alerts gives the same mail, in any order and with duplicates."""
    night = a_day_at_five_airports(NOW)
    one = compose_alerts_mail(night, CONTACT, SENDER, NOW, CAUSE)
    other = compose_alerts_mail([*reversed(night), night[3]], CONTACT, SENDER, NOW, CAUSE)
    assert one.items()[:-1] == other.items()[:-1]  # the last: Content-Type, with a boundary of its own
    for form in ("plain", "html"):
        assert one.get_body((form,)).get_content() == other.get_body((form,)).get_content()


def test_too_many_runs_are_counted() -> None:
    """A threshold with 40 breaches has lines for the latest 12, and the other 28 are only counted."""
    hour = timedelta(hours=1)
    flips = [replace(ALERT, alert_id=UUID(int=n), window_start=ALERT.window_start + 2 * n * hour) for n in range(40)]
    assert "… and 28 earlier times" in plain_text_of(*flips)
    assert page_text_of(*flips).count("Above 20: 24 departures") == 12


def test_no_alerts_raise_value_error() -> None:
    """A mail without alerts would have no content."""
    with pytest.raises(ValueError):
        compose_alerts_mail([], CONTACT, SENDER, NOW, CAUSE)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(alerts, min_size=1, max_size=6, unique_by=lambda each: each.alert_id),
    names,
    st.sampled_from(("UTC", "America/New_York", "Asia/Kathmandu", "nowhere")),
)
def test_any_alerts_to_any_name_are_a_valid_mail(given: list[Alert], name: str, zone: str) -> None:
    """Every mail has text and page, no part with a defect, all alerts in headers, and lines of up to 78 characters."""
    mail = delivered(compose_alerts_mail(given, replace(CONTACT, name=name, time_zone=zone), SENDER, NOW, CAUSE))
    for part in mail.walk():
        assert not part.defects
        assert not [header for header in part.values() if header.defects]
    assert [part.get_content_type() for part in mail.walk()][:2] == ["multipart/alternative", "text/plain"]
    in_headers = [parse_alert_header(value) for value in mail.get_all(ALERT_HEADER)]
    assert Counter(in_headers) == Counter(map(select_header_fields, given))
    assert all(len(line) <= 78 and line.isascii() for line in mail.as_bytes().split(b"\n"))
    html = mail.get_body(("html",)).get_content()
    shown = set(re.findall(r'"cid:([^"]+)"', html))
    related = {part["Content-ID"] for part in mail.walk() if part.get_content_type() == "image/png"}
    assert {f"<{each}>" for each in shown} == related


@pytest.mark.parametrize("address", ["", "nobody", "a@b\r\nBcc: c@d", "a b@c", "@", "zoë", "@ü"])
def test_an_invalid_address_is_refused_permanently(address: str) -> None:
    """Composing raises PermanentlyRefused, whose text does not hold the address."""
    with pytest.raises(PermanentlyRefused) as refused:
        compose_alert_mail(ALERT, replace(CONTACT, email=address), SENDER, NOW, CAUSE)
    assert not address or address not in str(refused.value)


@settings(deadline=None)
@given(names, st.uuids())
def test_a_confirmation_mail_holds_its_link_whole(name: str, confirmation_id: UUID) -> None:
    """The text has the link on a line of its own, however long; the page has it as a button and as readable text."""
    url = "https://towerwatch.example.org/users/confirm?token=" + "a-B_9." * 40
    contact: Contact = replace(CONTACT, name=name, confirmed=False, confirm_url=url)
    mail = delivered(compose_confirmation_mail(contact, str(confirmation_id), SENDER, NOW))
    assert url in mail.get_body(("plain",)).get_content().splitlines()
    assert mail.get_body(("html",)).get_content().count(f'href="{url}"') == 2
    assert not mail.defects
    again = delivered(compose_confirmation_mail(contact, str(confirmation_id), SENDER, NOW))
    assert mail["Message-ID"] == again["Message-ID"]


@settings(deadline=None)
@given(names, st.uuids())
def test_a_mail_that_signs_in_holds_its_links_whole_and_nothing_typed(name: str, mail_id: UUID) -> None:
    """The text has the link on a line of its own, the page as a button and as readable text. No name is in it, and it
    says what the link is, how long it works, and what to do if nobody asked."""
    url, stop = "https://x.example.org/sign-in/" + "a-B_9." * 40, "https://x.example.org/not-me/" + "a-B_9." * 20
    contact: Contact = replace(CONTACT, name=name, sign_in_url=url, stop_url=stop)
    mail = delivered(compose_sign_in_mail(contact, str(mail_id), SENDER, NOW))
    text, page = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
    assert {url, stop} <= set(text.splitlines())
    assert (page.count(f'href="{url}"'), page.count(f'href="{stop}"')) == (2, 1)
    for part in (" ".join(text.split()), page):
        assert "fifteen minutes" in part
        assert "nobody gets in without the link" in part
    assert not mail.defects
    assert mail["Subject"] == "Sign in to Towerwatch"
    unnamed = delivered(compose_sign_in_mail(replace(contact, name=""), str(mail_id), SENDER, NOW))
    assert (mail["To"], mail["Message-ID"]) == (unnamed["To"], unnamed["Message-ID"])
    assert [part.get_content() for part in mail.iter_parts()] == [part.get_content() for part in unnamed.iter_parts()]


@pytest.mark.parametrize("name", [*NOBODYS, "\x00", "x" * 5000])
def test_a_zone_that_nobody_is_in_shows_utc_alone(name: str) -> None:
    """An account from before may have `localtime`: the zone of our machine is not its owner's."""
    assert ReaderTimes.of(name, NOW, ENGLISH).zone is None
    assert ReaderTimes.of("Asia/Calcutta", NOW, ENGLISH).zone is not None


@pytest.mark.parametrize(
    ("alerts", "line"),
    [
        (
            [{}, {"state": AlertState.WITHDRAWN, "count": 19, "withdrawn_count": 24}],
            "KJFK not above 20 (2 alerts, Fri 8 Feb 2013 00:00–01:00 UTC)",
        ),
        (
            [{"state": AlertState.WITHDRAWN, "count": 19, "withdrawn_count": 24}, {"revision": 1}],
            "KJFK above 20 again (2 alerts, Fri 8 Feb 2013 00:00–01:00 UTC)",
        ),
        (
            [
                {"state": AlertState.RESOLVED, "count": 19},
                {
                    "state": AlertState.WITHDRAWN,
                    "withdrawn_count": 19,
                    "withdrawn_state": AlertState.RESOLVED,
                },
            ],
            "KJFK still above 20 (2 alerts, Fri 8 Feb 2013 00:00–01:00 UTC)",
        ),
    ],
)
@pytest.mark.parametrize("is_reversed", [False, True])
def test_what_was_said_last_of_a_window_counts_in_whatever_order_the_alerts_came(
    alerts: list[dict[str, object]], line: str, is_reversed: bool
) -> None:
    """A statement, its withdrawal and what comes again may stand in one mail after an outage; the last one holds."""
    given = [replace(ALERT, alert_id=UUID(int=n), **changes) for n, changes in enumerate(alerts)]  # type: ignore[arg-type]
    if is_reversed:
        given.reverse()
    assert compose_alerts_mail(given, ABROAD, SENDER, NOW, CAUSE)["Subject"] == line
