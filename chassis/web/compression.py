"""Compressed answers: gzip, for clients that take it, and only of routes whose answers hold no secret."""

import gzip
from typing import Final

from flask import Response, request

_LEAST_BYTES: Final = 1_000
"""Bytes of the smallest body that is compressed: a smaller one fits into one packet of the network in any case."""

_LEVEL: Final = 6
"""The level of zlib's own choice: 2 ms for 300 kB of windows; level 9 takes three times as long, and saves 4 %."""


def compress_answer(response: Response) -> Response:
    """Compress the body of a response if its client takes gzip (RFC 9110, 12.5.3), and return the response.

    Only for answers without a secret: the length of a compressed text says what is in it to whoever can have a text
    of their own choice put beside a secret, and sees how long the answer gets (BREACH, breachattack.com). Left as they
    are: other statuses than 200, small bodies, streams, bodies that are compressed already, and answers with a strong
    ETag, which would name other bytes then (RFC 9110, 8.8.1). A weak ETag stays as it is. `Vary` says in each case that
    the client's header decides.
    """
    response.vary.add("Accept-Encoding")
    if (
        response.status_code != 200
        or response.is_streamed
        or "Content-Encoding" in response.headers
        or response.headers.get("ETag", "W/").startswith('"')
        or request.accept_encodings.quality("gzip") <= 0
    ):
        return response
    body = response.get_data()
    if len(body) >= _LEAST_BYTES:
        response.set_data(gzip.compress(body, _LEVEL, mtime=0))
        response.headers["Content-Encoding"] = "gzip"
    return response
