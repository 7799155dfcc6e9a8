"""Mails whose parts are cached for many people are the same as if each had been written for itself."""

from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import given, strategies as st

from chassis.time_zones import list_time_zones
from domain.alerts import Alert
from domain.windows import AlignedTo
from notifier.mail import Contact, compose_alerts_mail, sections, threshold_charts
from notifier.mail.content import AlertsContent
from notifier.mail.summary import group_by_threshold
from notifier.mail.texts import find_mail_texts
from notifier.mail.times import ReaderTimes
from tests.notifier.alerts import ALERT, CAUSE, CONTACT, EARLIER, SENDER, alerts

_IDS = tuple(UUID(int=number) for number in range(1, 5))
_ZONES = ("UTC", "Europe/Rome", "Asia/Kathmandu", "America/New_York", "nowhere")
_TIMES = st.datetimes(datetime(2026, 12, 31, 9), datetime(2027, 1, 1, 15)).map(lambda each: each.replace(tzinfo=UTC))


@st.composite
def nights(draw: st.DrawFn) -> list[Alert]:
    """Return some alerts of two interests, near in time, of which some belong to one episode."""
    base = draw(alerts)
    return [
        replace(
            base,
            alert_id=UUID(int=100 + number),
            interest_id=draw(st.sampled_from(_IDS[:2])),
            episode_id=draw(st.none() | st.sampled_from((*_IDS, UUID(int=100)))),
            state=draw(st.sampled_from(type(base.state))),
            count=draw(st.integers(0, 50)),
            window_start=base.window_start + draw(st.integers(0, 3)) * base.window.length,
            own_end=None if base.own_end is None else base.own_end + timedelta(days=4),
            earlier=tuple(draw(st.lists(st.none() | st.integers(0, 50), max_size=12))),
            earlier_usual=(),
        )
        for number in range(draw(st.integers(1, 5)))
    ]


def forget_all() -> None:
    """Forget everything that was written before."""
    for each in (sections._write_threshold_section, sections._render_section):
        each.cache_clear()
    for each in (threshold_charts._has_chart, threshold_charts._render_chart):
        each.cache_clear()


def rename(given_alerts: list[Alert], by: int) -> list[Alert]:
    """Return the same alerts of another person: each id is another, in the same order."""
    return [
        replace(
            each,
            alert_id=UUID(int=each.alert_id.int + by),
            interest_id=UUID(int=each.interest_id.int + by),
            episode_id=None if each.episode_id is None else UUID(int=each.episode_id.int + by),
            user_id=UUID(int=by),
            version=each.version + by,
        )
        for each in given_alerts
    ]


@given(
    night=nights(),
    other=nights(),
    now=_TIMES,
    later=st.timedeltas(timedelta(0), timedelta(minutes=40)),
    zones=st.lists(st.sampled_from(_ZONES), min_size=2, max_size=2),
    language=st.sampled_from(("en", "it")),
)
def test_a_mail_does_not_depend_on_those_before(
    night: list[Alert], other: list[Alert], now: datetime, later: timedelta, zones: list[str], language: str
) -> None:
    """After mails about the same to others, elsewhere and a little before, also across New Year, it is the same."""
    reader = replace(CONTACT, time_zone=zones[0], language=language)
    forget_all()
    expected = compose_alerts_mail(night, reader, SENDER, now + later, CAUSE).as_bytes()
    forget_all()

    def write_before() -> Iterator[tuple[list[Alert], Contact, datetime]]:
        yield rename(night, 1 << 20), reader, now
        yield rename(night, 1 << 21), replace(reader, time_zone=zones[1]), now
        yield night, replace(reader, language="it" if language == "en" else "en"), now + later
        yield [replace(each, episode_id=None) for each in night], reader, now + later
        yield [*night, *other], reader, now

    for told, contact, at in write_before():
        compose_alerts_mail(told, contact, SENDER, at, CAUSE)
    assert compose_alerts_mail(night, reader, SENDER, now + later, CAUSE).as_bytes() == expected


@given(night=nights(), by=st.integers(1, 1 << 64))
def test_the_content_of_alerts_is_all_but_whose_they_are(night: list[Alert], by: int) -> None:
    """Other ids give the same content; a change of any other member, or of which alerts share an episode, does not."""
    content = AlertsContent.of(tuple(night))
    assert AlertsContent.of(tuple(rename(night, by << 20))) == content
    first = night[0]
    for changed in (
        replace(first, count=first.count + 1),
        replace(first, earlier=(*first.earlier, 7)),
        replace(first, airport="LIRF"),
        replace(first, revision=first.revision + 1),
        replace(first, corrects=not first.corrects),
        replace(first, episode_id=None if first.episode_id else UUID(int=9)),
    ):
        assert AlertsContent.of((changed, *night[1:])) != content
    assert len(AlertsContent.of((first,)).facts[0]) == len(fields(Alert)) - 5  # type: ignore[arg-type]


def test_what_an_episode_joins_is_content() -> None:
    """Two alerts of one episode have another content than two alerts of different episodes."""
    first, second = replace(ALERT, alert_id=_IDS[0]), replace(ALERT, alert_id=_IDS[1], earlier=EARLIER)
    contents = [
        AlertsContent.of((replace(first, episode_id=one), replace(second, episode_id=other)))
        for one, other in ((_IDS[2], _IDS[2]), (_IDS[2], _IDS[3]), (_IDS[0], _IDS[0]), (_IDS[0], _IDS[1]), (None, None))
    ]
    assert len(set(contents)) == len(contents)


@given(moment=st.datetimes(datetime(2026, 1, 1), datetime(2040, 1, 1)), zone=st.sampled_from(sorted(list_time_zones())))
def test_dates_change_at_full_quarters_of_an_hour(moment: datetime, zone: str) -> None:
    """So a time of writing that is rounded down to a quarter has the same year, by any clock."""
    now = moment.replace(tzinfo=UTC)
    quarter = now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0)
    assert quarter.astimezone(ZoneInfo(zone)).date() == now.astimezone(ZoneInfo(zone)).date()


@given(alert=alerts, how_many=st.integers(0, 40))
def test_earlier_windows_are_each_before_the_other(alert: Alert, how_many: int) -> None:
    """Counted from the alert's own window, one by one or all at once."""
    assert alert.list_earlier_starts(how_many) == [alert.find_earlier_start(back) for back in range(1, how_many + 1)]


@given(
    night=nights(),
    now=_TIMES,
    back=st.timedeltas(timedelta(0), timedelta(days=2)),
    zone=st.sampled_from(_ZONES),
    language=st.sampled_from(("en", "it")),
)
def test_a_section_has_the_years_of_the_very_moment(
    night: list[Alert], now: datetime, back: timedelta, zone: str, language: str
) -> None:
    """Though it is kept by the quarter of an hour: windows around New Year have the year if clocks show another."""
    start = (now - back).replace(minute=0, second=0, microsecond=0)
    told = [replace(each, window_start=start, own_end=None, aligned_to=AlignedTo.UTC) for each in night]
    times = ReaderTimes.of(zone, now, find_mail_texts(language))
    for summary in group_by_threshold(told):
        content = AlertsContent.of(summary.alerts)
        words = sections._write_threshold_section.__wrapped__(content, times.zone, now, times.texts, True)
        expected = sections.render_section(times.texts, words)
        assert sections.build_threshold_section(summary, times, None, has_sources=True) == expected
