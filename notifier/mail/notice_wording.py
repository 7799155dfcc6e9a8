"""The sentences of the mails of notices, in the reader's language: the same in the text and in the HTML."""

from datetime import UTC

from chassis.texts import Texts
from domain.airports import find_former_name
from domain.notices import RetiredNotice, UnheardNotice
from notifier.mail.times import ReaderTimes
from notifier.mail.wording import find_airport_names, format_airport


def format_unheard_statement(texts: Texts, notice: UnheardNotice) -> str:
    """Return the main sentence of a notice: the source has given no flight of an airport, and since when."""
    day = texts.format_date(notice.since.astimezone(UTC), "date.full")
    return texts.get("unheard.statement", place=format_airport(notice.airport), day=day)


def explain_unheard(notice: UnheardNotice, reader_times: ReaderTimes) -> list[str]:
    """Return the sentences that explain a notice: since when the source was asked, and that no alert will come.

    The time is in UTC and, where it differs, in the reader's time zone.
    """
    texts, zone = reader_times.texts, reader_times.local_zone(notice.since)
    moment = reader_times.format_moment(notice.since)
    if zone is None:
        began = texts.get("unheard.since", moment=moment)
    else:
        local = reader_times.format_moment(notice.since, zone)
        began = texts.get("unheard.since.local", moment=moment, local=local, zone=zone.key.replace("_", " "))
    return [
        began,
        texts.get("unheard.no_alert", airport=notice.airport),
        texts.get("unheard.then", airport=notice.airport),
    ]


def name_retired_airport(notice: RetiredNotice) -> str:
    """Return the name of the airport whose code was retired; its former code if no name is known."""
    name = find_airport_names(notice.successor)[0] if notice.successor else ""
    if name and name != notice.successor:
        return name
    return find_former_name(notice.airport) or notice.airport


def format_retired_statement(texts: Texts, notice: RetiredNotice) -> str:
    """Return the main sentence of a notice about a retired code: that no airport has it, and which code leads on."""
    name = name_retired_airport(notice)
    if notice.successor:
        _, city = find_airport_names(notice.successor)
        known = f"{name}, {city}," if city else name
        place = texts.get("retired.the_airport") if name == notice.airport else known
        return texts.get("retired.successor", former=notice.airport, place=place, successor=notice.successor)
    key = "retired.none" if name == notice.airport else "retired.none.named"
    return texts.get(key, former=notice.airport, name=name)
