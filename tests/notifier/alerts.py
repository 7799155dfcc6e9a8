"""Alerts and contacts for tests: one of each that is plain, and strategies for all that are possible."""

from dataclasses import replace
from datetime import UTC, datetime
from email.headerregistry import Address
from uuid import UUID, uuid4

from hypothesis import strategies as st

from domain.alerts import Alert, Bound, State
from domain.interests import Direction
from domain.windows import Window
from notifier.mail import Contact

SENDER = Address("Towerwatch", addr_spec="alerts@example.org")
NOW = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
CAUSE = datetime(2026, 11, 23, 4, 59, 58, 123456, tzinfo=UTC)

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
    state=State.FIRING,
    count=24,
    threshold=20,
    for_windows=1,
)

CONTACT = Contact(
    user_id=ALERT.user_id,
    email="ada@example.net",
    name="Ada Lovelace",
    time_zone="America/New_York",
    confirmed=True,
    paused=False,
    confirm_url="",
)


def new_alert(**changes: object) -> Alert:
    """ALERT under ids of its own, with these changes."""
    ids: dict[str, object] = {"alert_id": uuid4(), "interest_id": uuid4(), "user_id": uuid4()}
    return replace(ALERT, **(ids | changes))  # type: ignore[arg-type]


alerts = st.builds(
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
    state=st.sampled_from(State),
    count=st.integers(0, 2**32 - 1),
    threshold=st.integers(0, 2**32 - 1),
    for_windows=st.integers(1, 365),
    withdrawn_count=st.none() | st.integers(0, 2**32 - 1),
)

names = st.text(max_size=200) | st.from_regex(r"[\r\n\t\"<>(),:;@\\=?_ a-zé蝶🛫]{0,80}", fullmatch=True)
