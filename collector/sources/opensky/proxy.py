"""The proxy by which OpenSky is asked: OPENSKY_PROXY, or the machine's usual proxy variables.

A source on this machine (the replay) is always asked directly. Errors never repeat a value, which may hold a password.
"""

import ipaddress
import os
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from chassis.addresses import join_host_and_port, split_host_and_port

_SCHEMES: Final = ("http", "https")
_EXAMPLE: Final = "http://proxy.example.org:3128"


def find_proxy(url: str, given: str | None) -> httpx.Proxy | None:
    """Return the proxy for requests to `url`, or None if they go directly.

    `given` is the value of OPENSKY_PROXY. Without it the variables `https_proxy` (`http_proxy` for an http URL),
    `all_proxy` and `no_proxy` count, in lower case first, as they do for curl. Raises ValueError if the proxy's address
    cannot be used.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _is_this_machine(host):
        return None
    if given:
        return parse_proxy(given)
    proxies = getproxies()
    kind = parts.scheme if proxies.get(parts.scheme) else "all"
    if not proxies.get(kind) or proxy_bypass(host):
        return None
    try:
        return parse_proxy(proxies[kind])
    except ValueError as error:
        raise ValueError(f"is not set, so {_find_variable(kind)} counts, which {error}") from None


def parse_proxy(text: str) -> httpx.Proxy:
    """Parse the address of an http or https proxy: `[scheme://][user:password@]host[:port]`.

    Without a scheme it is http. A password may have `@` and `:` in it as they are, other special characters as `%xx`.
    Raises ValueError.
    """
    scheme, separator, authority = text.strip().partition("://")
    if not separator:
        scheme, authority = "http", scheme
    if scheme.lower() not in _SCHEMES:
        raise ValueError(f"must be an http proxy, like {_EXAMPLE}; SOCKS and other proxies are not supported")
    authority = authority.removesuffix("/")
    if any(each in authority for each in "/?#"):
        raise ValueError(f"must be like {_EXAMPLE}, without a path; write / ? # of a password as %2F %3F %23")
    user, has_user, address = authority.rpartition("@")
    try:
        host, port = split_host_and_port(address)
    except ValueError as error:
        raise ValueError(f"must be like {_EXAMPLE} (a part of it {error})") from None
    name, _, password = user.partition(":")
    where = join_host_and_port(host, port) if port is not None else f"[{host}]" if ":" in host else host
    return httpx.Proxy(
        f"{scheme.lower()}://{where}", auth=(unquote(name), unquote(password)) if has_user and user else None
    )


def _is_this_machine(host: str) -> bool:
    """Return True if a host is a loopback address, or a name of one (RFC 6761, 6.3), else False."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        name = host.removesuffix(".").lower()
        return name == "localhost" or name.endswith(".localhost")


def _find_variable(kind: str) -> str:
    """Return the name of the variable that sets the proxy of this kind, as it is spelled in the environment."""
    names = (f"{kind}_proxy", *(name for name in os.environ if name.lower() == f"{kind}_proxy"))
    return next((name for name in names if os.environ.get(name)), "the system's proxy")
