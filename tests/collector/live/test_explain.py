"""Tests of the sentence that says whether an airport is heard live."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from collector.live.explain import explain_live
from collector.live.reports import FeedReport

NOW = datetime(2026, 11, 30, 10, 20, tzinfo=UTC)


def build_report(name: str = "receivers", since: datetime | None = None, **values) -> FeedReport:
    """Return the report of a feed that is polled every ten seconds, and hears KJFK if `since` is given."""
    heard = {} if since is None else {"KJFK": since.timestamp()}
    told = {"last_poll_at": NOW.timestamp(), "interval_s": 10.0, **values}
    return FeedReport(name, stated_at=NOW.timestamp(), aircraft=9, live=tuple(heard), heard_since=heard, **told)


@pytest.mark.parametrize(
    ("reports", "sentence"),
    [
        ([], None),
        ([FeedReport("receivers")], "Not heard live: receivers: no poll yet."),
        ([FeedReport("receivers", error="it is down.")], "Not heard live: receivers: it is down."),
        ([build_report(settled={"KJFK": "nothing near"})], "Not heard live: receivers: nothing near."),
        (
            [build_report(since=NOW - timedelta(minutes=8))],
            "Heard live since 10:12 UTC; the first whole hour, 11:00–12:00, is judged about 12:10.",
        ),
        ([build_report(since=NOW - timedelta(days=1))], "Heard live since 29 Nov 10:20 UTC."),
        (
            [build_report("own", error="no"), build_report(since=NOW - timedelta(hours=3))],
            "Heard live since 07:20 UTC.",
        ),
    ],
)
def test_it_is_said_whether_an_airport_is_heard_and_why_not(reports, sentence) -> None:
    """One sentence for people: from when on, when the first hour is judged, or the reason of each feed."""
    assert explain_live("KJFK", reports, NOW) == sentence


@pytest.mark.parametrize(
    ("interval_s", "age_s", "is_heard"),
    [
        *((10, 150, True), (10, 151, False), (10, 9 * 3600, False), (10, -60, True), (10, -3600, False)),
        *((90, 150, True), (600, 660, True), (600, 661, False)),
    ],
)
def test_nothing_is_heard_by_a_feed_that_nobody_polls(interval_s: float, age_s: float, is_heard: bool) -> None:
    """What it heard last stays stored, as while the clock is not trusted; the light of the feed is red then."""
    last = NOW.timestamp() - age_s
    since = NOW - timedelta(hours=3)
    report = build_report(since=since, last_poll_at=last, interval_s=interval_s)
    sentence = explain_live("KJFK", [report], NOW)
    assert sentence is not None
    if is_heard:
        assert sentence == "Heard live since 07:20 UTC."
    else:
        at = f"{datetime.fromtimestamp(last, UTC):%H:%M}"
        assert sentence == f"Not heard live: receivers: its last poll was at {at} UTC."
        told = replace(report, error="the clock is not trusted")
        assert explain_live("KJFK", [told], NOW) == "Not heard live: receivers: the clock is not trusted."
        both = [told, build_report("own", since=NOW - timedelta(hours=2))]
        assert explain_live("KJFK", both, NOW) == "Heard live since 08:20 UTC."


@given(ago=st.integers(0, 4 * 3600))
def test_the_first_hour_begins_after_the_airport_is_heard(ago: int) -> None:
    """A promise is made only for an hour that is heard whole, and only while it is ahead."""
    since = NOW - timedelta(seconds=ago)
    sentence = explain_live("KJFK", [build_report(since=since)], NOW)
    assert sentence is not None
    if "first whole hour, " in sentence:
        hour = int(sentence.split("first whole hour, ")[1][:2])
        assert timedelta(0) <= NOW.replace(hour=hour, minute=0) - since < timedelta(hours=1)
