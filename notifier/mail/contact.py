"""Whom a mail goes to."""

import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

_LINK: Final = re.compile(r"https?://[!#-;=?-~]+")
"""What may stand between angle brackets (RFC 2369) and between quotation marks: printable ASCII, without those."""

_LONGEST_LINK: Final = 900
"""Characters; with its name a header's line must stay under 998 (RFC 5322, 2.1.1)."""

_LONGEST_NAME: Final = 60

ENCODED_WORD: Final = "=?"
"""How one begins."""


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
    unsubscribe_url: str = ""
    """The link that stops all alerts, by GET (asks) and POST (at once); empty: there is none."""
    suppressed: bool = False
    """Whether mail to the address came back: only a confirmation mail may go there, if there is a link for it."""


def printable(name: str) -> str:
    """A name in one line, without what could end a header or turn the writing around.

    Nor does it hold the beginning of an encoded word (RFC 2047), which can spell a line's end: `email` decodes it
    wherever it stands.
    """
    kept = "".join(character if character.isprintable() else " " for character in name)
    return " ".join(kept.split()).replace(ENCODED_WORD, "= ?")[:_LONGEST_NAME].rstrip()


def link(url: str) -> str:
    """A link as it is, if it can stand in a header and on a page; else the empty text."""
    return url if len(url) <= _LONGEST_LINK and _LINK.fullmatch(url) else ""
