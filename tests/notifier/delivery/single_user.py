"""One person's alerts and the core that mails them, in a simulation of their own."""

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


class Scene:
    """One person's alerts, by number."""

    def __init__(self, settings: DeliverySettings) -> None:
        self.simulation = Simulation(1, FaultRates(), settings, 1)
        self.worker = SimulatedWorker(self.simulation)
        self.worker.start()

    def alert(self, number: int) -> Alert:
        window_start = ALERT.window_start + timedelta(hours=number)
        return replace(ALERT, alert_id=UUID(int=number), user_id=self.simulation.users[0], window_start=window_start)

    def bring(self, *numbers: int, requeued: bool = False) -> None:
        for number in numbers:
            self.simulation.publish_alert(self.alert(number), {REQUEUED_FROM: b"3:1"} if requeued else None)

    async def restart(self) -> None:
        """As after kill -9."""
        self.worker.crash()
        await self.simulation.cancel_process_tasks()
        self.worker = SimulatedWorker(self.simulation)
        self.worker.start()

    @property
    def told(self) -> list[set[int]]:
        return [{each.int for each in mail.alert_ids} for mail in self.simulation.mails]

    @property
    def retries(self) -> list[Retry]:
        return [decode_retry(each.value) for each in self.simulation.retry_log.records]

    @property
    def dead(self) -> list[tuple[int, str]]:
        return [(alert_id.int, reason) for alert_id, reason in self.simulation.list_dead_letters()]

    @property
    def person(self) -> UserState:
        return UserState.decode(self.simulation.changelogs["users"].get(str(self.simulation.users[0]).encode()))


def scene(doing: Callable[[Scene], Coroutine[Any, Any, None]], settings: DeliverySettings | None = None) -> None:
    """In hurried time; in the end all is acknowledged."""

    async def with_it() -> None:
        it = Scene(settings or DeliverySettings())
        await doing(it)
        assert it.simulation.is_all_acknowledged
        await it.simulation.cancel_process_tasks()

    run(with_it())
