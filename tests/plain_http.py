"""HTTP requests to servers that a test has started on this machine: direct, without TLS, and patient.

`httpx.get` and its like make a client for each request, which reads the machine's certificate authorities: 30 ms of
computing, also for `http://`, and a test that polls pays it at every look. Their timeout of 5 s is too short for a
machine that runs a whole suite.
"""

from functools import partial
from typing import Any, Final

import httpx

PATIENCE_S: Final = 60.0
"""Seconds that a server on an overloaded machine may take for one answer."""


def request(method: str, url: str | httpx.URL, **options: Any) -> httpx.Response:
    """Send one request and return the response. `options` are those of `httpx.request`.

    Raises httpx.TransportError if the server does not answer.
    """
    fixed: dict[str, Any] = {"timeout": PATIENCE_S, "verify": False, "trust_env": False}
    return httpx.request(method, url, **(fixed | options))


get: Final = partial(request, "GET")
post: Final = partial(request, "POST")
delete: Final = partial(request, "DELETE")
