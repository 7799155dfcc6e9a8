"""The answers of faults in which something else answers in the source's name, and those that announce a pause."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import Final

from aiohttp import web

from local.opensky.fault_kinds import InjectedFault

OTHER_DATE: Final = web.ResponseKey("other_date", datetime)
"""The date that an answer bears in place of the server's time."""

_SECOND: Final = timedelta(seconds=1)
_PAGE: Final = "<!DOCTYPE html>\n<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"
_WRONG_BY: Final = (timedelta(hours=2), timedelta(days=1), timedelta(days=400))
"""How far a wrong date may be off, in either direction; all beyond what the collector bears."""


def build_pause_answer(fault: InjectedFault, until: datetime, now: datetime) -> web.Response:
    """Build the 429 that announces the rest of a pause until `until`: in seconds, rounded up, or as a date.

    `now`: the time by the server's clock, which is also the answer's `Date`, in whole seconds.
    """
    remaining = -((now - until) // _SECOND)  # rounded up
    match fault:
        case InjectedFault.LIMITED_BY_PROXY:
            headers = {"Retry-After": str(remaining)}
        case InjectedFault.LIMITED_UNTIL:
            end = (until + _SECOND).astimezone(UTC).replace(microsecond=0)
            headers = {"Retry-After": format_datetime(end, usegmt=True)}
        case _:
            headers = {"X-Rate-Limit-Retry-After-Seconds": str(remaining)}
    return web.Response(status=429, text="Too many requests", headers=headers)


def build_foreign_answer(
    fault: InjectedFault, chance: Random, body: bytes, answer: web.Response, now: datetime
) -> web.Response:
    """Build the answer of one of FOREIGN_FAULTS, in place of a good answer with this JSON body.

    What a proxy has written has no headers about credits; what it has changed on its way still has them. `chance`: how
    far a wrong date is off; `now`: the server's time.
    """
    kept = copy_quota_headers(answer)
    match fault:
        case InjectedFault.HTML:
            return _build_page(200, "We will be back soon.", kept)
        case InjectedFault.NOT_FOUND_HTML:
            return _build_page(404, "Not Found")
        case InjectedFault.NOT_FOUND_CUT:
            page = gzip.compress(_PAGE.format("Not Found").encode(), mtime=0)[: chance.choice((1, 5, 10))]
            return web.Response(status=404, body=page, content_type="text/html", headers={"Content-Encoding": "gzip"})
        case InjectedFault.BAD_GATEWAY:
            return _build_page(502, "Bad Gateway")
        case InjectedFault.PROXY_LOGIN:
            return _build_page(407, "Proxy Authentication Required", {"Proxy-Authenticate": 'Basic realm="proxy"'})
        case InjectedFault.NOT_FOUND_PROBLEM:
            return web.json_response({"status": 404, "error": "Not Found"}, status=404)
        case InjectedFault.PROBLEM:
            problem = {"type": "about:blank", "title": "Service Unavailable", "status": 503}
            return web.json_response(problem, content_type="application/problem+json")
        case InjectedFault.NULL:
            return web.Response(text="null", content_type="application/json", headers=kept)
        case InjectedFault.OTHER_JSON:
            return web.json_response([{"id": 1, "name": "welcome"}, {"id": 2, "name": "guest"}])
        case InjectedFault.REDIRECT:
            return web.Response(status=302, headers={"Location": "/portal/login?back=/api"})
        case InjectedFault.GZIP_CUT:
            cut = gzip.compress(body, mtime=0)
            headers = kept | {"Content-Encoding": "gzip"}
            return web.Response(body=cut[: len(cut) // 2], content_type="application/json", headers=headers)
        case InjectedFault.GZIP_BROKEN:
            headers = kept | {"Content-Encoding": "gzip"}
            return web.Response(body=body, content_type="application/json", headers=headers)
        case InjectedFault.WRONG_DATE:
            off = chance.choice(_WRONG_BY) * chance.choice((1, -1))
            late = web.Response(status=answer.status, body=answer.body, headers=kept)
            if json.loads(body):
                late.content_type = "application/json"
            late[OTHER_DATE] = now + off
            return late
        case InjectedFault.OUTAGE:
            return web.Response(status=404, headers=kept)
        case _:
            raise ValueError(f"{fault} is no foreign answer")


def copy_quota_headers(answer: web.Response) -> dict[str, str]:
    """Return the answer's headers about credits, which stay the same whatever becomes of the body."""
    return {name: value for name, value in answer.headers.items() if name.lower().startswith("x-rate-limit-")}


def _build_page(status: int, title: str, headers: dict[str, str] | None = None) -> web.Response:
    """Build a web page."""
    return web.Response(status=status, text=_PAGE.format(title), content_type="text/html", headers=headers)
