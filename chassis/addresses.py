"""Host names, addresses, ports and URLs in settings: what can be seen to be wrong is refused at the start.

Each type here returns one spelling that every client takes: names in ASCII (an international name in Punycode), IPv6
addresses without brackets where a host stands alone, and with brackets before a port. The errors never repeat the
value, which may hold a password.
"""

import ipaddress
import re
from typing import Annotated, Final
from urllib.parse import SplitResult, quote, urlsplit

import idna
from pydantic import AfterValidator, BeforeValidator, Field

UNIX_SCHEME: Final = "unix:"
"""What a target begins with that is the path of a Unix domain socket."""
LONGEST_SOCKET_PATH: Final = 100
"""Bytes; the systems' own bounds are 103 (macOS) and 107 (Linux)."""

_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")
"""One label of a name: letters, digits, inner hyphens (RFC 1123), and underscores, which compose and DNS use."""
_LONGEST_LABEL: Final = 63
_LONGEST_NAME: Final = 253
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_BRACKETED: Final = re.compile(r"\[([^\[\]]*)\](?::(.*))?")
_IN_A_PATH: Final = "/%:=&~+!$,;'@()*?"
"""The characters besides letters, digits and _.- that may stand in a path or query as they are (RFC 3986)."""
_ANY_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def normalize_host(text: str) -> str:
    """Return a host name in ASCII, or an IP address in its canonical form without brackets.

    An international name is encoded in Punycode, and an IPv4 address that is mapped into IPv6 becomes IPv4. Raises
    ValueError, with what is wrong, for anything that no resolver takes.
    """
    _require_no_space(text)
    if _ANY_SCHEME.match(text) or "/" in text or "@" in text:
        raise ValueError("must be a host name or an IP address alone, without scheme, path or user")
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if "%" in bare:
        raise ValueError("must be an address without a zone (the part from % on)")
    if ":" in bare or bare != text:
        return _normalize_ipv6(bare)
    return _normalize_name(bare)


def _require_no_space(text: str) -> None:
    """Raise ValueError if there is no text, or if it has a space, a control character or a quote in it."""
    if not text:
        raise ValueError("must not be empty")
    if any(each.isspace() or not each.isprintable() or each in "\"'\\" for each in text):
        raise ValueError("must have no spaces, quotes, backslashes or control characters in it")


def _normalize_ipv6(text: str) -> str:
    """Return an IPv6 address in its canonical form, or IPv4 if it is mapped. Raises ValueError."""
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise ValueError("must be a host name or an IP address alone, without a port") from None
    return str(address.ipv4_mapped or address)


def _normalize_name(text: str) -> str:
    """Return a host name in ASCII, or an IPv4 address. Raises ValueError, with what is wrong."""
    name = text
    if not text.isascii():
        try:
            name = idna.encode(text, uts46=True).decode("ascii")
        except UnicodeError:  # idna's own error is one
            raise ValueError("must be a host name; this one cannot be written in Punycode (IDNA)") from None
    labels = name.removesuffix(".").split(".")
    if not all(labels):
        raise ValueError("must be a host name; this one has an empty part before, between or after its dots")
    if labels[-1].isdigit() or re.fullmatch("0[xX][0-9A-Fa-f]*", labels[-1]):
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            raise ValueError("must be a host name or an IP address; this is neither (192.0.2.7 has 4 parts)") from None
    if any(len(label) > _LONGEST_LABEL for label in labels) or len(name.removesuffix(".")) > _LONGEST_NAME:
        raise ValueError("must be a host name of at most 253 characters, and 63 between two dots")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("must be a host name of letters, digits, dots and inner hyphens")
    try:
        name.encode("idna")  # what the standard library does before it asks the resolver
    except UnicodeError:
        raise ValueError("must be a host name that can be looked up; Python cannot encode this one") from None
    return name


def normalize_server_name(text: str) -> str:
    """Return `normalize_host` without a dot at the end, as names stand in certificates. Raises ValueError."""
    return normalize_host(text).removesuffix(".")


def parse_port(value: object) -> object:
    """Return the number of a port that is written in digits alone; any other value than text is returned unchanged.

    Raises ValueError for other text, such as +25, 0 or 65536.
    """
    if not isinstance(value, str):
        return value
    if not _PORT.fullmatch(value) or int(value) > 65_535:
        raise ValueError("must be a port number from 1 to 65535, in digits alone")
    return int(value)


def join_host_and_port(host: str, port: int) -> str:
    """Return `host:port`, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_host_and_port(text: str) -> tuple[str, int | None]:
    """Return a normalized host and the port of `host:port`; the port is None if there is none.

    An IPv6 address with a port stands in brackets. Raises ValueError.
    """
    if match := _BRACKETED.fullmatch(text):
        host, port = f"[{match[1]}]", match[2]
    elif text.count(":") == 1 and not _ANY_SCHEME.match(text):
        host, port = text.split(":")
    elif ":" in text and not _ANY_SCHEME.match(text):
        raise ValueError("must be an IPv6 address in brackets, like [::1], if it has several colons")
    else:
        host, port = text, None
    return normalize_host(host), None if port is None else int(str(parse_port(port)))


def normalize_target(text: str) -> str:
    """Return the `host:port` of a gRPC service, or its `unix:/path`, normalized. Raises ValueError."""
    if text.strip().startswith(UNIX_SCHEME):
        path = normalize_socket_path(text.strip().removeprefix(UNIX_SCHEME))
        if not path:
            raise ValueError("must be host:port or unix:/path; the path is missing")
        return UNIX_SCHEME + path
    try:
        host, port = split_host_and_port(text)
    except ValueError as error:
        raise ValueError(f"must be host:port (a part of it {error})") from None
    if port is None:
        raise ValueError("must be host:port, with an IPv6 address in brackets: [::1]:9090")
    return join_host_and_port(host, port)


def normalize_socket_path(text: str) -> str:
    """Return the path of a Unix domain socket without white space around it; an empty text stays empty.

    Raises ValueError unless it is absolute, printable, and short enough for every system.
    """
    path = text.strip()
    if path and not (path.startswith("/") and path.isprintable() and len(path.encode()) <= LONGEST_SOCKET_PATH):
        raise ValueError(f"must be the absolute path of a socket, of {LONGEST_SOCKET_PATH} bytes at most")
    return path


def normalize_server_list(text: str) -> str:
    """Return a comma-separated list of `host:port` with each part normalized; a port may be left out.

    Raises ValueError.
    """
    servers = []
    for part in text.split(","):
        try:
            host, port = split_host_and_port(part.strip())
        except ValueError as error:
            raise ValueError(f"must be a list of host:port, with commas between them (a part of it {error})") from None
        servers.append(join_host_and_port(host, port) if port is not None else f"[{host}]" if ":" in host else host)
    return ",".join(servers)


def normalize_listen_host(text: str) -> str:
    """Return the address or name to listen on, normalized; `::` and `0.0.0.0` are all addresses. Raises ValueError."""
    if text == "*":
        raise ValueError("must be an address or a name; for all addresses give 0.0.0.0, or :: with IPv6 too")
    return normalize_host(text)


def split_http_url(text: str) -> SplitResult:
    """Return the parts of an http or https URL whose host and port can be used; raises ValueError for any other.

    The host in the result's `netloc` is normalized; the rest is unchanged.
    """
    _require_no_space(text)
    try:
        parts = urlsplit(text)
        port_text = parts.netloc.rpartition("@")[2].rpartition("]")[2].partition(":")[2] or None
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must be an http or https URL, like https://example.org (an IPv6 address in brackets)")
    host = parts.netloc.rpartition("@")[2]
    if ":" in host.rpartition("]")[2] and port_text is None:
        raise ValueError("must be an http or https URL; its port is missing after the colon")
    normalized = normalize_host(str(parts.hostname) if not host.startswith("[") else f"[{parts.hostname}]")
    user, at, _ = parts.netloc.rpartition("@")
    netloc = f"[{normalized}]" if ":" in normalized else normalized
    if port_text is not None:
        netloc += f":{parse_port(port_text)}"
    return parts._replace(netloc=f"{user}{at}{netloc}")


def normalize_http_url(text: str) -> str:
    """Return an http or https URL in ASCII, with a normalized host.

    Raises ValueError, also for a user or password in it.
    """
    parts = split_http_url(text)
    if "@" in parts.netloc:
        raise ValueError("must be an http or https URL without user and password")
    return parts._replace(path=quote(parts.path, safe=_IN_A_PATH), query=quote(parts.query, safe=_IN_A_PATH)).geturl()


Port = Annotated[int, BeforeValidator(parse_port), Field(ge=1, le=65535)]
"""The type of a setting that is a TCP port."""
Host = Annotated[str, AfterValidator(normalize_server_name)]
"""The type of a setting that is a host to connect to, whose certificate may be verified."""
ListenHost = Annotated[str, AfterValidator(normalize_listen_host)]
"""The type of a setting that is an address to listen on; see `chassis/listening.py`."""
Target = Annotated[str, AfterValidator(normalize_target), Field(description="host:port or unix:/path")]
"""The type of a setting that is where a gRPC service listens: its `host:port`, or the path of its socket."""
SocketPath = Annotated[str, AfterValidator(normalize_socket_path)]
"""The type of a setting that is the path of a Unix domain socket, or empty."""
ServerList = Annotated[str, AfterValidator(normalize_server_list), Field(description="host:port[,host:port…]")]
"""The type of a setting that lists Kafka's servers."""
HttpUrl = Annotated[str, AfterValidator(normalize_http_url)]
"""The type of a setting that is an http or https URL."""
