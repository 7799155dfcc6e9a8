"""What an alert says, in words: the same in the text and in the HTML of a mail."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, assert_never

from domain.airports import find_airport
from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction
from domain.windows import Window
from notifier.mail.summary import Spell, Topic
from notifier.mail.times import Clock

_ONE: Final = {Window.ONE_HOUR: "hour", Window.SIX_HOURS: "six hours", Window.ONE_DAY: "day"}
_MANY: Final = {Window.ONE_HOUR: "hours", Window.SIX_HOURS: "six-hour windows", Window.ONE_DAY: "days"}
_EVERY: Final = {Window.ONE_HOUR: "in an hour", Window.SIX_HOURS: "in six hours", Window.ONE_DAY: "in a day"}

EARLY: Final = "That was counted before the window ended; its final count may be higher."
"""Said where it may be so."""


class _BoundWords(NamedTuple):
    """The words for one bound in sentences about a threshold or a count."""

    beyond: str
    """The word for a count in breach, before the threshold: "above" 20."""
    breach: str
    """The words for flights in breach, before the threshold: "more than" 20."""
    within: str
    """The words for flights that are no breach, before the threshold: "at most" 20."""
    worst: str
    """The word for the worst of some counts, after "at": 35 at "most"."""


def _words_for(bound: Bound) -> _BoundWords:
    """Return the words for a bound."""
    match bound:
        case Bound.HIGH:
            return _BoundWords("above", "more than", "at most", "most")
        case Bound.LOW:
            return _BoundWords("below", "fewer than", "at least", "least")
        case _:
            assert_never(bound)


def number(value: int) -> str:
    return f"{value:,}"


def flights(direction: Direction, count: int | None = None) -> str:
    """What is counted, in the number that goes with a count."""
    match direction:
        case Direction.ARRIVALS:
            return "arrival" if count == 1 else "arrivals"
        case Direction.DEPARTURES:
            return "departure" if count == 1 else "departures"
        case Direction.BOTH:
            return "arrival or departure" if count == 1 else "arrivals and departures"


def counted(direction: Direction, count: int) -> str:
    return f"{number(count)} {flights(direction, count)}"


def windows(window: Window, how_many: int) -> str:
    """So many windows: "3 hours"."""
    if how_many == 1:
        return {Window.ONE_HOUR: "1 hour", Window.SIX_HOURS: "1 six-hour window", Window.ONE_DAY: "1 day"}[window]
    return f"{number(how_many)} {_MANY[window]}"


def level(bound: Bound, threshold: int) -> str:
    """A threshold in two words."""
    return f"{_words_for(bound).beyond} {number(threshold)}"


def what_is_watched(alert: Alert) -> str:
    """The interest's side that an alert is about: "Departures in an hour, more than 20"."""
    run = f", {windows(alert.window, alert.for_windows)} in a row" if alert.for_windows > 1 else ""
    what = flights(alert.direction).capitalize()
    return f"{what} {_EVERY[alert.window]}: {_words_for(alert.bound).breach} {number(alert.threshold)}{run}"


def place(icao: str) -> tuple[str, str]:
    """The name and the city of an airport; the code and the empty text of one that is not known."""
    known = find_airport(icao)
    return (known.name, known.city) if known is not None else (icao, "")


def place_in_a_sentence(icao: str) -> str:
    name, city = place(icao)
    if name == icao:
        return icao
    return f"{name} ({icao}){f', {city},' if city else ''}"


def status(alert: Alert) -> str:
    """What is so since an alert, in a few words."""
    match alert.state:
        case AlertState.FIRING:
            return f"{_words_for(alert.bound).beyond.capitalize()} your level"
        case AlertState.STILL:
            return f"Still {_words_for(alert.bound).beyond} your level"
        case AlertState.RESOLVED:
            return "Back to normal"
        case AlertState.WITHDRAWN:
            return "Correction"


def tone(alert: Alert) -> str:
    """The colour that goes with the status, by the name of its class in the templates."""
    match alert.state:
        case AlertState.RESOLVED:
            return "calm"
        case AlertState.WITHDRAWN:
            return "plain"
        case AlertState.FIRING | AlertState.STILL:
            return alert.bound.value


def comparison(alert: Alert) -> str:
    """The count against the threshold, to be read after the count."""
    said = f"{_words_for(alert.bound).breach} your level of {number(alert.threshold)}"
    match alert.state:
        case AlertState.FIRING:
            return said
        case AlertState.STILL:
            return f"still {said}"
        case AlertState.RESOLVED:
            return f"no longer {said}"
        case AlertState.WITHDRAWN:
            return f"not {said}"


def statement(alert: Alert) -> str:
    """The whole alert in a sentence or two."""
    where, what = place_in_a_sentence(alert.airport), counted(alert.direction, alert.count)
    match alert.state:
        case AlertState.FIRING | AlertState.STILL:
            return f"{where} had {what}: {comparison(alert)}."
        case AlertState.RESOLVED:
            return f"{where} is back to normal. It had {what}: {comparison(alert)}."
        case AlertState.WITHDRAWN:
            return f"{taken_back(alert)} {where} had {what}: {comparison(alert)}."


def taken_back(alert: Alert) -> str:
    wrote = f" We wrote {number(alert.withdrawn_count)}." if alert.withdrawn_count is not None else ""
    return f"We take back an earlier alert, because flights turned up late.{wrote}"


def standing(passed: int, over: int) -> str:
    """How things stand at last: of how many levels traffic is on the wrong side, of how many on the right one."""
    if not over:
        return "One of your levels is passed" if passed == 1 else f"{passed} of your levels are passed"
    if not passed:
        return "Back to normal"
    return f"{passed} of your levels {'is' if passed == 1 else 'are'} passed, {over} back to normal"


def story(spell: Spell, topic: Topic) -> str:
    """A breach from its beginning to its end, as far as it is told: "above 20 for 3 hours: 24 to 30 departures"."""
    first, last = spell.alerts[0], spell.alerts[-1]
    limit = level(first.bound, first.threshold)
    if spell.is_correction:
        wrote = last.withdrawn_count if len(spell.alerts) == 1 else None
        instead = f", not {number(wrote)}" if wrote is not None else ""
        return f"correction: {_range([each.count for each in spell.alerts], last)}{instead}; not {limit}"
    if not spell.breaches:
        return f"back to normal: {counted(last.direction, last.count)}, not {limit}"
    how_many = (spell.end - spell.begin) // first.window.length
    run = f" for {windows(first.window, how_many)}" if how_many > 1 else ""
    still = "still " if first.state is AlertState.STILL else ""
    counts = topic.counts_within(spell)
    open_end = first.bound.can_breach_while_open and counts == [first.threshold + 1] and spell.resolved is None
    breach = f"{still}{limit}{run}: {'at least ' if open_end else ''}{_range(counts, first)}"
    return f"{breach}, then back to normal with {number(last.count)}" if spell.resolved is not None else breach


def _range(counts: Sequence[int], alert: Alert) -> str:
    low, high = min(counts), max(counts)
    if low == high:
        return counted(alert.direction, low)
    return f"{number(low)} to {number(high)} {flights(alert.direction)}"


def background(alert: Alert, now: datetime) -> list[str]:
    """What happened before, and what else is to be known; a sentence each."""
    said = []
    if (
        alert.bound.can_breach_while_open
        and alert.state in (AlertState.FIRING, AlertState.STILL)
        and _may_be_early(alert)
    ):
        ended = now >= alert.window_start + alert.window.length
        said.append(EARLY if ended else "The window has not ended yet; its final count may be higher.")
    run = _run_before(alert)
    if alert.state is AlertState.FIRING and alert.for_windows > 1:
        said.append(
            f"It has been so for {windows(alert.window, alert.for_windows)} in a row, which is when you wanted to know."
        )
    elif alert.state is AlertState.STILL and run:
        said.append(f"It has been {level(alert.bound, alert.threshold)} {_for(alert, run + 1)} now.")
    elif alert.state is AlertState.RESOLVED and run:
        past = [each for each in alert.earlier[-run:] if each is not None]
        peak = alert.bound.worst_of(past)
        most = f", with {number(peak)} at {_words_for(alert.bound).worst}" if run > 1 else ""
        said.append(f"Before, it was {level(alert.bound, alert.threshold)} {_for(alert, run)}{most}.")
    known = [each for each in alert.earlier if each is not None]
    if known and alert.earlier[-1] is not None and not (alert.state is AlertState.RESOLVED and run):
        said.append(f"The {_ONE[alert.window]} before had {number(alert.earlier[-1])}.")
    if len(known) > 1:
        low, high = min(known), max(known)
        what = f"always {number(low)}" if low == high else f"between {number(low)} and {number(high)}"
        said.append(f"In the {windows(alert.window, len(alert.earlier))} before, it was {what}.")
    return said


def times(alert: Alert, clock: Clock) -> list[tuple[str, str, str]]:
    """Whose time, the window in it, and the zone's name: UTC and, where that is another time, the reader's."""
    start, end = alert.window_start, alert.window_start + alert.window.length
    told = [("UTC", clock.span(start, end, UTC), "")]
    zone = clock.local(start)
    if zone is not None:
        told.append(("Your time", clock.span(start, end, zone), zone.key))
    return told


def chart_in_words(alert: Alert, counts: list[int | None]) -> str:
    """What a chart shows, for those who do not see it."""
    shown = ", ".join("unknown" if each is None else number(each) for each in counts)
    limit = f"{_words_for(alert.bound).within} {number(alert.threshold)}"
    return (
        f"{flights(alert.direction).capitalize()} at {alert.airport} {_EVERY[alert.window]}, the latest last: {shown}. "
        f"Within your level: {limit}."
    )


def _may_be_early(alert: Alert) -> bool:
    """An early high tells the count that passed the threshold; a larger one is the count of a window that has ended."""
    return alert.count == alert.threshold + 1


def _run_before(alert: Alert) -> int:
    """How many of the windows right before were past the threshold, as far as they are told."""
    run = 0
    for count in reversed(alert.earlier):
        if count is None or not alert.bound.is_breached(count, alert.threshold):
            break
        run += 1
    return run


def _for(alert: Alert, run: int) -> str:
    at_least = "at least " if _run_before(alert) == len(alert.earlier) else ""
    return f"for {at_least}{windows(alert.window, run)}"
