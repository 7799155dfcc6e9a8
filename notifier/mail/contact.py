"""The recipient of a mail, and the cleaning of names and links before they go into a mail."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from chassis.text import clean_line
from notifier.errors import UnprintableLink

_LINK: Final = re.compile(r"https?://[!#-;=?-~]+")
"""A link that may stand between angle brackets (RFC 2369) and between quotation marks: printable ASCII without both."""

_MAX_LINK_LENGTH: Final = 900
"""Characters; together with the header's name a line must stay under 998 (RFC 5322, 2.1.1)."""

_MAX_NAME_LENGTH: Final = 100
"""Characters; user_manager accepts no longer name."""

ENCODED_WORD_START: Final = "=?"
"""The two characters that begin an encoded word (RFC 2047)."""


@dataclass(frozen=True, slots=True)
class InterestLinks:
    """The links to one interest: to the page on which its owner changes it, and to the page that stops it."""

    change_url: str = ""
    """The link to the page that changes the interest; empty: no such link."""
    stop_url: str = ""
    """The link that removes the interest, by GET (shows a question) and POST (at once); empty: no such link."""


@dataclass(frozen=True, slots=True)
class Contact:
    """The recipient of a mail: a user's address, name, time zone and mail settings."""

    user_id: UUID
    email: str
    name: str
    time_zone: str
    """IANA name; a name that this machine does not know counts as no time zone."""
    confirmed: bool
    paused: bool
    confirm_url: str
    """The link that confirms the address; empty when the address is confirmed already."""
    unsubscribe_url: str = ""
    """The link that stops all alerts, by GET (shows a question) and POST (at once); empty: no such link."""
    suppressed: bool = False
    """True after mail to the address bounced: then only a confirmation mail may be sent, and only with its link."""
    token_url: str = ""
    """The link to a new token, in place of `confirm_url` if the address has a confirmed account; empty: no link."""
    sign_in_url: str = ""
    """The link that signs in, in place of `token_url` if somebody asked to sign in; empty: no link."""
    stop_url: str = ""
    """The link "this was not me", which stops mails about accounts, by GET and POST; empty: no such link."""
    without_corrections: bool = False
    """True if the person wants no mails about what the settled record corrects."""
    language: str = ""
    """Tag of the language of mails to the person, "it"; empty or without a catalogue: English."""
    interest_links: Mapping[UUID, InterestLinks] = field(default_factory=dict)
    """The links to interests that mails to the user are about, by the interest's id."""


def sanitize_name(name: str) -> str:
    """Return a user's name as one line that is safe in a header and in a text; empty if the eye sees nothing of it.

    Nothing is cut off that user_manager accepts. The beginning of an encoded word (RFC 2047) is broken up: such a word
    can contain a line's end, and `email` decodes it anywhere in a header.
    """
    return clean_line(name[:_MAX_NAME_LENGTH]).replace(ENCODED_WORD_START, "= ?")


def sanitize_link(url: str) -> str:
    """Return the link unchanged if a header and an HTML page can hold it, else the empty text.

    A valid link begins with http:// or https://, is printable ASCII without spaces, quotation marks and angle brackets,
    and has at most 900 characters.
    """
    return url if is_printable_link(url) else ""


def is_printable_link(url: str) -> bool:
    """Return True if a header and an HTML page can hold the link (see `sanitize_link`); False for the empty text."""
    return len(url) <= _MAX_LINK_LENGTH and _LINK.fullmatch(url) is not None


def require_link(url: str) -> str:
    """Return the link of a mail that is of no use without it, unchanged. Raises UnprintableLink."""
    if not is_printable_link(url):
        raise UnprintableLink("the mail's link cannot be printed; correct the PUBLIC_URL of user_manager")
    return url
