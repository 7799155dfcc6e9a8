"""Tests of the ids and the sentence of notices."""

from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import given, strategies as st

from domain.notices import compute_unheard_notice_id, describe_unheard
from tests.notifier.alerts import build_unheard_notice

SINCE = datetime(2026, 11, 27, tzinfo=UTC)


@given(st.uuids(), st.uuids(), st.text("ABK", min_size=4, max_size=4), st.text("ABK", min_size=4, max_size=4))
def test_a_notice_of_another_user_or_airport_has_another_id(
    user: UUID, other_user: UUID, airport: str, other_airport: str
):
    """Each user gets one mail for each airport, so equal ids must mean the same user and airport."""
    is_same = (user, airport) == (other_user, other_airport)
    assert (
        compute_unheard_notice_id(user, airport, SINCE) == compute_unheard_notice_id(other_user, other_airport, SINCE)
    ) == is_same


def test_the_id_depends_on_the_moment_and_not_on_its_time_zone():
    """A later day without flights is another notice; the same moment written in another zone is the same."""
    user = UUID(int=7)
    in_tokyo = SINCE.astimezone(ZoneInfo("Asia/Tokyo"))
    assert compute_unheard_notice_id(user, "KPWM", in_tokyo) == compute_unheard_notice_id(user, "KPWM", SINCE)
    assert compute_unheard_notice_id(user, "KPWM", SINCE + timedelta(days=1)) != compute_unheard_notice_id(
        user, "KPWM", SINCE
    )


def test_the_id_never_changes_between_versions():
    """A notice that was published by an earlier version and again by a later one is mailed once."""
    notice = build_unheard_notice(UUID(int=7), "KPWM", SINCE)
    assert (notice.user_id, notice.airport, notice.since) == (UUID(int=7), "KPWM", SINCE)
    assert notice.notice_id == UUID("6c5793b0-2825-54b7-84d9-e92a3ff2ca59")


def test_the_sentence_names_place_and_day_in_utc():
    """The mail and the answers of the API say the same, whatever the zone of the moment."""
    sentence = "OpenSky has not reported a flight at KPWM since 27 November 2026: nobody may be listening there."
    assert describe_unheard("KPWM", SINCE) == sentence
    assert describe_unheard("KPWM", SINCE.astimezone(ZoneInfo("America/New_York"))) == sentence
