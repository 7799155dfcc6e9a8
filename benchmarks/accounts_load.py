"""The locust scenarios of user_manager: one class each. `benchmarks.accounts` runs them."""

import os
import random
import uuid
from typing import Final
from urllib.parse import quote

from locust import FastHttpUser, constant, task

_OPERATOR: Final = {"Authorization": f"Bearer {os.environ['OPERATOR_TOKEN']}"}
_KNOWN: Final = os.environ["KNOWN_EMAILS"].split()


class Baseline(FastHttpUser):
    """The cheapest request that the server handles: GET /health/live."""

    wait_time = constant(0)

    @task
    def live(self) -> None:
        self.client.get("/health/live")


class Reading(FastHttpUser):
    """Read accounts as the operator: GET /users/{email} of a random account, without pauses."""

    wait_time = constant(0)

    @task
    def read(self) -> None:
        email = random.choice(_KNOWN)
        self.client.get(f"/users/{quote(email, safe='@')}", headers=_OPERATOR, name="GET /users/{email}")


class Registering(FastHttpUser):
    """Register accounts: POST /users, each with a new address and a new Idempotency-Key, without pauses."""

    wait_time = constant(0)

    @task
    def register(self) -> None:
        """Register one new account with a random address."""
        key = uuid.uuid4()
        self.client.post(
            "/users",
            json={"email": f"{key.hex}@bench.test", "name": "Bench"},
            headers={"Idempotency-Key": f'"{key}"'},
            name="POST /users",
        )
