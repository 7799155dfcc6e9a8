"""`python -m tests.notifier.mail.recorded_mails`: record a mail of every kind, in each language, for `test_recorded`.

Run it after a change that is meant to change mails, and read the difference. The files `recorded/<language>.txt` hold
the mails' bytes, with LF for CRLF, and a digest of its colours in the place of each chart.
"""

import re
import sys
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Final
from uuid import UUID

from PIL import Image

from chassis.texts import LANGUAGES
from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction
from domain.live_record import Provenance
from domain.windows import AlignedTo, Window
from notifier.mail import (
    Contact,
    InterestLinks,
    compose_alert_mail,
    compose_alerts_mail,
    compose_catch_up_mail,
    compose_confirmation_mail,
    compose_corrections_mail,
    compose_retired_mail,
    compose_sign_in_mail,
    compose_token_mail,
    compose_unheard_mail,
)
from tests.notifier.alerts import (
    ALERT,
    CAUSE,
    CONTACT,
    EARLIER,
    NOTICE,
    NOW,
    RETIRED,
    SENDER,
    a_day_at_five_airports,
    build_retired_notice,
)

RECORDED: Final = Path(__file__).parent / "recorded"
_SITE: Final = "https://towerwatch.example.org"
_PICTURE: Final = re.compile(r"(?<=\n\n)iVBORw0KGgo[A-Za-z0-9+/=]*(?:\n[A-Za-z0-9+/=]+)*")
_FIRING: Final = replace(ALERT, window_start=NOW - timedelta(hours=2), earlier=EARLIER, episode_id=ALERT.alert_id)
_EPISODE: Final = UUID("33333333-58a5-4f0b-9d4f-2a1f6f5d8c11")
_PERCENT: Final = replace(
    _FIRING,
    bound=Bound.LOW,
    count=4,
    threshold=14,
    percent=50,
    doubled_usual=53,
    base_counts=(25, 27, 31, 26),
    earlier_usual=(24, 31, 18, 6, 0, 0, 0, 3, 20, 44, 50, 61),
    for_windows=3,
)
_SINGLE_ALERTS: Final[Mapping[str, Alert]] = {
    "firing": _FIRING,
    "firing, live": replace(_FIRING, provenance=Provenance.LIVE),
    "firing again, of an earlier year": replace(ALERT, revision=1, earlier=(None, *EARLIER[1:])),
    "still, in a row, of six hours": replace(
        _FIRING, state=AlertState.STILL, window=Window.SIX_HOURS, for_windows=3, episode_id=_EPISODE, airport="ZZZZ"
    ),
    "back to normal": replace(_FIRING, state=AlertState.RESOLVED, count=1, bound=Bound.LOW, episode_id=_EPISODE),
    "withdrawn": replace(_FIRING, state=AlertState.WITHDRAWN, withdrawn_count=26, count=19, episode_id=_EPISODE),
    "in percent": _PERCENT,
    "in percent, no longer": replace(_PERCENT, state=AlertState.RESOLVED, count=23),
    "a day by the airport's clock": replace(
        _FIRING,
        window=Window.ONE_DAY,
        direction=Direction.BOTH,
        bound=Bound.LOW,
        threshold=1_200,
        window_start=datetime(2026, 11, 1, 4, tzinfo=UTC),
        aligned_to=AlignedTo.AIRPORT,
        own_end=datetime(2026, 11, 2, 5, tzinfo=UTC),
    ),
}


def build_mails(language: str) -> dict[str, EmailMessage]:
    """Return a mail of every kind in a language, each by a name that says what it is about."""
    day = a_day_at_five_airports(NOW)
    links = {
        each.interest_id: InterestLinks(f"{_SITE}/watch?interest={each.interest_id}", f"{_SITE}/stop/{each.version}")
        for each in (ALERT, *day)
    }
    reader = replace(CONTACT, language=language, interest_links=links, unsubscribe_url=f"{_SITE}/unsubscribe?token=a.b")
    plain = replace(CONTACT, language=language, name="", time_zone="UTC")
    foreign = replace(reader, name='Æthelflæd "蝶" <b>', time_zone="Asia/Kathmandu", email="蝶@example.net")
    many = _build_thresholds(40)
    return {
        **{name: compose_alert_mail(each, reader, SENDER, NOW, CAUSE) for name, each in _SINGLE_ALERTS.items()},
        "firing, to a foreign name": compose_alert_mail(_FIRING, foreign, SENDER, NOW, CAUSE),
        "firing, without name, zone and links": compose_alert_mail(_FIRING, plain, SENDER, NOW, CAUSE),
        "a day at five airports": compose_alerts_mail(day, reader, SENDER, NOW, CAUSE),
        "several, without charts": compose_alerts_mail(many[:8], plain, SENDER, NOW, CAUSE),
        "catch-up": compose_catch_up_mail(many, many, reader, SENDER, NOW, CAUSE),
        "corrections": compose_corrections_mail(many[:5], many[:5], reader, SENDER, NOW, CAUSE),
        "unheard": compose_unheard_mail(NOTICE, reader, SENDER, NOW),
        "retired": compose_retired_mail(RETIRED, reader, SENDER, NOW),
        "retired, without successor": compose_retired_mail(
            build_retired_notice(ALERT.user_id, "UAFM"), plain, SENDER, NOW
        ),
        **_build_account_mails(plain),
        **{f"{name}, with a link to stop": mail for name, mail in _build_account_mails(
            replace(reader, stop_url=f"{_SITE}/not-me/" + "aB9._-" * 25)
        ).items()},
    }  # fmt: skip


def _build_account_mails(contact: Contact) -> dict[str, EmailMessage]:
    """Return the mails about accounts to a contact."""
    links = {f"{kind}_url": f"{_SITE}/{kind}?token=" + "aB9._-" * 20 for kind in ("confirm", "token", "sign_in")}
    asked = replace(contact, **links)
    return {
        "confirmation": compose_confirmation_mail(asked, "1", SENDER, NOW),
        "token": compose_token_mail(asked, "1", SENDER, NOW),
        "sign-in": compose_sign_in_mail(asked, "1", SENDER, NOW),
    }


def _build_thresholds(count: int) -> list[Alert]:
    """Return alerts about so many thresholds, in all states, at three airports."""
    states = tuple(AlertState)
    return [
        replace(
            _FIRING,
            alert_id=UUID(int=900 + at),
            interest_id=UUID(int=700 + at),
            airport=("KJFK", "LICC", "EGLL")[at % 3],
            state=states[at % len(states)],
            threshold=20 + at,
            count=24 + at,
            count_before=19 if at % 2 else None,
            window_start=NOW - timedelta(hours=2 + at % 30),
            episode_id=UUID(int=500 + at),
        )
        for at in range(count)
    ]


def format_mails(language: str) -> str:
    """Return the bytes of all mails in a language as one text: each after a line with its name."""
    return "".join(f"===== {name}\n{format_mail(mail.as_bytes())}\n" for name, mail in build_mails(language).items())


def format_mail(message: bytes) -> str:
    """Return a mail's bytes as text with LF for CRLF, and a digest of its colours in the place of each chart.

    How well a picture is packed depends on the machine's zlib; its colours do not. Raises ValueError for a line end
    that is no CRLF.
    """
    lines = message.decode().split("\r\n")
    if any("\n" in line or "\r" in line for line in lines):
        raise ValueError("a line of the mail does not end with CRLF")
    return _PICTURE.sub(lambda found: _digest_picture(found[0]), "\n".join(lines))


def _digest_picture(text: str) -> str:
    """Return the size of a PNG in base 64, and a digest of its colours. Raises ValueError if a line is too long."""
    if any(len(line) != 76 for line in text.split("\n")[:-1]):
        raise ValueError("a line of a picture is not 76 characters long")
    with Image.open(BytesIO(b64decode(text))) as image:
        return f"[{image.width} x {image.height}: {sha256(image.convert('RGB').tobytes()).hexdigest()}]"


def main() -> int:
    """Record the mails of each language; return 0."""
    for language in LANGUAGES:
        (RECORDED / f"{language}.txt").write_text(format_mails(language), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
