"""The sentences of the mails of notices: the same in the text and in the HTML."""

from domain.airports import find_former_name
from domain.notices import RetiredNotice, UnheardNotice, describe_unheard
from notifier.mail.times import ReaderTimes
from notifier.mail.wording import find_airport_names, format_airport


def format_unheard_statement(notice: UnheardNotice) -> str:
    """Return the main sentence of a notice: the source has given no flight of an airport, and since when."""
    return describe_unheard(format_airport(notice.airport), notice.since)


def explain_unheard(notice: UnheardNotice, reader_times: ReaderTimes) -> list[str]:
    """Return the sentences that explain a notice: since when the source was asked, and that no alert will come.

    The time is in UTC and, where it differs, in the reader's time zone.
    """
    zone = reader_times.local_zone(notice.since)
    began = f"{reader_times.format_moment(notice.since)} UTC"
    if zone is not None:
        began += f" ({reader_times.format_moment(notice.since, zone)} in your time zone, {zone.key.replace('_', ' ')})"
    return [
        f"Towerwatch has asked for all arrivals and departures since {began}.",
        f"No alert about {notice.airport} will come until flights are reported there. That goes for too few flights, "
        "too: no report does not mean that nobody flies.",
        f"Once flights are reported, Towerwatch begins to watch {notice.airport} by itself. Your levels stay as they "
        "are; there is nothing that you need to do.",
    ]


def name_retired_airport(notice: RetiredNotice) -> str:
    """Return the name of the airport whose code was retired; its former code if no name is known."""
    name = find_airport_names(notice.successor)[0] if notice.successor else ""
    if name and name != notice.successor:
        return name
    return find_former_name(notice.airport) or notice.airport


def format_retired_statement(notice: RetiredNotice) -> str:
    """Return the main sentence of a notice about a retired code: that no airport has it, and which code leads on."""
    name = name_retired_airport(notice)
    if notice.successor:
        _, city = find_airport_names(notice.successor)
        place = "the airport" if name == notice.airport else f"{name}, {city}," if city else name
        return f"No airport has the code {notice.airport} any more: {place} has the code {notice.successor} now."
    named = "" if name == notice.airport else f"; it was that of {name}"
    return f"No airport has the code {notice.airport} any more{named}."


def explain_retirement(notice: RetiredNotice) -> str:
    """Return in two sentences what a retired code means for the interests under it."""
    return (
        f"Towerwatch does not collect the flights of {notice.airport} any more, so no alert about it will come. "
        "What you have set there is kept until you remove it."
    )
