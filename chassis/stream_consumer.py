"""Faust's consumer, mended: it takes nothing from aiokafka that Faust would then throw away."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import ConsumerStoppedError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from faust.types import TP

from chassis.stream_settings import FAUST_LOG


class StreamConsumer(Consumer):
    """To be the `Consumer` of a Faust app's transport."""

    logger = FAUST_LOG

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class _ConsumerThread(AIOKafkaConsumerThread):
    """A fetch takes only from partitions that are open, and only while the flow goes on.

    Faust asks for that once, when a fetch begins. But a fetch goes on for a second: through the end of a recovery, and
    through a rebalance into the next assignment. By then all its partitions are paused, and aiokafka takes no
    partitions to mean all. What comes so Faust throws away, and seeks back only to what was committed. Where nothing
    was committed yet, all that there was is passed over: the worker stands still behind it, and with the next event
    acknowledges it unread. A changelog that is passed over so is recovered in part, or waited for in vain.
    """

    logger = FAUST_LOG

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Pauses what is assigned before anything of it can come; Faust opens it first, and pauses it for recovery."""
        self.consumer.pause_partitions(assigned)
        await super().on_partitions_assigned(assigned, generation_id)

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Mapping[Any, Any]:
        """What is there, or else comes within `timeout` seconds; `active_partitions` changes meanwhile."""
        fetcher, subscriptions = consumer._fetcher, consumer._subscription
        end = time.monotonic() + (timeout or 0)
        with subscriptions.fetch_context():
            while True:
                if consumer._closed or fetcher._closed:
                    raise ConsumerStoppedError
                # In this order, because the main thread stops the flow first and opens other partitions then.
                wanted = frozenset(active_partitions)
                if not wanted or not self.consumer.flow_active:
                    return {}
                # In a reassignment aiokafka would wait here for its end, and what was just asked would be of the past.
                if not subscriptions.reassignment_in_progress:
                    records = await fetcher.fetched_records(wanted, timeout=0, max_records=max_records)
                    if records:
                        return records  # type: ignore[no-any-return]
                try:
                    await asyncio.wait_for(fetcher._create_fetch_waiter(), end - time.monotonic())
                except TimeoutError:
                    return {}
