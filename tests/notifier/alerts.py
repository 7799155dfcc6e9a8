"""Alerts, a notice and contacts for tests: a plain example of each, and hypothesis strategies for all possible ones."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import default
from uuid import UUID, uuid4

from hypothesis import strategies as st

from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction
from domain.live_record import Provenance
from domain.notices import RetiredNotice, UnheardNotice, compute_retired_notice_id, compute_unheard_notice_id
from domain.windows import AlignedTo, Window
from notifier.mail import Contact
from notifier.mail.texts import find_mail_texts

SENDER = Address("Towerwatch", addr_spec="alerts@example.org")
NOW = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
CAUSE = datetime(2026, 11, 23, 4, 59, 58, 123456, tzinfo=UTC)
ENGLISH = find_mail_texts("en")

ALERT = Alert(
    alert_id=UUID("5b2f3f0e-58a5-5f0b-9d4f-2a1f6f5d8c11"),
    interest_id=UUID("11111111-58a5-4f0b-9d4f-2a1f6f5d8c11"),
    user_id=UUID("22222222-58a5-4f0b-9d4f-2a1f6f5d8c11"),
    version=1,
    airport="KJFK",
    direction=Direction.DEPARTURES,
    window=Window.ONE_HOUR,
    window_start=datetime(2013, 2, 8, tzinfo=UTC),
    bound=Bound.HIGH,
    state=AlertState.FIRING,
    count=24,
    threshold=20,
    for_windows=1,
)


def build_unheard_notice(user_id: UUID, airport: str, since: datetime) -> UnheardNotice:
    """Return the notice to a user that the source has given no flight of an airport since the day that begins then."""
    return UnheardNotice(compute_unheard_notice_id(user_id, airport, since), user_id, airport, since)


def build_retired_notice(user_id: UUID, airport: str, successor: str = "") -> RetiredNotice:
    """Return the notice to a user that no airport has the code any more, and which code leads on."""
    return RetiredNotice(compute_retired_notice_id(user_id, airport), user_id, airport, successor)


NOTICE = build_unheard_notice(ALERT.user_id, "KPWM", datetime(2026, 11, 21, tzinfo=UTC))

RETIRED = build_retired_notice(ALERT.user_id, "UAFM", "UCFM")

CONTACT = Contact(
    user_id=ALERT.user_id,
    email="ada@example.net",
    name="Ada Lovelace",
    time_zone="America/New_York",
    confirmed=True,
    paused=False,
    confirm_url="",
)


EARLIER = (12, 15, None, 9, 8, 14, 17, 19, 18, 15, 13, 12)
"""The counts of the windows before ALERT's window."""


def delivered(mail: EmailMessage) -> EmailMessage:
    """Return the mail as a recipient's program parses it."""
    return message_from_bytes(mail.as_bytes(), EmailMessage, policy=default)


def a_day_at_five_airports(end: datetime) -> list[Alert]:
    """Return over 100 alerts of one user, shuffled: the 24 hours before `end` at five airports.

    At one airport the count is above its threshold all day, at one below, at one it crosses the threshold every other
    hour, at one twice, and at one the alerts are withdrawn.
    """
    begin = end - timedelta(hours=24)
    counts = {
        "KJFK": [24 + hour % 7 for hour in range(24)],
        "KBOS": [3 + hour % 3 for hour in range(24)],
        "EGLL": [41 if hour % 2 else 30 for hour in range(24)],
        "LICC": [9] * 4 + [14] * 7 + [8] * 6 + [15] * 5 + [7] * 2,
        "ZBAA": [2] * 24,
    }
    found: list[Alert] = []
    for number, (airport, levels) in enumerate(counts.items(), 1):
        bound = Bound.LOW if airport in ("KBOS", "ZBAA") else Bound.HIGH
        threshold = {"KJFK": 20, "KBOS": 6, "EGLL": 35, "LICC": 12, "ZBAA": 5}[airport]
        episode_id = None
        for hour, count in enumerate(levels):
            past = bound.is_breached(count, threshold)
            before = levels[hour - 1] if hour else threshold
            was = bound.is_breached(before, threshold)
            if not (past or was):
                continue
            state = AlertState.STILL if past and was else AlertState.FIRING if past else AlertState.RESOLVED
            if airport == "ZBAA":
                state = AlertState.WITHDRAWN
            alert_id = UUID(int=number * 100 + hour)
            episode_id = alert_id if state is AlertState.FIRING else episode_id
            found.append(
                replace(
                    ALERT,
                    alert_id=alert_id,
                    interest_id=UUID(int=number << 100),
                    airport=airport,
                    bound=bound,
                    threshold=threshold,
                    state=state,
                    count=threshold + 4 if airport == "ZBAA" else count,
                    withdrawn_count=count if airport == "ZBAA" else None,
                    window_start=begin + timedelta(hours=hour),
                    direction=Direction.ARRIVALS if number % 2 else Direction.DEPARTURES,
                    earlier=tuple(levels[max(hour - 12, 0) : hour]),
                    episode_id=episode_id,
                )
            )
    return [*found[1::2], *found[::2]]


def new_alert(**changes: object) -> Alert:
    """Return ALERT with new ids and these changes."""
    ids: dict[str, object] = {"alert_id": uuid4(), "interest_id": uuid4(), "user_id": uuid4()}
    return replace(ALERT, **(ids | changes))  # type: ignore[arg-type]


def _align_to_airport(alert: Alert, hours: int) -> Alert:
    """Return an alert of a window by the airport's clock of that many hours; 0: the alert itself, by UTC."""
    if not hours:
        return alert
    return replace(alert, aligned_to=AlignedTo.AIRPORT, own_end=alert.window_start + timedelta(hours=hours))


_alerts_by_utc = st.builds(
    Alert,
    alert_id=st.uuids(),
    interest_id=st.uuids(),
    user_id=st.uuids(),
    version=st.integers(1, 2**63),
    airport=st.sampled_from(("KJFK", "LICC", "EGLL", "ZZZZ", "0000")),
    direction=st.sampled_from(Direction),
    window=st.sampled_from(Window),
    window_start=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)).map(
        lambda moment: moment.replace(minute=0, second=0, microsecond=0, tzinfo=UTC)
    ),
    bound=st.sampled_from(Bound),
    state=st.sampled_from(AlertState),
    count=st.integers(0, 2**32 - 1),
    threshold=st.integers(0, 2**32 - 1),
    for_windows=st.integers(1, 365),
    withdrawn_count=st.none() | st.integers(0, 2**32 - 1),
    withdrawn_state=st.none() | st.sampled_from(AlertState),
    revision=st.integers(0, 2**32 - 1),
    earlier=st.lists(st.none() | st.integers(0, 2**32 - 1), max_size=12).map(tuple),
    episode_id=st.none() | st.uuids(),
    provenance=st.none() | st.sampled_from(Provenance),
    corrects=st.booleans(),
    count_before=st.none() | st.integers(0, 2**32 - 1),
    percent=st.none() | st.integers(0, 2**32 - 1),
    doubled_usual=st.none() | st.integers(0, 2**32 - 1),
    base_counts=st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple),
    live_windows=st.integers(0, 2**32 - 1),
    earlier_usual=st.just(()) | st.lists(st.none() | st.integers(0, 2**32 - 2), min_size=12, max_size=12).map(tuple),
).map(lambda alert: replace(alert, earlier_usual=alert.earlier_usual[: len(alert.earlier)]))
alerts = st.builds(_align_to_airport, _alerts_by_utc, st.sampled_from((0, 0, 5, 6, 23, 24, 25)))

names = st.text(max_size=200) | st.from_regex(r"[\r\n\t\"<>(),:;@\\=?_ a-zé蝶🛫]{0,80}", fullmatch=True)
