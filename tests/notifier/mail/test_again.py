"""What is said again after a withdrawal: its mail is not the first one's, neither in the subject nor in the text."""

from dataclasses import replace
from email.message import EmailMessage
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from domain.alerts import Alert, AlertState
from notifier.mail import compose_alerts_mail
from tests.notifier.alerts import ALERT, CAUSE, CONTACT, NOW, SENDER, alerts, delivered

ABROAD = replace(CONTACT, time_zone="UTC")


def compose(*given: Alert) -> EmailMessage:
    """Return the mail about these alerts, as its recipient's program parses it."""
    return delivered(compose_alerts_mail(given, ABROAD, SENDER, NOW, CAUSE))


def read_texts(mail: EmailMessage) -> tuple[str, str, str]:
    """Return the subject of a mail, its text, and the source of its page, each in one line."""
    bodies = [mail.get_body((kind,)) for kind in ("plain", "html")]
    plain, html = (" ".join(each.get_content().split()) for each in bodies if each is not None)
    return str(mail["Subject"]), plain, html


@pytest.mark.parametrize(
    ("changes", "subject", "sentence"),
    [
        (
            {"state": AlertState.FIRING},
            "KJFK: 24 departures, above 20 again after a further correction, Fri 8 Feb 2013 00:00–01:00 UTC",
            "had 24 departures: more than your level of 20, again after a further correction.",
        ),
        (
            {"state": AlertState.STILL},
            "KJFK: 24 departures, still above 20 again after a further correction, Fri 8 Feb 2013 00:00–01:00 UTC",
            "had 24 departures: still more than your level of 20, again after a further correction.",
        ),
        (
            {"state": AlertState.RESOLVED, "count": 9},
            "KJFK: back to normal again after a further correction, 9 departures, not above 20, "
            "Fri 8 Feb 2013 00:00–01:00 UTC",
            "It had 9 departures: no longer more than your level of 20, again after a further correction.",
        ),
        (
            {"state": AlertState.WITHDRAWN, "count": 9, "withdrawn_count": 24},
            "KJFK: another correction, 9 departures (not 24), not above 20, Fri 8 Feb 2013 00:00–01:00 UTC",
            "We take back an earlier alert once more, because some flights were counted wrongly. We had counted 24.",
        ),
    ],
)
def test_an_alert_that_comes_again_says_so(changes: dict[str, object], subject: str, sentence: str) -> None:
    """Its reader had the same alert before, and then its withdrawal."""
    read = read_texts(compose(replace(ALERT, revision=1, **changes)))  # type: ignore[arg-type]
    assert read[0] == subject
    assert sentence in read[1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(alerts, min_size=1, max_size=3, unique_by=lambda each: each.alert_id), st.integers(1, 2**32 - 1))
def test_no_mail_reads_like_the_one_before_the_withdrawal(given: list[Alert], revision: int) -> None:
    """Subject (of one alert), text and page differ if alerts come again, and only then have the words for it."""
    firsts = [replace(each, revision=0) for each in given]
    agains = [replace(each, alert_id=UUID(int=number), revision=revision) for number, each in enumerate(firsts)]
    first, again = read_texts(compose(*firsts)), read_texts(compose(*agains))
    assert first[1] != again[1]
    assert first[2] != again[2]
    assert len(given) > 1 or first[0] != again[0]
    words = ("again after a further correction", "another correction", "once more")
    assert not any(each in text.lower() for each in words for text in first)
    assert any(each in again[1].lower() for each in words)
    assert any(each in again[2].lower() for each in words)
