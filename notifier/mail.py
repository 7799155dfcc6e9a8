"""Alerts and confirmations as mail. Pure: the time is handed in; nothing here sends."""

import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from email.errors import MessageError
from email.header import Header
from email.headerregistry import Address, AddressHeader, UnstructuredHeader
from email.message import EmailMessage
from email.policy import EmailPolicy
from typing import Final
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from domain.airports import airport
from domain.alerts import Alert, Bound, State
from domain.interests import Direction
from domain.windows import Window
from notifier.alert_header import ALERT_HEADER, CAUSE_HEADER, alert_header, cause_header, told
from notifier.errors import PermanentlyRefused

_LONGEST_NAME: Final = 60
_LINE: Final = 76

_RUN: Final = {Window.ONE_HOUR: "hours", Window.SIX_HOURS: "six-hour windows", Window.ONE_DAY: "days"}
_SHORT: Final = {Bound.HIGH: "above", Bound.LOW: "below"}
_LONG: Final = {Bound.HIGH: "more than", Bound.LOW: "fewer than"}


class _Wire(EmailPolicy):
    """Folds headers with `email.header`: the newer code of Python 3.11 changes the spaces of what it folds."""

    def fold_binary(self, name: str, value: str) -> bytes:
        if isinstance(value, UnstructuredHeader):
            return f"{name}: {self._folded(name, value)}{self.linesep}".encode()
        if isinstance(value, AddressHeader) and not (self.utf8 or value.isascii()):
            [mailbox] = value.addresses
            folded = self._folded(name, mailbox.display_name)
            return f"{name}: {folded}{self.linesep} <{mailbox.addr_spec}>{self.linesep}".encode()
        return super().fold_binary(name, value)

    def _folded(self, name: str, text: str) -> str:
        charset = "us-ascii" if text.isascii() else "utf-8"
        return Header(text, charset, header_name=name).encode(linesep=self.linesep)


_WIRE: Final = _Wire(linesep="\r\n")

_EARLY: Final = "If the window had not ended yet when your level was passed, its final count may be higher."


@dataclass(frozen=True, slots=True)
class Contact:
    """Whom a mail goes to."""

    user_id: UUID
    email: str
    name: str
    time_zone: str
    """IANA name; one that this machine does not know counts as none."""
    confirmed: bool
    paused: bool
    confirm_url: str
    """Empty when the address is confirmed."""


def alert_mail(
    alert: Alert, contact: Contact, sender: Address, now: datetime, cause_published_at: datetime
) -> EmailMessage:
    """The mail that tells an alert. Its Message-ID is the same each time. Raises PermanentlyRefused for an
    address that no mail can be written to."""
    mail = _mail(contact, sender, now, str(alert.alert_id))
    mail["Subject"] = subject(alert)
    mail[ALERT_HEADER] = alert_header(told(alert))
    mail[CAUSE_HEADER] = cause_header(cause_published_at)
    _set_text(mail, contact, *_paragraphs(alert, contact))
    return mail


def confirmation_mail(contact: Contact, confirmation_id: str, sender: Address, now: datetime) -> EmailMessage:
    """The mail with the link that confirms an address. Raises PermanentlyRefused as `alert_mail` does."""
    mail = _mail(contact, sender, now, str(uuid5(contact.user_id, confirmation_id)))
    mail["Subject"] = "Confirm your address for Towerwatch"
    _set_text(
        mail,
        contact,
        "Please confirm that this address is yours by following this link:",
        contact.confirm_url,
        "Until then Towerwatch sends you no alerts. If it was not you who registered, ignore this mail: nothing else "
        "will come.",
    )
    return mail


def subject(alert: Alert) -> str:
    """An alert in one line."""
    counted = f"{alert.count} {_flights(alert.direction, alert.count)}"
    level = f"{_SHORT[alert.bound]} {alert.threshold}"
    run = f" for {alert.for_windows} {_RUN[alert.window]} in a row" if alert.for_windows > 1 else ""
    when = f"{_span(alert, UTC)} UTC"
    match alert.state:
        case State.FIRING:
            said = f"{counted}, {level}{run}, {when}"
        case State.STILL:
            said = f"{counted}, still {level}, {when}"
        case State.RESOLVED:
            said = f"back to normal, {counted}, {when} (threshold: {level})"
        case State.WITHDRAWN:
            before = f" (not {alert.withdrawn_count})" if alert.withdrawn_count is not None else ""
            said = f"correction, {counted}{before}, not {level}, {when}"
    return f"{alert.airport}: {said}"


def _paragraphs(alert: Alert, contact: Contact) -> list[str]:
    run = f"{alert.for_windows} {_RUN[alert.window]} in a row"
    paragraphs = [_statement(alert), _when(alert, contact.time_zone)]
    if alert.for_windows > 1 and alert.state is State.FIRING:
        paragraphs.append(f"It has been so for {run}, which is when you wanted to know; the time above is the last.")
    elif alert.for_windows > 1 and alert.state is State.RESOLVED:
        paragraphs.append(f"You were told because it had been otherwise for {run}.")
    if alert.bound is Bound.HIGH and alert.state in (State.FIRING, State.STILL):
        paragraphs.append(_EARLY)
    paragraphs.append(
        "You get this mail because you asked Towerwatch to watch this airport. To change your level, or to stop these "
        f"alerts, change or remove the interest {alert.interest_id} in Towerwatch; to have silence for a while, pause "
        "your account's alerts there."
    )
    return paragraphs


def _statement(alert: Alert) -> str:
    place = _place(alert.airport)
    counted = f"{alert.count} {_flights(alert.direction, alert.count)}"
    level = f"{_LONG[alert.bound]} your level of {alert.threshold}"
    match alert.state:
        case State.FIRING:
            return f"{place} had {counted}: {level}."
        case State.STILL:
            return f"{place} had {counted}: still {level}."
        case State.RESOLVED:
            return f"{place} is back to normal. It had {counted}: no longer {level}."
        case State.WITHDRAWN:
            before = f", not {alert.withdrawn_count} as we wrote" if alert.withdrawn_count is not None else ""
            return (
                f"We take back an earlier alert, because flights turned up late. {place} had {counted}{before}: "
                f"not {level}."
            )


def _place(icao: str) -> str:
    known = airport(icao)
    if known is None:
        return icao
    return f"{known.name} ({icao})" + (f", {known.city}," if known.city else "")


def _flights(direction: Direction, count: int) -> str:
    match direction:
        case Direction.ARRIVALS:
            return "arrival" if count == 1 else "arrivals"
        case Direction.DEPARTURES:
            return "departure" if count == 1 else "departures"
        case Direction.BOTH:
            return "arrival or departure" if count == 1 else "arrivals and departures"


def _when(alert: Alert, time_zone: str) -> str:
    """The window in UTC and, where that is another time, on the reader's clock."""
    times = [f"{_span(alert, UTC)} UTC"]
    zone = _zone(time_zone)
    if zone is not None and alert.window_start.astimezone(zone).utcoffset() != UTC.utcoffset(None):
        times.append(f"{_span(alert, zone)} in your time zone, {time_zone}")
    return "\n".join(times)


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # not a name at all, a directory of names, an unknown name
        return None


def _span(alert: Alert, zone: tzinfo) -> str:
    """A window on the clocks of a zone: the date alone where it is that whole day."""
    start, end = (moment.astimezone(zone) for moment in (alert.window_start, alert.window_start + alert.window.length))
    midnight = f"{end:%H:%M}" == "00:00"
    if midnight and f"{start:%H:%M}" == "00:00" and alert.window is Window.ONE_DAY:
        return f"{start:%Y-%m-%d}"
    if start.date() == end.date():
        return f"{start:%Y-%m-%d %H:%M}–{end:%H:%M}"
    if midnight and (end.date() - start.date()).days == 1:
        return f"{start:%Y-%m-%d %H:%M}–24:00"  # ISO 8601's end of a day
    return f"{start:%Y-%m-%d %H:%M} – {end:%Y-%m-%d %H:%M}"


def _mail(contact: Contact, sender: Address, now: datetime, unique: str) -> EmailMessage:
    mail = EmailMessage(policy=_WIRE)
    mail["Date"] = now
    mail["From"] = sender
    mail["To"] = _recipient(contact)
    mail["Message-ID"] = f"<{unique}@{sender.domain}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday replies, please
    return mail


def _recipient(contact: Contact) -> Address:
    try:
        if contact.email.isascii():
            return Address(_printable(contact.name), addr_spec=contact.email)
        local_part, _, domain = contact.email.rpartition("@")  # RFC 6531, which `addr_spec` refuses
        if not (local_part and domain):
            raise ValueError
        return Address(_printable(contact.name), local_part, domain)
    except (MessageError, ValueError, LookupError):  # `email` raises any of them for text that is no address
        raise PermanentlyRefused("the address cannot be written in a mail") from None


def _printable(name: str) -> str:
    """A name in one line, without what could end a header or turn the writing around."""
    kept = "".join(character if character.isprintable() else " " for character in name)
    return " ".join(kept.split())[:_LONGEST_NAME].rstrip()


def _set_text(mail: EmailMessage, contact: Contact, *paragraphs: str) -> None:
    name = _printable(contact.name)
    greeting = f"Hello {name}," if name else "Hello,"
    text = "\n\n".join((greeting, *paragraphs)) + "\n"
    wrapped = (textwrap.fill(line, _LINE, break_long_words=False, break_on_hyphens=False) for line in text.split("\n"))
    # Quoted-printable passes any server unchanged, whatever the name's alphabet.
    mail.set_content("\n".join(wrapped), cte="quoted-printable")
