"""How fresh an alert is, in words: facts alone, and nothing where they are not known."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from domain.alerts import Alert, AlertState
from domain.live_record import Provenance
from domain.windows import Window
from notifier.mail import compose_alert_mail, compose_alerts_mail
from notifier.mail.freshness import describe_freshness
from tests.notifier.alerts import ALERT, CAUSE, CONTACT, ENGLISH, NOW, SENDER, alerts
from tests.notifier.mail.test_catch_up import read_text

LIVE = replace(ALERT, provenance=Provenance.LIVE)
RECORD = replace(ALERT, provenance=Provenance.SETTLED)
END = ALERT.window_start + ALERT.window.length


@pytest.mark.parametrize(
    ("alert", "published_at", "sentence"),
    [
        (LIVE, END + timedelta(minutes=3), "Seen live, 3 minutes after the hour ended."),
        (LIVE, END + timedelta(seconds=5), "Seen live, 1 minute after the hour ended."),
        (LIVE, END - timedelta(minutes=3), "Seen live, before the hour ended."),
        (replace(LIVE, window=Window.ONE_DAY), END, "Seen live, before the day ended."),
        (LIVE, END + timedelta(hours=5), "Seen live."),
        (LIVE, CAUSE, "Seen live."),
        (LIVE, ALERT.window_start - timedelta(days=1), "Seen live."),
        (RECORD, CAUSE, "From the night's record."),
        (
            replace(ALERT, provenance=Provenance.RECENT),
            END,
            "From the source's flights of the day, before the night's record.",
        ),
        (ALERT, CAUSE, ""),
    ],
)
def test_an_alert_says_how_fresh_it_is(alert: Alert, published_at: datetime, sentence: str) -> None:
    """A delay of years, as in a demo of old flights, or one that is no delay, is not said."""
    assert describe_freshness(ENGLISH, alert, published_at) == sentence


@given(alert=alerts, published_at=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)))
def test_no_delay_is_said_that_is_none(alert: Alert, published_at: datetime) -> None:
    """Whatever the clocks show, the sentence names minutes of half an hour at most."""
    words = describe_freshness(ENGLISH, alert, published_at).split()
    minutes = [int(word) for word in words if word.isdigit()]
    assert all(1 <= each <= 30 for each in minutes)
    assert bool(words) is (alert.provenance is not None)


@pytest.mark.parametrize("kind", ["plain", "html"])
def test_text_and_page_say_it(kind: str) -> None:
    """The same sentence stands in both, of one alert as of several."""
    mail = compose_alert_mail(LIVE, CONTACT, SENDER, NOW, END + timedelta(minutes=3))
    assert "Seen live, 3 minutes after the hour ended." in read_text(mail, kind)
    assert "live" not in read_text(compose_alert_mail(ALERT, CONTACT, SENDER, NOW, CAUSE), kind).lower()
    later = replace(LIVE, alert_id=UUID(int=9), window_start=END, state=AlertState.RESOLVED, count=3)
    several = read_text(compose_alerts_mail([LIVE, later], CONTACT, SENDER, NOW, CAUSE), kind)
    assert "All of it was seen live." in several
    mixed = read_text(
        compose_alerts_mail([LIVE, replace(later, provenance=Provenance.SETTLED)], CONTACT, SENDER, NOW, CAUSE), kind
    ).replace("&#39;", "'")
    assert "All of it" not in mixed
    assert "(seen live and from the night's record)" in mixed or (
        "(seen live)" in mixed and "(from the night's record)" in mixed
    )
