"""The locust scenarios of the collector: one class each. `benchmarks.collector` runs them."""

import os
import random
from typing import Final

from locust import FastHttpUser, constant, task

_TOKENS: Final = os.environ["TOKENS"].split()
_AIRPORTS: Final = ("KJFK", "LICC", "EGLL", "EDDF", "LFPG", "LIRF", "EHAM", "LEMD", "KLAX", "KORD", "RJTT", "YSSY")


def _choose_authorization() -> dict[str, str]:
    """Return the authorization header of a random one of the users."""
    return {"Authorization": f"Bearer {random.choice(_TOKENS)}"}


def _build_random_interest() -> dict[str, object]:
    """Build the request body of an interest with random airport, direction, window and high threshold (20 to 999)."""
    return {
        "airport_icao": random.choice(_AIRPORTS),
        "direction": random.choice(("arrivals", "departures", "both")),
        "window": random.choice(("1h", "6h", "1d")),
        "high_value": random.randrange(20, 1000),
    }


class Baseline(FastHttpUser):  # type: ignore[misc, unused-ignore]  # locust is there only for `make bench`
    """The cheapest request that the server handles: GET /health/live."""

    wait_time = constant(0)

    @task  # type: ignore[untyped-decorator, unused-ignore]
    def live(self) -> None:
        self.client.get("/health/live")


class Listing(FastHttpUser):  # type: ignore[misc, unused-ignore]
    """List interests: GET /interests of a random user."""

    wait_time = constant(0)

    @task  # type: ignore[untyped-decorator, unused-ignore]
    def list_them(self) -> None:
        self.client.get("/interests", headers=_choose_authorization())


class Setting(FastHttpUser):  # type: ignore[misc, unused-ignore]
    """Set interests: POST /interests; first most are new, later most change an existing one."""

    wait_time = constant(0)

    @task  # type: ignore[untyped-decorator, unused-ignore]
    def set_one(self) -> None:
        self.client.post("/interests", json=_build_random_interest(), headers=_choose_authorization())


class Flights(FastHttpUser):  # type: ignore[misc, unused-ignore]
    """Read flights: GET /flights/{icao}, a page of 100 flights of a month."""

    wait_time = constant(0)

    @task  # type: ignore[untyped-decorator, unused-ignore]
    def read(self) -> None:
        self.client.get("/flights/KJFK", headers=_choose_authorization(), name="GET /flights/{icao}")


class Previewing(FastHttpUser):  # type: ignore[misc, unused-ignore]
    """Preview an interest: POST /interests/preview of a busy airport, both directions over a month."""

    wait_time = constant(0)

    @task  # type: ignore[untyped-decorator, unused-ignore]
    def preview(self) -> None:
        interest = _build_random_interest() | {"airport_icao": "KJFK", "direction": "both", "high_value": 40}
        self.client.post("/interests/preview", json=interest, headers=_choose_authorization())
