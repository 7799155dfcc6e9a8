"""The addresses of sources that speak readsb's JSON, from the setting LIVE_URLS: checked at the start. Pure.

The errors say what is wrong with which address, by its number; they never repeat it, since it may hold a password.
"""

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import httpx

from chassis.addresses import split_http_url
from collector.sources.regions import LARGEST_RADIUS_NM, Circle

_PLACEHOLDERS: Final = ("{lat}", "{lon}", "{nm}")
_FIXED_RADIUS: Final = re.compile(r"/(?:point/[^/]+/[^/]+|dist)/([0-9]+)(?:[/?]|$)")
"""The radius of a `/v2/point` address (adsb.lol) or of a `/v2/…/dist` address (adsb.fi) without placeholders."""
_SAFE: Final = "/%:=&~+!$,;'@()*?{}"
"""Characters besides letters, digits and _.- that may stand in a path or query as they are, and the placeholders'."""


@dataclass(frozen=True, slots=True)
class ReadsbAddress:
    """The address of a source: a file, a URL, or a URL's template that takes a region. Its `repr` is safe to log."""

    name: str
    """What logs and metrics call the source: `url-` and its number in the setting."""
    url: str = field(repr=False)
    """An http or https URL, or the path of a file."""
    is_file: bool
    takes_region: bool
    """True for a template, which is asked once for each region; False: the source has one answer for all."""

    @property
    def host(self) -> str:
        """The host that is asked, without port, user name and password; empty for a file."""
        return "" if self.is_file else urlsplit(self.url).hostname or ""

    def fill_in(self, region: Circle | None) -> str:
        """Return the URL with the region filled in; of a file its path.

        Raises ValueError if a region is missing for a template, or is given for an address that takes none.
        """
        if (region is not None) != self.takes_region:
            raise ValueError(f"{self.name} takes {'a' if self.takes_region else 'no'} region")
        if region is None:
            return self.url
        values = (f"{region.latitude:.4f}", f"{region.longitude:.4f}", str(region.radius_nm))
        url = self.url
        for placeholder, value in zip(_PLACEHOLDERS, values, strict=True):
            url = url.replace(placeholder, value)
        return url


def parse_addresses(text: str) -> tuple[ReadsbAddress, ...]:
    """Return the addresses of the setting, which are separated by commas. Raises ValueError, with all faults."""
    found: list[ReadsbAddress] = []
    numbers: dict[str, int] = {}
    faults: list[str] = []
    for number, each in enumerate((part.strip() for part in text.split(",")), start=1):
        try:
            address = _parse_address(f"url-{number}", each)
        except ValueError as error:
            faults.append(f"address {number} {error}")
            continue
        first = numbers.setdefault(address.url, number)
        if first != number:
            faults.append(f"address {number} is the same as address {first}; leave one out")
        found.append(address)
    if faults:
        raise ValueError("; ".join(faults))
    return tuple(found)


def _parse_address(name: str, text: str) -> ReadsbAddress:
    """Return one address. Raises ValueError whose text ends a sentence that begins with "address 2": "is empty: …"."""
    if not text:
        raise ValueError("is empty: put one comma between two addresses, and none at the end")
    if text.startswith("/"):
        return _parse_path(name, text)
    if text.lower().startswith("file:"):
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
            raise ValueError("must name a file of this machine, like file:///run/readsb/aircraft.json")
        return _parse_path(name, unquote(parts.path))
    return _parse_url(name, text)


def _parse_path(name: str, path: str) -> ReadsbAddress:
    """Return the address of a file. Raises ValueError for a path that is not absolute, or is a folder's."""
    if not path.startswith("/") or path.endswith("/") or not path.isprintable():
        raise ValueError("must name a file of this machine by its whole path, like /run/readsb/aircraft.json")
    return ReadsbAddress(name, str(PurePosixPath(path)), is_file=True, takes_region=False)


def _parse_url(name: str, text: str) -> ReadsbAddress:
    """Return the address of a URL, or of a template that takes a region. Raises ValueError, as `_parse_address`."""
    has_braces = "{" in text or "}" in text
    bare = text
    for placeholder in _PLACEHOLDERS:
        bare = bare.replace(placeholder, "0", 1)
    if has_braces and ("{" in bare or "}" in bare or any(each not in text for each in _PLACEHOLDERS)):
        raise ValueError("must have each of {lat}, {lon} and {nm} once, and no other braces, to ask by region")
    parts = split_http_url(bare)
    template = urlsplit(text)
    if has_braces and ("{" in template.netloc or "{" in template.fragment):
        raise ValueError("must have {lat}, {lon} and {nm} in its path or query, not in the host's name")
    fixed = _FIXED_RADIUS.search(parts.path)
    if not has_braces and fixed is not None and int(fixed[1][:9]) > LARGEST_RADIUS_NM:
        raise ValueError(f"asks for a radius that services do not take: {LARGEST_RADIUS_NM} nautical miles at most")
    path, query = quote(template.path, safe=_SAFE), quote(template.query, safe=_SAFE)
    url = parts._replace(path=path, query=query, fragment="").geturl()
    try:
        httpx.URL(url)
    except httpx.InvalidURL:
        raise ValueError("must be an http or https URL; write special characters of a password as %xx") from None
    return ReadsbAddress(name, url, is_file=False, takes_region=has_braces)
