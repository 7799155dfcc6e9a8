"""The check of `Host`: a request must be meant for this service, not for a name that an attacker points to it.

With DNS rebinding a foreign web page makes its own name resolve to this machine, and its scripts then read what only
this machine may see. The browser still sends the foreign name as `Host`. An IP address as host is safe, since no name
was resolved: probes and scrapes use it.
"""

import os
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator

_HOST: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9_.-]+))(?::[0-9]{0,5})?", re.ASCII)
_LOCALHOST: Final = "localhost"
_IN_CLUSTER: Final = (".svc", ".svc.cluster.local")
"""Ends of the names that Kubernetes gives Services. Only a cluster's own DNS is known to answer them rightly: a hostile
resolver elsewhere can answer `attacker.svc` with the address of this machine."""

MISDIRECTED: Final = (
    "This service is not known by the host name of this request; add the name to ALLOWED_HOSTS if it should be."
)
UNREADABLE: Final = "Send one header Host with a host name or an IP address, and a port if need be."


def parse_host(text: str | None) -> str | None:
    """Return the host that a `Host` header names, in lower case, without port, brackets and the dot of a full name.

    None if there is no header, or it is not one host in the form of RFC 9110, 7.2: two of them, or with a user name.
    """
    found = _HOST.fullmatch(text.strip(" \t")) if text is not None else None
    if found is None:
        return None
    if found["v6"] is not None:
        try:
            return str(IPv6Address(found["v6"]))
        except ValueError:
            return None
    return found["name"].lower().removesuffix(".") or None


def check_host_names(text: str) -> str:
    """Return a setting of host names, separated by commas, unchanged. Raises ValueError if one is none."""
    for each in split_host_names(text):
        if parse_host(each) != each:
            raise ValueError("must be host names without port, separated by commas, like alerts.example.org")
    return text


HostNames = Annotated[str, AfterValidator(check_host_names)]
"""The type of a setting of host names, separated by commas."""


def split_host_names(text: str) -> frozenset[str]:
    """Return the host names of a setting, in lower case."""
    return frozenset(each.strip().lower() for each in text.split(",") if each.strip())


class AllowedHosts:
    """The host names by which a service may be asked: its own ones, `localhost`, and every IP address.

    Within Kubernetes also the names of Services.
    """

    def __init__(self, names: Iterable[str | None] = (), *, environment: Mapping[str, str] = os.environ) -> None:
        """`names`: further names, as they are or as the host of a URL; None and empty texts are ignored.

        `environment`: Kubernetes sets KUBERNETES_SERVICE_HOST in that of each container.
        """
        self._suffixes = _IN_CLUSTER if environment.get("KUBERNETES_SERVICE_HOST") else ()
        hosts = (urlsplit(each).hostname if each and "://" in each else each for each in names)
        self._names = {_LOCALHOST, *(each.lower().removesuffix(".") for each in hosts if each)}

    def find_fault(self, host: str | None) -> tuple[HTTPStatus, str] | None:
        """Return the status and the sentence with which to refuse a request with this `Host`; None: it is allowed."""
        name = parse_host(host)
        if name is None:
            return HTTPStatus.BAD_REQUEST, UNREADABLE
        if name in self._names or name.endswith(self._suffixes) or _is_address(name):
            return None
        return HTTPStatus.MISDIRECTED_REQUEST, MISDIRECTED


def _is_address(name: str) -> bool:
    """Return True if a host is an IP address, False if it is a name, which must be resolved."""
    try:
        return bool(ip_address(name))
    except ValueError:
        return False


def is_exempt(path: str) -> bool:
    """Return True for the health checks: they tell nothing, and a probe may send any host or none."""
    return path in ("/health/live", "/health/ready")
