"""A broker of the user's own: the demo must not mix its flights into what is there."""

import asyncio
import contextlib

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from chassis.topics import BrokerUnreachableError, wait_for_broker
from local.errors import LocalError
from towerwatch.topics import CATALOGUE

_APPS = ("streams-", "notifier-")
"""What the topics that Faust makes for its tables begin with."""


def make_room(bootstrap_servers: str, *, reset: bool) -> None:
    """Return when none of Towerwatch's topics is there. Deletes them where `reset`. Raises LocalError otherwise."""
    try:
        asyncio.run(_make_room(bootstrap_servers, reset))
    except (BrokerUnreachableError, KafkaError) as error:
        raise LocalError(
            f"the broker of KAFKA_BOOTSTRAP_SERVERS cannot be used ({error}): correct the variable, or unset it and "
            "the demo starts a broker of its own"
        ) from None


async def _make_room(bootstrap_servers: str, reset: bool) -> None:
    await wait_for_broker(bootstrap_servers, timeout_s=15)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        there = await _ours(admin)
        if there and not reset:
            raise LocalError(
                f"the broker of KAFKA_BOOTSTRAP_SERVERS already holds {there[0]} and {len(there) - 1} more of "
                "Towerwatch's topics, and the demo would mix its flights into them: unset the variable, or delete "
                "the topics with all that is in them by --reset-topics"
            )
        while there:
            await admin.delete_topics(there)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    while there := await _ours(admin):
                        await asyncio.sleep(0.1)
    finally:
        await admin.close()


async def _ours(admin: AIOKafkaAdminClient) -> list[str]:
    names = {topic.name for topic in CATALOGUE}
    return sorted(name for name in await admin.list_topics() if name in names or name.startswith(_APPS))
