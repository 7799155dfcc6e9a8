"""The sentence that `make up` prints about where flights come from, and whether receivers answer."""

import asyncio
from pathlib import Path
from typing import Final

import httpx

from collector.settings import CollectorSettings
from collector.sources.opensky.proxy import find_proxy
from collector.sources.readsb.addresses import ReadsbAddress
from collector.sources.trust import get_trust

_TIMEOUT_S: Final = 3.0
"""Seconds to wait for a receiver's answer; the stack is up already."""


def describe_sources(settings: CollectorSettings) -> str:
    """Return in words how OpenSky is asked, and which sources of LIVE_URLS there are; receivers are asked once.

    No address is repeated: it may hold a password.
    """
    access = "anonymous access" if settings.opensky_credentials() is None else "your account"
    told = [f"OpenSky by {access}, {settings.daily_budget():,} credits a day"]
    if settings.asks_opensky_for_positions():
        told.append("live positions by the same account")
    told += [_describe_address(each) for each in settings.live_addresses()]
    if not settings.live_addresses() and not settings.asks_opensky_for_positions():
        told.append("nothing live (LIVE_URLS, or an account)")
    return "; ".join(told)


def _describe_address(address: ReadsbAddress) -> str:
    """Return in words whether a source of positions can be reached now; a service of regions is not asked."""
    if address.takes_region:
        return f"{address.name} is asked for regions"
    if address.is_file:
        return f"the file of {address.name} is {'there' if Path(address.url).is_file() else 'not there'}"
    try:
        status = asyncio.run(_fetch_status(address.url))
    except Exception as error:  # noqa: BLE001 - the stack is up: whatever is wrong with a receiver must not end it
        return f"the receiver {address.name} does not answer ({type(error).__name__})"
    answer = "answers" if status == httpx.codes.OK else f"answers with status {status}"
    return f"the receiver {address.name} {answer}"


async def _fetch_status(url: str) -> int:
    """Return the status of a receiver's answer, whose body is not read; proxies are used as by the collector.

    Raises TimeoutError if the headers are not complete within _TIMEOUT_S, and whatever httpx raises.
    """
    async with (
        asyncio.timeout(_TIMEOUT_S),
        httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False, verify=get_trust(), proxy=find_proxy(url, None)) as http,
        http.stream("GET", url) as answer,
    ):
        return answer.status_code
