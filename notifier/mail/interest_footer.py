"""The end of a mail of alerts: links to change or stop each interest that it is about, and List-Unsubscribe."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from chassis.texts import Texts
from domain.alerts import Alert
from notifier.mail.contact import Contact, InterestLinks, is_printable_link, sanitize_link
from notifier.mail.summary import ThresholdSummary
from notifier.mail.wording import describe_level, name_traffic


@dataclass(frozen=True, slots=True)
class InterestFooter:
    """The lines about one interest at the end of a mail."""

    interest_id: UUID
    """Shown only where there is no link that changes the interest."""
    description: str
    """What it watches: "KJFK, departures in an hour: more than 20 and fewer than 5"."""
    change_url: str
    """Empty: no link that can stand in a mail."""
    stop_url: str
    """Empty: no link that can stand in a mail."""


def build_footers(texts: Texts, summaries: Sequence[ThresholdSummary], contact: Contact) -> list[InterestFooter]:
    """Return the footer of each interest that a mail shows, once, in the order of their first thresholds."""
    by_interest: dict[UUID, list[Alert]] = {}
    for summary in summaries:
        by_interest.setdefault(summary.latest.interest_id, []).append(summary.latest)
    links = contact.interest_links
    return [_build_footer(texts, interest_id, alerts, links) for interest_id, alerts in by_interest.items()]


def find_unsubscription_url(alerts: Iterable[Alert], contact: Contact) -> str:
    """Return the link for List-Unsubscribe: it stops what the mail is about if that is one interest, else all alerts.

    `alerts`: those that the mail tells. All alerts also if there is no link, fit for a mail, that stops the interest.
    """
    interests = {each.interest_id for each in alerts}
    if len(interests) == 1:
        stop_url = contact.interest_links.get(interests.pop(), InterestLinks()).stop_url
        if is_printable_link(stop_url):
            return stop_url
    return contact.unsubscribe_url


def _build_footer(
    texts: Texts, interest_id: UUID, alerts: Sequence[Alert], links: Mapping[UUID, InterestLinks]
) -> InterestFooter:
    """Return the footer of an interest; `alerts`: one for each of its thresholds."""
    first, *others = dict.fromkeys(describe_level(texts, each) for each in alerts)
    levels = first
    for level in others:
        levels = texts.get("and", one=levels, other=level)
    traffic = name_traffic(texts, alerts[0])
    own = links.get(interest_id, InterestLinks())
    return InterestFooter(
        interest_id=interest_id,
        description=texts.get(
            "interest", airport=alerts[0].airport, traffic=f"{traffic[0].lower()}{traffic[1:]}", levels=levels
        ),
        change_url=sanitize_link(own.change_url),
        stop_url=sanitize_link(own.stop_url),
    )
