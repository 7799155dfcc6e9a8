"""The client of a request: its address, also behind a trusted proxy, and the key under which its requests are counted.

Everything that needs a client's address gets it from here: the app sees it as `request.remote_addr`, a rate limit uses
`identify_client`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

_CLIENT_PREFIX: Final = 64
"""Bits that all IPv6 addresses of one client share: it has a /64 network or more (RFC 6177)."""

_NETWORK_PREFIXES: Final = {4: (24, 16), 6: (56, 48, 32)}
"""By IP version, the prefixes of the networks around a client that one organization may hold, from narrow to wide.

Of IPv6 a home has a /56 and a site a /48 (RFC 6177), and a provider a /32 (the least that the registries
allocate). Of IPv4 the least that is routed is a /24.
"""

_IPV4_WITHIN_IPV6: Final = tuple(map(IPv6Network, ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
"""The networks whose addresses stand for IPv4 addresses: mapped (RFC 4291, 2.5.5.2) and translated (RFC 6052, 7915)."""

_IPV4_IN_PREFIX: Final = ((IPv6Network("2002::/16"), 80, 0), (IPv6Network("2001::/32"), 0, 0xFFFF_FFFF))
"""The networks that hosts of IPv4 have by tunnels: 6to4 (RFC 3056, 2) and Teredo (RFC 4380, 4).

With the number of bits behind the IPv4 address, and what it is XORed with. One IPv4 host has a whole /48 of 6to4, which
would be 65,536 clients.
"""

_IPV4_COMPATIBLE: Final = range(1 << 24, 1 << 32)
"""The addresses `::a.b.c.d` as numbers (RFC 4291, 2.5.5.1), which some proxies still write; `::` and `::1` are none."""

_BRACKETED: Final = re.compile(r"\[(?P<address>[^\[\]]+)\](?::(?P<port>.*))?")
_PORT: Final = re.compile(r"[0-9]{0,5}|_[A-Za-z0-9._-]+")
"""A port, empty or not (RFC 3986, 3.2.3), or a hidden one (RFC 7239, 6.2)."""

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_PAIR: Final = rf"(?P<name>{_WORD})=(?P<value>{_QUOTED}|[^\s\",;=]*)"
_FORWARDED_PART: Final = re.compile(rf"[ \t]*(?:{_PAIR})?[ \t]*(?P<end>[,;]|\Z)")
"""One pair of the header Forwarded (RFC 7239, 4), or none, up to and with the separator behind it.

Other than there, a value without quotation marks may hold colons and brackets, as some proxies write addresses.
"""

UNIX_PEER: Final = "localhost"
"""The address that waitress gives to a peer on a Unix domain socket; every other peer has an IP address."""

_FORWARDED_HEADERS: Final = frozenset(
    f"HTTP_{name}"
    for name in (
        "FORWARDED", "X_FORWARDED_BY", "X_FORWARDED_FOR", "X_FORWARDED_HOST", "X_FORWARDED_PORT", "X_FORWARDED_PROTO"
    )
)  # fmt: skip

Environ = dict[str, Any]
WsgiApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address that a text means, or None if it means none.

    Accepted are the forms that proxies write: an address in brackets or quotation marks, with a port, with a zone
    (RFC 4007), with blanks around it. Brackets, port and zone are dropped. An IPv4 address that stands within IPv6
    (`::ffff:192.0.2.7`) is returned as IPv4.
    """
    text = text.strip(" \t")
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed is not None:
        return _parse_bare_address(bracketed["address"]) if _PORT.fullmatch(bracketed["port"] or "") else None
    found = _parse_bare_address(text)
    if found is None:  # only then: the end of an IPv6 address looks like a port
        without_port, _, port = text.rpartition(":")
        found = _parse_bare_address(without_port) if _PORT.fullmatch(port) else None
    return found


def _parse_bare_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address of a text without brackets and port, or None; see `parse_address`."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and (
        int(address) in _IPV4_COMPATIBLE or any(address in network for network in _IPV4_WITHIN_IPV6)
    ):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _find_tunneled_ipv4(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address of the host that has this IPv6 address by a tunnel; None if it is of no such tunnel."""
    for network, shift, mask in _IPV4_IN_PREFIX:
        if address in network:
            return IPv4Address(int(address) >> shift & 0xFFFF_FFFF ^ mask)
    return None


def identify_client(address: str) -> str:
    """Return the client that an IP address belongs to, as a text: an IPv4 address, or a /64 network of IPv6.

    Whoever has one IPv6 address has 2⁶⁴ of them (RFC 6177), so that a limit per address would be none. An address that
    a host of IPv4 has by 6to4 or Teredo is that host's. A text that is not an address is returned unchanged.
    """
    parsed = parse_address(address)
    if parsed is None:
        return address
    if isinstance(parsed, IPv6Address):
        parsed = _find_tunneled_ipv4(parsed) or parsed
    return str(parsed if isinstance(parsed, IPv4Address) else ip_network((parsed, _CLIENT_PREFIX), strict=False))


def find_networks_around(client: str) -> list[str]:
    """Return the networks around a client (`identify_client`), from narrow to wide; none for a text without address."""
    try:
        network = ip_network(client)
    except ValueError:
        return []
    return [str(network.supernet(new_prefix=prefix)) for prefix in _NETWORK_PREFIXES[network.version]]


def find_client_address(environ: Mapping[str, Any]) -> str | None:
    """Return the client's address by the headers of a proxy, without port and zone; None if they name no address.

    It is the last address of X-Forwarded-For or, without that header, of Forwarded (RFC 7239): the proxy added it, and
    the client itself may have sent those before it. `unknown`, `_hidden` and the like are no addresses, and a Forwarded
    that is malformed anywhere names none, because a client could have shaped it to hide what the proxy added.
    """
    listed = environ.get("HTTP_X_FORWARDED_FOR")
    if listed is None:
        named = _parse_last_forwarded(environ.get("HTTP_FORWARDED", "")).get("for", "")
    else:
        named = next((each for each in reversed(listed.split(",")) if each.strip(" \t")), "")
    address = parse_address(named)
    return None if address is None else str(address)


def find_client_scheme(environ: Mapping[str, Any]) -> str | None:
    """Return the scheme of the client's request by the proxy's headers, "http" or "https"; None if they name neither.

    It is the last one of X-Forwarded-Proto or, without that header, the `proto` of the last element of Forwarded.
    """
    listed = environ.get("HTTP_X_FORWARDED_PROTO")
    if listed is None:
        listed = _parse_last_forwarded(environ.get("HTTP_FORWARDED", "")).get("proto", "")
    scheme = listed.rpartition(",")[2].strip(' \t"').lower()
    return scheme if scheme in ("http", "https") else None


def _parse_last_forwarded(value: str) -> dict[str, str]:
    """Return the parameters of the last element of a header Forwarded, by lower-case names.

    Empty elements do not count. Returns an empty dict if the header is not in the form of RFC 7239, 4, or if an element
    has a parameter twice.
    """
    last: dict[str, str] = {}
    element: dict[str, str] = {}
    at = 0
    while at < len(value):
        part = _FORWARDED_PART.match(value, at)
        if part is None:
            return {}
        at = part.end()
        if part["name"] is not None:
            name, text = part["name"].lower(), part["value"]
            if name in element:
                return {}
            element[name] = re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text
        if part["end"] != ";" and element:
            last, element = element, {}
    return element or last


def check_trusted_proxy(text: str) -> str:
    """Return the setting of the trusted proxy: `*`, or its IP address in the usual form. Raises ValueError else."""
    if text == "*":
        return text
    address = None if text != text.strip() else parse_address(text)
    if address is None:
        raise ValueError("must be the IP address of the proxy, or * if only the proxy can connect")
    return str(address)


def is_trusted_peer(peer: str, trusted_proxy: str | None) -> bool:
    """Return True if the peer's address is the trusted proxy's (`check_trusted_proxy`), or any peer is trusted.

    A peer that came by a Unix domain socket is trusted: nobody else can enter the socket's folder.
    """
    if peer == UNIX_PEER:
        return True
    if trusted_proxy is None:
        return False
    return trusted_proxy == "*" or str(parse_address(peer)) == check_trusted_proxy(trusted_proxy)


def take_addresses_from_proxy(app: WsgiApp, trusted_proxy: str | None) -> WsgiApp:
    """Return a WSGI app that gives `app` the client's address and scheme as the trusted proxy's headers name them.

    `trusted_proxy` is the proxy's address, `*` for any peer, or None for no proxy; a peer on a Unix domain socket is
    trusted, too. Where the headers name no address, the address stays the peer's. The headers themselves are removed
    from every request.
    """
    trusted = None if trusted_proxy is None else check_trusted_proxy(trusted_proxy)

    def answer(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Replace the peer's address and the scheme by the client's if the peer is trusted, and call the app."""
        if is_trusted_peer(environ.get("REMOTE_ADDR", ""), trusted):
            address, scheme = find_client_address(environ), find_client_scheme(environ)
            if address is not None:
                environ["REMOTE_ADDR"] = environ["REMOTE_HOST"] = address
                environ.pop("REMOTE_PORT", None)
            if scheme is not None:
                environ["wsgi.url_scheme"] = scheme
                environ["SERVER_PORT"] = "443" if scheme == "https" else "80"
        for name in _FORWARDED_HEADERS & environ.keys():
            del environ[name]
        return app(environ, start_response)

    return answer
