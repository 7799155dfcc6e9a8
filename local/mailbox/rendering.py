"""The mailbox's pages as HTML: everything that comes from a mail is escaped, and shown as text."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from local.mailbox.html_part import SANDBOX
from local.mailbox.links import split_links
from local.mailbox.parsing import MailSummary, ParsedMail

_CONTENT_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that the pages load."""

    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class ListedMail:
    """A mail in the list."""

    key: str
    delivered_at: datetime
    summary: MailSummary


def _load_static_files() -> dict[str, StaticFile]:
    """Read the files of the folder `static` into memory, by name; those of an unknown content type are left out."""
    return {
        path.name: StaticFile(_CONTENT_TYPES[ending], path.read_bytes())
        for path in (files("local.mailbox") / "static").iterdir()
        if (ending := path.name.rpartition(".")[2]) in _CONTENT_TYPES
    }


STATIC_FILES: Final = _load_static_files()

_TEMPLATES: Final = Environment(
    loader=PackageLoader("local.mailbox"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip
_TEMPLATES.globals.update(
    sandbox=SANDBOX,
    split_links=split_links,
    version=hashlib.sha256(b"".join(STATIC_FILES[name].body for name in sorted(STATIC_FILES))).hexdigest()[:12],
)
_TEMPLATES.filters.update(
    time=lambda instant: f"{instant:%a %-d %b %Y %H:%M:%S}",
    iso=lambda instant: instant.isoformat(timespec="seconds"),
    number=lambda count: f"{count:,}",
)


def render_list(mails: list[ListedMail], total: int, page: int, pages: int) -> str:
    """Render one page of the list. `mails`: newest first; `total`: the number of mails on all pages."""
    return _TEMPLATES.get_template("list.html").render(mails=mails, total=total, page=page, pages=pages)


def render_mail(
    listed: ListedMail, parsed: ParsedMail, source: str | None, newer: str | None, older: str | None
) -> str:
    """Render one mail. `newer` and `older`: the keys of its neighbours in the list; None at an end of the list.

    `source`: the mail's source, shown if the mail has no readable part or is malformed; None: not shown.
    """
    return _TEMPLATES.get_template("mail.html").render(
        mail=listed, parsed=parsed, source=source, newer=newer, older=older
    )


def render_error(title: str, detail: str) -> str:
    """Render a page that says why there is nothing else to see."""
    return _TEMPLATES.get_template("error.html").render(title=title, detail=detail)
