"""What locust does to the collector: one class a scenario. `benchmarks.collector` runs it."""

import os
import random
from typing import Final

from locust import FastHttpUser, constant, task

_TOKENS: Final = os.environ["TOKENS"].split()
_AIRPORTS: Final = ("KJFK", "LICC", "EGLL", "EDDF", "LFPG", "LIRF", "EHAM", "LEMD", "KLAX", "KORD", "RJTT", "YSSY")


def _headers() -> dict[str, str]:
    return {"Authorization": f"Bearer {random.choice(_TOKENS)}"}


def _wish() -> dict[str, object]:
    return {
        "airport_icao": random.choice(_AIRPORTS),
        "direction": random.choice(("arrivals", "departures", "both")),
        "window": random.choice(("1h", "6h", "1d")),
        "high_value": random.randrange(20, 1000),
    }


class Baseline(FastHttpUser):  # type: ignore[misc, unused-ignore]  # locust is there only for `make bench`
    """The cheapest answer that the server has."""

    wait_time = constant(0)

    @task  # type: ignore[untyped-decorator, unused-ignore]
    def live(self) -> None:
        self.client.get("/health/live")


class Listing(FastHttpUser):  # type: ignore[misc, unused-ignore]
    """GET /interests, of one of many users."""

    wait_time = constant(0)

    @task  # type: ignore[untyped-decorator, unused-ignore]
    def list_them(self) -> None:
        self.client.get("/interests", headers=_headers())


class Setting(FastHttpUser):  # type: ignore[misc, unused-ignore]
    """POST /interests: new ones, and later more and more changes."""

    wait_time = constant(0)

    @task  # type: ignore[untyped-decorator, unused-ignore]
    def set_one(self) -> None:
        self.client.post("/interests", json=_wish(), headers=_headers())


class Flights(FastHttpUser):  # type: ignore[misc, unused-ignore]
    """GET /flights/{icao}: 100 flights from anywhere in a month."""

    wait_time = constant(0)

    @task  # type: ignore[untyped-decorator, unused-ignore]
    def read(self) -> None:
        self.client.get("/flights/KJFK", headers=_headers(), name="GET /flights/{icao}")


class Previewing(FastHttpUser):  # type: ignore[misc, unused-ignore]
    """POST /interests/preview of a busy airport, both directions over a month."""

    wait_time = constant(0)

    @task  # type: ignore[untyped-decorator, unused-ignore]
    def preview(self) -> None:
        wish = _wish() | {"airport_icao": "KJFK", "direction": "both", "high_value": 40}
        self.client.post("/interests/preview", json=wish, headers=_headers())
