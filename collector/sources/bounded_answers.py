"""HTTP requests whose answers are bounded in time and size, and whose failures are errors of ours."""

import asyncio
import zlib
from typing import Final

import httpx

from collector.errors import SourceError, SourceRefusedError, SourceUnavailableError

_GZIP: Final = 16 + zlib.MAX_WBITS
"""The value of zlib's `wbits` that accepts a gzip header alone."""
_OF_THE_BODY: Final = frozenset(("content-encoding", "content-length", "transfer-encoding"))
"""Headers that do not hold any more for a body that was decompressed."""
_CANNOT_DECOMPRESS: Final = "the answer cannot be decompressed: look for a proxy that changes answers"


async def send_bounded(
    http: httpx.AsyncClient, request: httpx.Request, total_s: float, most_bytes: int, proxy_setting: str
) -> httpx.Response:
    """Send a request once, and return the answer of any status with its whole body, decompressed.

    The answer is asked for in gzip. A body of more than `most_bytes`, compressed or not, is not read to its end, and no
    answer may take longer than `total_s` real seconds to its last byte. Redirects are not followed. Raises
    SourceRefusedError for a body that is too large, SourceUnavailableError for every other failure; its text shows
    nothing that was sent, but names `proxy_setting`, what sets the proxy.
    """
    request.headers["Accept-Encoding"] = "gzip"
    try:
        async with asyncio.timeout(total_s):
            answer = await http.send(request, stream=True)
            try:
                content = await _read_body(answer, most_bytes)
            finally:
                await answer.aclose()
    except Exception as error:  # noqa: BLE001 - `build_exchange_error` raises on what is no failure of the exchange
        raise build_exchange_error(error, total_s, proxy_setting) from None
    headers = [(name, value) for name, value in answer.headers.multi_items() if name.lower() not in _OF_THE_BODY]
    return httpx.Response(answer.status_code, headers=headers, content=content, request=request)


def explain_proxy_login(proxy_setting: str) -> str:
    """Return the sentence that says what to do when a proxy answers with status 407 (it requires a login)."""
    return (
        "a proxy on the way to the source wants a user name and a password (status 407): set them in "
        f"{proxy_setting}, like http://user:password@proxy.example.org:3128"
    )


def build_timeout_error(total_s: float) -> SourceUnavailableError:
    """Return the error for an answer that was not complete after `total_s` real seconds."""
    return SourceUnavailableError(f"the source gave no whole answer within {total_s:g} s")


def build_exchange_error(error: Exception, total_s: float, proxy_setting: str) -> SourceError:
    """Return the error of a failed exchange: one sentence that says what to do, without anything that was sent.

    `total_s`: the timeout, in real seconds. Raises `error` itself if it is no failure of an exchange.
    """
    match error:
        case SourceError():
            return error
        case TimeoutError():
            return build_timeout_error(total_s)
        case httpx.ProxyError():  # its text is the status by which the proxy refuses to connect
            if str(error).startswith(str(int(httpx.codes.PROXY_AUTHENTICATION_REQUIRED))):
                return SourceUnavailableError(explain_proxy_login(proxy_setting))
            return SourceUnavailableError(f"the proxy does not connect to the source: check {proxy_setting}")
        case httpx.DecodingError():
            return SourceUnavailableError(_CANNOT_DECOMPRESS)
        case httpx.RequestError() | UnicodeError():  # the latter: of `getaddrinfo`, for a name that cannot be encoded
            return SourceUnavailableError(f"the source cannot be reached ({type(error).__name__})")
        case _:
            raise error


async def _read_body(answer: httpx.Response, most_bytes: int) -> bytes:
    """Return the body of an answer, decompressed if it is in gzip.

    Raises SourceRefusedError for one that is too large, SourceUnavailableError for one that ends in the middle of its
    compressed form, and for any other coding than gzip.
    """
    coding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", "", "gzip", "x-gzip"):
        raise SourceUnavailableError(_CANNOT_DECOMPRESS)
    decompressor = zlib.decompressobj(_GZIP) if coding.endswith("gzip") else None
    body = bytearray()
    received = 0
    async for chunk in answer.aiter_raw():
        received += len(chunk)
        if received > most_bytes:
            raise _build_too_large_error(most_bytes)
        if decompressor is None:
            body += chunk
            continue
        try:
            body += decompressor.decompress(chunk, most_bytes - len(body) + 1)
        except zlib.error:
            raise SourceUnavailableError(_CANNOT_DECOMPRESS) from None
        if len(body) > most_bytes:
            raise _build_too_large_error(most_bytes)
    if decompressor is not None and received and not decompressor.eof:
        raise SourceUnavailableError(_CANNOT_DECOMPRESS)
    return bytes(body)


def _build_too_large_error(most_bytes: int) -> SourceRefusedError:
    """Return the error for a body that is larger than `most_bytes`: to ask again would give the same."""
    return SourceRefusedError(
        f"the answer has more than {most_bytes} bytes, too many for what was asked: check the address of the source"
    )
