"""What the `--begin-anew` of each service has in common: an upgraded database, topics that exist, and clear errors."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from aiokafka.errors import KafkaError

from chassis.db.database import Database, DatabaseSettings
from chassis.db.migrations import SchemaUpgrade
from chassis.topics import BrokerUnreachableError, TopicLike, ensure_topics

T = TypeVar("T")


def run_begin_anew(
    settings: DatabaseSettings,
    migrations: str,
    topics: Iterable[TopicLike],
    begin_anew: Callable[[Database], Awaitable[T]],
) -> T:
    """Upgrade the database, create missing topics, await `begin_anew` with the database, and return what it returns.

    Raises ChassisError; BrokerUnreachableError if Kafka does not answer meanwhile: then nothing was changed.
    """

    async def run() -> T:
        database = settings.build_database()
        try:
            await SchemaUpgrade(database, migrations).run_upgrade()
            await ensure_topics(settings.kafka_bootstrap_servers, topics, settings.kafka_replication_factor)
            return await begin_anew(database)
        except (KafkaError, OSError) as error:
            raise BrokerUnreachableError(f"Kafka did not answer ({type(error).__name__}); run it again") from None
        finally:
            database.close()

    return asyncio.run(run())
