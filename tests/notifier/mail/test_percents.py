"""The mails about thresholds in percent of the usual: their subjects, and that no sentence is untrue."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from random import Random
from statistics import median
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from domain.alerts import Alert, AlertState, Bound
from domain.calendar import find_calendar
from domain.changes import NO_TRAFFIC
from domain.interest_alerts import compute_alerts
from domain.interests import Direction
from domain.traffic import Coverage, Observation
from domain.usual_fold import fold_with_usual
from domain.windows import AlignedTo, Window, instant
from notifier.mail import compose_alerts_mail
from notifier.mail.background import describe_background, describe_usual
from notifier.mail.corrections import describe_correction
from notifier.mail.levels import WindowFacts
from notifier.mail.runs import describe_run
from notifier.mail.subject import format_subject, format_summary_subject
from notifier.mail.summary import group_by_threshold
from notifier.mail.threshold_charts import describe_chart
from notifier.mail.times import ReaderTimes
from notifier.mail.wording import describe_threshold, format_statement, format_status
from tests.domain.logs import an_interest
from tests.notifier.alerts import ALERT, CAUSE, CONTACT, ENGLISH, NOW, SENDER, delivered
from tests.notifier.mail.test_compose import page_text_of, plain_text_of

QUIET = replace(
    ALERT,
    bound=Bound.LOW,
    count=4,
    threshold=14,
    percent=50,
    doubled_usual=54,
    base_counts=(25, 27, 31, 26, 27),
    earlier=(20, 3),
    earlier_usual=(41, 40),
)
BUSY = replace(QUIET, bound=Bound.HIGH, count=41, threshold=40, percent=150, earlier=(20, 45))
ON_TIME = datetime(2013, 2, 8, 2, tzinfo=UTC)
TIMES = ReaderTimes.of("America/New_York", datetime(2013, 2, 9, 3, tzinfo=UTC), ENGLISH)
AT = "Fri 8 Feb 00:00–01:00 UTC (Thu 19:00 local)"


@pytest.mark.parametrize(
    ("alert", "subject"),
    [
        (QUIET, "unusually quiet, 4 departures, usually 27"),
        (BUSY, "unusually busy, 41 departures, usually 27"),
        (replace(QUIET, count=1, doubled_usual=53), "unusually quiet, 1 departure, usually 26.5"),
        (replace(QUIET, for_windows=3), "unusually quiet 3 times in a row, 4 departures, usually 27"),
        (replace(QUIET, state=AlertState.STILL), "still unusually quiet, 4 departures, usually 27"),
        (replace(QUIET, state=AlertState.RESOLVED, count=80), "no longer unusually quiet, 80 departures, usually 27"),
        (
            replace(QUIET, state=AlertState.WITHDRAWN, count=15, withdrawn_count=4),
            "correction, 15 departures (not 4), usually 27, not unusually quiet",
        ),
        (
            replace(QUIET, state=AlertState.WITHDRAWN, withdrawn_state=AlertState.RESOLVED, withdrawn_count=15),
            "correction, 4 departures (not 15), usually 27, still unusually quiet",
        ),
        (
            replace(BUSY, direction=Direction.BOTH, count=2_700, doubled_usual=2_401, revision=1),
            "unusually busy again after a further correction, 2,700 arrivals and departures, usually 1,200.5",
        ),
        (replace(QUIET, doubled_usual=None), "unusually quiet, 4 departures"),
    ],
)
def test_the_subject_says_how_unusual_it_is(alert: Alert, subject: str) -> None:
    """What is unusual comes first, then the count and what is usual; a usual that ends in a half is said as it is."""
    assert format_subject(alert, TIMES) == f"KJFK: {subject}, {AT}"


def test_a_mail_says_what_is_usual_and_what_the_percent_makes_of_it() -> None:
    """By the airport's clock and weekday: the hour began on Thursday, 19:00, in New York. The page says the same."""
    for text in (plain_text_of(QUIET, now=ON_TIME), page_text_of(QUIET)):
        assert (
            "Usually there are 27: the median of the same hour (from 19:00 at the airport) of the five Thursdays "
            "before (25, 27, 31, 26 and 27, the latest first). Below 50 % of that is fewer than 14 departures." in text
        )
        assert "The hour before had 3, usually 20." in text
        assert "usually 27: below your level of 50 % of usual" in text
        assert "KJFK, departures in an hour: below 50 % of usual." in text
    assert "had 4 departures, usually 27: below your level of 50 % of usual." in plain_text_of(QUIET)
    assert "Unusually quiet" in page_text_of(QUIET)
    assert (
        "John F Kennedy International Airport (KJFK), New York, is no longer unusually quiet. It had 14 departures, "
        in (plain_text_of(replace(QUIET, state=AlertState.RESOLVED, count=14)))
    )


@pytest.mark.parametrize(
    ("changes", "base"),
    [
        ({"base_counts": (25, 27, 31, 26)}, None),
        (
            {"base_counts": (25, 27, 31, 26), "doubled_usual": 53},
            "of four of the five Thursdays before (25, 27, 31 and 26, ",
        ),
        ({"base_counts": (25, 27, 31)}, "of three of the five Thursdays before (25, 27 and 31, the latest first)"),
        ({"base_counts": (25, 27)}, None),
        ({"base_counts": ()}, None),
    ],
)
def test_base_counts_that_were_corrected_since_do_not_contradict_the_usual(
    changes: Mapping[str, object], base: str | None
) -> None:
    """Counts whose median is another one are left out: the usual is that of when the window began."""
    usual, _ = describe_usual(ENGLISH, replace(QUIET, **changes))  # type: ignore[arg-type]
    if base is None:
        assert usual == (
            "Usually there are 27: the median of the same hour (from 19:00 at the airport) of the five Thursdays "
            "before, as far as they were known when it began."
        )
    else:
        assert base in usual


@pytest.mark.parametrize(
    ("airport", "window", "start", "base"),
    [
        ("KJFK", Window.SIX_HOURS, 6, "the same six hours (from 01:00 at the airport) of the five Fridays before"),
        ("KJFK", Window.ONE_DAY, 0, "the same 24 hours (from 19:00 at the airport) of the five Thursdays before"),
        ("EGLL", Window.ONE_DAY, 0, "the median of the five Fridays before"),
        ("VNKT", Window.ONE_HOUR, 20, "the same hour (from 01:45 at the airport) of the five Saturdays before"),
        ("ZZZZ", Window.ONE_HOUR, 5, "the same hour (from 05:00 UTC) of the five Fridays before"),
        ("ZZZZ", Window.ONE_DAY, 0, "the median of the five Fridays before"),
    ],
)
def test_the_weeks_before_are_told_by_the_airports_clock(airport: str, window: Window, start: int, base: str) -> None:
    """A window of several hours is named by its begin there; a whole day of the airport is the day alone."""
    at = ALERT.window_start + timedelta(hours=start)
    assert base in describe_usual(ENGLISH, replace(QUIET, airport=airport, window=window, window_start=at))[0]


@pytest.mark.parametrize(
    ("airport", "window", "begin", "end", "subject", "base"),
    [
        (
            "KBOS", Window.ONE_DAY, (3, 10, 5, 0), (3, 11, 4, 0),
            "KBOS: unusually quiet, 4 departures, usually 27, Sun 10 Mar (23 hours) at KBOS",
            "the median of the five Sundays before",
        ),
        (
            "VNKT", Window.SIX_HOURS, (5, 9, 18, 15), (5, 10, 0, 15),
            "VNKT: unusually quiet, 4 departures, usually 27, Fri 10 May 00:00–06:00 at VNKT",
            "the same six hours (from 00:00 at the airport) of the five Fridays before",
        ),
    ],
)  # fmt: skip
def test_a_window_by_the_airports_clock_is_named_by_it(
    airport: str, window: Window, begin: Sequence[int], end: Sequence[int], subject: str, base: str
) -> None:
    """In the subject, and where the weeks before are named: a day of 23 hours is the day, as its base days are."""
    start, own_end = datetime(2013, *begin, tzinfo=UTC), datetime(2013, *end, tzinfo=UTC)  # type: ignore[misc]
    alert = replace(
        QUIET, airport=airport, window=window, window_start=start, aligned_to=AlignedTo.AIRPORT, own_end=own_end
    )
    assert format_subject(alert, TIMES) == subject
    assert base in describe_usual(ENGLISH, alert)[0]


def test_a_day_that_begins_at_one_o_clock_is_a_whole_day() -> None:
    """At Cairo midnight did not exist on 16 May 2014: its window is the day of that date, and by UTC it is 24 hours."""
    start = datetime(2014, 5, 15, 22, tzinfo=UTC)
    local = replace(
        QUIET, airport="HECA", window=Window.ONE_DAY, window_start=start, aligned_to=AlignedTo.AIRPORT,
        own_end=start + timedelta(hours=23),
    )  # fmt: skip
    assert "the median of the five Fridays before" in describe_usual(ENGLISH, local)[0]
    by_utc = replace(local, aligned_to=AlignedTo.UTC, own_end=None)
    assert "the same 24 hours (from 01:00 at the airport) of the five Fridays" in describe_usual(ENGLISH, by_utc)[0]


def test_several_alerts_are_grouped_by_percent_and_each_line_says_what_was_usual() -> None:
    """The flights that the percent makes differ by hour: they do not divide the group. Nights do not divide a run."""
    hour = timedelta(hours=1)
    first = replace(QUIET, episode_id=QUIET.alert_id, earlier=(20,), earlier_usual=(40,))
    still = replace(
        first, alert_id=UUID(int=1), state=AlertState.STILL, window_start=first.window_start + hour, count=6,
        threshold=10, doubled_usual=40, earlier=(20, 4), earlier_usual=(40, 54),
    )  # fmt: skip
    ended = replace(
        still, alert_id=UUID(int=2), state=AlertState.RESOLVED, window_start=first.window_start + 2 * hour, count=25,
        doubled_usual=50, threshold=13, earlier=(20, 4, 6), earlier_usual=(40, 54, 40),
    )  # fmt: skip
    (group,) = group_by_threshold([ended, first, still])
    (run,) = group.split_into_runs()
    line = "unusually quiet for 2 hours: 4 to 6 departures, usually 20 to 27, then no longer, with 25, usually 25"
    assert describe_run(ENGLISH, run) == line
    assert format_summary_subject([group], TIMES).startswith(f"KJFK: {line}, Fri 8 Feb 00:00–03:00 UTC")
    night = replace(
        ended, window_start=first.window_start + 9 * hour, earlier=(4, 6, *[0] * 7), earlier_usual=(54, 40, *[0] * 7)
    )
    (run,) = group_by_threshold([first, replace(still, window_start=night.window_start - hour), night])[
        0
    ].split_into_runs()
    assert describe_run(ENGLISH, run).startswith("unusually quiet: 4 to 6 departures, usually 20 to 27, then")
    other = replace(BUSY, interest_id=UUID(int=1), alert_id=UUID(int=3))
    text = plain_text_of(first, still, ended, other)
    assert "Departures in an hour: below 50 % of usual. No longer unusually quiet." in text
    assert "Departures in an hour: above 150 % of usual. Unusually busy." in text
    assert format_summary_subject(group_by_threshold([first, ended, other]), TIMES).startswith(
        "KJFK unusually busy, KJFK no longer unusually quiet (3 alerts, "
    )


def test_a_correction_says_both_counts_and_what_is_usual() -> None:
    """In the mail of corrections, in a line of a mail of several alerts, and in a mail of its own."""
    told = replace(QUIET, corrects=True, count_before=19)
    assert describe_correction(ENGLISH, told) == "4 departures, not 19, usually 27: below your level of 50 % of usual."
    taken_back = replace(QUIET, state=AlertState.WITHDRAWN, count=15, withdrawn_count=4, for_windows=2)
    assert describe_correction(ENGLISH, taken_back) == (
        "15 departures, not 4, usually 27: not below your level of 50 % of usual, 2 times in a row. "
        "We take back the alert."
    )
    (run,) = group_by_threshold([replace(taken_back, for_windows=1)])[0].split_into_runs()
    assert describe_run(ENGLISH, run) == "correction: 15 departures, not 4, usually 27; not unusually quiet"


@dataclass
class Story:
    """What an airport without a change of clocks was told, hour by hour, and the alerts of an interest."""

    flights: list[int]
    alerts: list[Alert]
    first_day: int
    known_days: int

    def find_facts(self, window: Window, number: int) -> tuple[int, Fraction | None]:
        """Return the flights of a window (its number since the first day), and what is usual in it, from the text."""
        hours = window.hours
        counts = [
            sum(self.flights[at : at + hours]) for week in range(1, 6) if (at := number * hours - 168 * week) >= 0
        ]
        return sum(self.flights[number * hours : (number + 1) * hours]), (
            Fraction(median(map(Fraction, counts))) if len(counts) >= 3 else None
        )

    def is_judged(self, window: Window, number: int) -> bool:
        """Return True if a window is not skipped: nothing is usual in it, or five flights at least."""
        usual = self.find_facts(window, number)[1]
        return usual is None or usual >= 5


def tell_story(seed: int) -> Story:
    """Return a story of some weeks at KJFK: nights without flights, and some days that are other than usual."""
    chance = Random(seed)
    first_day, weeks = 15_700 - 35, chance.randrange(3, 6)
    days = 7 * weeks + 4
    flights: list[int] = []
    scale = chance.choice((3, 12, 40))
    for day in range(days):
        is_odd = day >= days - 4
        for hour in range(24):
            usual = 0 if hour < 6 else scale
            flights.append(chance.randrange(usual // 2, usual + 2) * chance.choice((0, 1, 1, 3) if is_odd else (1,)))
    window, is_high = chance.choice([*Window]), chance.random() < 0.5
    interest = an_interest(
        airport="KJFK",
        direction=Direction.DEPARTURES,
        window=window,
        high=None,
        low=None,
        high_percent=chance.randrange(101, 250) if is_high else None,
        low_percent=None if is_high else chance.randrange(1, 100),
        for_windows=chance.choice((1, 1, 2, 4)),
        repeat=chance.random() < 0.6,
        effective_from=instant((first_day + 7 * weeks) * 86400),
    )
    traffic, alerts = NO_TRAFFIC, list[Alert]()
    for day in range(days):
        begin = (first_day + day) * 86400
        times = [begin + hour * 3600 + n for hour in range(24) for n in range(flights[24 * day + hour])]
        seen = Observation(
            Direction.DEPARTURES, begin, begin + 86400, tuple(times), Coverage.COMPLETE, tuple(range(1, len(times) + 1))
        )
        after = fold_with_usual(traffic, seen, find_calendar("KJFK"))
        alerts += compute_alerts(interest, traffic, after)
        traffic = after
    return Story(flights, alerts, first_day, days)


def read_usual(text: str) -> Fraction:
    """Return a number of a mail's text: "26.5" or "1,200"."""
    return Fraction(text.replace(",", ""))


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_sentence_is_untrue(seed: int) -> None:
    """Of the alerts of the real rule each number in their sentences is compared with the flights themselves."""
    story = tell_story(seed)
    for alert in story.alerts:
        percent = alert.percent or 0
        number = int(alert.window_start.timestamp() - story.first_day * 86400) // 3600 // alert.window.hours

        def is_breached(
            at: int, bound: Bound = alert.bound, window: Window = alert.window, percent: int = percent
        ) -> bool:
            """Return True if a window breaches the percent, in fractions."""
            flights, usual = story.find_facts(window, at)
            assert usual is not None
            return 100 * flights > percent * usual if bound is Bound.HIGH else 100 * flights < percent * usual

        flights, usual = story.find_facts(alert.window, number)
        assert usual is not None
        usual_sentence, level_sentence, *rest = describe_background(ENGLISH, alert, NOW)
        said = re.match(r"Usually there are ([\d.,]+): the median of (.*)\.", usual_sentence)
        assert said is not None
        assert read_usual(said[1]) == usual
        listed = re.search(r"\(([\d, ]+) and ([\d,]+), the latest first\)", usual_sentence)
        assert listed is not None
        assert median([read_number(each) for each in (*listed[1].split(", "), listed[2])]) == usual
        level = re.fullmatch(
            rf"(Above|Below) {percent} % of that is (more|fewer) than ([\d,]+) departures?\.", level_sentence
        )
        assert level is not None
        limit = read_number(level[3])
        assert (flights > limit if level[2] == "more" else flights < limit) is is_breached(number)
        assert alert.reports_breach is is_breached(number) or alert.for_windows > 1
        judged = [at for at in range(number - 1, -1, -1) if story.is_judged(alert.window, at)]
        run = 0
        while (
            run < len(judged)
            and story.find_facts(alert.window, judged[run])[1] is not None
            and is_breached(judged[run])
        ):
            run += 1
        assert f"usually {said[1]}: " in format_statement(ENGLISH, alert)
        for sentence in rest:
            lasted = re.search(r"(It has been|Before, it was) unusually \w+ for (at least )?(\d+) ", sentence)
            if lasted is not None:
                length = run + (lasted[1] == "It has been")
                assert int(lasted[3]) == length or (lasted[2] and int(lasted[3]) < length)
                has_nights = run > 0 and judged[:run] != [*range(number - 1, number - 1 - run, -1)]
                assert ("leaving out" in sentence) is has_nights or lasted[2]
            if " in a row" in sentence and "leaving out" not in sentence:
                assert judged[: alert.for_windows - 1] == [*range(number - 1, number - alert.for_windows, -1)]
            before = re.search(r"(hour|hours|day) before had ([\d,]+)(?:, usually ([\d.,]+))?\.", sentence)
            if before is not None:
                own, own_usual = story.find_facts(alert.window, number - 1)
                assert read_number(before[2]) == own
                assert before[3] is None or read_usual(before[3]) == own_usual
            peak = re.search(r"at its (?:highest|lowest) ([\d,]+), usually ([\d,]+(?:\.5)?)", sentence)
            if peak is not None:
                assert (read_number(peak[1]), read_usual(peak[2])) in [
                    story.find_facts(alert.window, at) for at in judged[:run]
                ]


def read_number(text: str) -> int:
    """Return the number that a text says, with commas between thousands."""
    return int(text.replace(",", ""))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.sampled_from((1, 2, 3)))
def test_no_line_of_several_alerts_is_untrue(seed: int, share: int) -> None:
    """Of any part of the alerts of a story: the counts and usuals of a line are in breach, and so is its duration."""
    story = tell_story(seed)
    given_alerts = [alert for alert in story.alerts if Random(f"{seed} {alert.alert_id}").randrange(share) == 0]
    for group in group_by_threshold(given_alerts):
        assert len({alert.percent for alert in group.alerts}) == 1
        assert format_summary_subject([group], TIMES)
        for run in group.split_into_runs():
            line, alert = describe_run(ENGLISH, run), run.alerts[0]
            begin, end = (int(moment.timestamp()) - story.first_day * 86400 for moment in (run.begin, run.end))
            length = alert.window.hours * 3600
            numbers = range(begin // length, end // length)
            facts = [story.find_facts(alert.window, number) for number in numbers]
            said = {(each.flights, Fraction(each.doubled_usual or 0, 2)) for each in run.list_breach_windows()}
            assert said <= set(facts)
            if " for " in line.partition(":")[0]:
                assert all(usual is not None and usual >= 5 for _, usual in facts)
            assert not any(f"{tense} normal" in line for tense in ("back to", "to"))


def test_the_chart_in_words_says_what_is_usual_in_each_window() -> None:
    """For readers who do not see the image; and which windows are not judged."""
    night = replace(QUIET, earlier=(20, None, 1), earlier_usual=(40, None, 9))
    assert describe_chart(ENGLISH, night, [20, None, 1, 4], [40, None, 9, 53]) == (
        "Departures at KJFK in an hour, the latest last: 20 (usually 20), unknown, 1 (usually 4.5), 4 (usually 26.5). "
        "Within your level: at least 50 % of usual. Hours that usually have fewer than 5 are not judged."
    )
    assert "3 (usually 20), 4 (usually 27). Within your level: at least 50 % of usual." in (
        delivered(compose_alerts_mail([QUIET], CONTACT, SENDER, NOW, CAUSE)).get_body(("html",)).get_content()
    )


def test_words_of_percents_and_flights_are_told_apart() -> None:
    """The threshold and the state in words; the other measure's words are in neither."""
    assert (
        describe_threshold(ENGLISH, replace(QUIET, for_windows=2))
        == "Departures in an hour: below 50 % of usual, 2 times in a row"
    )
    assert (
        describe_threshold(ENGLISH, replace(ALERT, for_windows=2))
        == "Departures in an hour: more than 20, 2 hours in a row"
    )
    assert [format_status(ENGLISH, replace(BUSY, state=state)) for state in AlertState] == [
        "Unusually busy", "No longer unusually busy", "Still unusually busy", "Correction",
    ]  # fmt: skip
    assert describe_usual(ENGLISH, ALERT) == []
    assert WindowFacts(None, None).flights is None
