"""A simulated notifier with one user, for tests of how a few alerts are delivered."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from domain.alerts import Alert
from notifier.delivery.user_state import UserState
from notifier.messages import REQUEUED_FROM, Retry, decode_retry
from tests.fakes.hurried_loop import run
from tests.notifier.alerts import ALERT
from tests.notifier.simulated_services import Simulation
from tests.notifier.simulation import SimulatedWorker
from tests.notifier.simulation_settings import DeliverySettings, FaultRates


class SingleUserDelivery:
    """A simulated worker and the alerts of its one user; each alert is named by a number."""

    def __init__(self, settings: DeliverySettings, fault_rates: FaultRates | None = None, seed: int = 1) -> None:
        self.simulation = Simulation(seed, fault_rates or FaultRates(), settings, 1)
        self.worker = SimulatedWorker(self.simulation)
        self.worker.start()

    def build_alert(self, number: int) -> Alert:
        """Return the alert of a number; a higher number has a later window."""
        window_start = ALERT.window_start + timedelta(hours=number)
        return replace(ALERT, alert_id=UUID(int=number), user_id=self.simulation.users[0], window_start=window_start)

    def publish_alerts(self, *numbers: int, requeued: bool = False) -> None:
        """Publish the alerts of these numbers; `requeued` alerts have the header of a requeued dead letter."""
        for number in numbers:
            self.simulation.publish_alert(self.build_alert(number), {REQUEUED_FROM: b"3:1"} if requeued else None)

    async def restart(self, absence: timedelta = timedelta(0), *, loses_offsets: bool = False) -> None:
        """Crash the worker as kill -9 does, and start a new one after an absence.

        `loses_offsets`: some acknowledgements were not committed, so the new worker reads their records again.
        """
        self.worker.crash()
        await self.simulation.cancel_process_tasks()
        if loses_offsets:
            self.simulation.lose_uncommitted_offsets()
        await asyncio.sleep(absence.total_seconds())
        self.worker = SimulatedWorker(self.simulation)
        self.worker.start()

    @property
    def mailed_alert_numbers(self) -> list[set[int]]:
        """The numbers of the alerts in each mail that the server accepted, in order."""
        return [{each.int for each in mail.alert_ids} for mail in self.simulation.mails]

    @property
    def retries(self) -> list[Retry]:
        """All records of the retry topic."""
        return [decode_retry(each.value) for each in self.simulation.retry_log.records]

    @property
    def dead_letters(self) -> list[tuple[int, str]]:
        """The number and the reason of each dead letter."""
        return [(alert_id.int, reason) for alert_id, reason in self.simulation.list_dead_letters()]

    @property
    def user_state(self) -> UserState:
        """The user's state as the changelog has it."""
        return UserState.decode(self.simulation.changelogs["users"].get(str(self.simulation.users[0]).encode()))


def run_steps(
    steps: Callable[[SingleUserDelivery], Coroutine[Any, Any, None]], settings: DeliverySettings | None = None
) -> None:
    """Run steps of a test in virtual time, and assert that every event is acknowledged in the end."""

    async def run_and_check() -> None:
        delivery = SingleUserDelivery(settings or DeliverySettings())
        await steps(delivery)
        assert delivery.simulation.is_all_acknowledged
        await delivery.simulation.cancel_process_tasks()

    run(run_and_check())
