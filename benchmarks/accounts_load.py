"""What locust does to user_manager: one class a scenario. `benchmarks.accounts` runs it."""

import os
import random
import uuid
from typing import Final
from urllib.parse import quote

from locust import FastHttpUser, constant, task

_OPERATOR: Final = {"Authorization": f"Bearer {os.environ['OPERATOR_TOKEN']}"}
_KNOWN: Final = os.environ["KNOWN_EMAILS"].split()


class Baseline(FastHttpUser):
    """The cheapest answer that the server has."""

    wait_time = constant(0)

    @task
    def live(self) -> None:
        self.client.get("/health/live")


class Reading(FastHttpUser):
    """GET /users/{email}, of one of many accounts."""

    wait_time = constant(0)

    @task
    def read(self) -> None:
        email = random.choice(_KNOWN)
        self.client.get(f"/users/{quote(email, safe='@')}", headers=_OPERATOR, name="GET /users/{email}")


class Registering(FastHttpUser):
    """POST /users, each with an address and a key of its own."""

    wait_time = constant(0)

    @task
    def register(self) -> None:
        key = uuid.uuid4()
        self.client.post(
            "/users",
            json={"email": f"{key.hex}@bench.test", "name": "Bench"},
            headers={"Idempotency-Key": f'"{key}"'},
            name="POST /users",
        )
