"""The check of an external broker: the demo must not mix its flights into topics that exist there."""

import asyncio
import contextlib

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from chassis.kafka_options import load_client_options
from chassis.topics import BrokerUnreachableError, wait_for_broker
from local.errors import LocalError
from towerwatch.topics import CATALOGUE

_TABLE_TOPIC_PREFIXES = ("streams-", "notifier-")
"""Prefixes of the topics that Faust makes for its tables."""


def ensure_no_topics(bootstrap_servers: str, *, reset: bool) -> None:
    """Make sure that none of Towerwatch's topics exists on the broker: delete existing ones if `reset`.

    The topics of Faust's tables count, too. Raises LocalError if topics exist and `reset` is False, or if the broker
    does not answer in time or cannot be used.
    """
    try:
        asyncio.run(_ensure_no_topics(bootstrap_servers, reset))
    except (BrokerUnreachableError, KafkaError) as error:
        raise LocalError(
            f"the broker of KAFKA_BOOTSTRAP_SERVERS cannot be used ({error}): correct the variable, or unset it and "
            "the demo starts a broker of its own"
        ) from None


async def _ensure_no_topics(bootstrap_servers: str, reset: bool) -> None:
    """Make sure that none of Towerwatch's topics exists: delete them if `reset`, until the broker lists none any more.

    The deletion is repeated every ten seconds, without a limit. Raises LocalError if topics exist and `reset` is False;
    BrokerUnreachableError or KafkaError if the broker cannot be used.
    """
    await wait_for_broker(bootstrap_servers, timeout_s=15)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **load_client_options())
    await admin.start()
    try:
        existing = await _list_our_topics(admin)
        if existing and not reset:
            raise LocalError(
                f"the broker of KAFKA_BOOTSTRAP_SERVERS already holds {existing[0]} and {len(existing) - 1} more of "
                "Towerwatch's topics, and the demo would mix its flights into them: unset the variable, or delete "
                "the topics with all that is in them by --reset-topics"
            )
        while existing:
            await admin.delete_topics(existing)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    while existing := await _list_our_topics(admin):
                        await asyncio.sleep(0.1)
    finally:
        await admin.close()


async def _list_our_topics(admin: AIOKafkaAdminClient) -> list[str]:
    """Return the names of the broker's topics that are Towerwatch's, those of Faust's tables included, sorted."""
    names = {topic.name for topic in CATALOGUE}
    return sorted(name for name in await admin.list_topics() if name in names or name.startswith(_TABLE_TOPIC_PREFIXES))
