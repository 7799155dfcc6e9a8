"""The creation of Kafka topics from a catalogue, and waiting for a broker that answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import collect_hosts
from aiokafka.errors import (
    InvalidReplicationFactorError,
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    for_code,
)

from chassis.errors import ChassisError
from chassis.kafka_options import load_client_options

_PAUSE_S: Final = 0.1
_CONNECT_WITHIN_S: Final = 3.0
_REQUEST_TIMEOUT_MS: Final = 10_000
_ANY_GROUP: Final = "any"


class BrokerUnreachableError(ChassisError):
    """No broker answered within the time given."""

    transient = True


class TopicMismatchError(ChassisError):
    """A topic exists with another partition count. Permanent: Kafka cannot remove partitions, nor move keys."""


class TopicRefusedError(ChassisError):
    """The broker refuses to create a topic: a setting is invalid, or a permission is missing. Permanent."""


class TopicLike(Protocol):
    """The description of a topic: its name, its partition count, and Kafka's own topic settings."""

    @property
    def name(self) -> str: ...
    @property
    def partitions(self) -> int: ...
    @property
    def config(self) -> Mapping[str, str]: ...


async def wait_for_broker(bootstrap_servers: str, timeout_s: float = 60.0) -> None:
    """Return once a broker has answered and the cluster has a controller; retry until then.

    Raises BrokerUnreachableError after `timeout_s` seconds.
    """

    await _retry_until_done(_wait_until_controller_known, bootstrap_servers, timeout_s)


async def ensure_topics(
    bootstrap_servers: str, topics: Iterable[TopicLike], replication_factor: int = 1, timeout_s: float = 60.0
) -> None:
    """Create missing topics; return once each partition has a leader, and consumer groups have a coordinator.

    Waits for the broker. Idempotent, and safe while other processes do the same. The settings of an existing topic are
    not changed. Raises TopicMismatchError, TopicRefusedError, or BrokerUnreachableError after `timeout_s` seconds.
    """
    wanted = tuple(topics)

    async def create_and_wait(admin: AIOKafkaAdminClient) -> None:
        """Create the topics, and wait for their leaders and for a coordinator."""
        await _wait_until_controller_known(admin)
        while not await _create_missing_topics(admin, wanted, replication_factor):
            await asyncio.sleep(_PAUSE_S)
        # The first request for a coordinator makes the brokers create the topic of the groups' offsets. aiokafka's
        # consumers would meanwhile log an error ten times a second, so that this waits for it too.
        await admin.find_coordinator(_ANY_GROUP)

    await _retry_until_done(create_and_wait, bootstrap_servers, timeout_s)


async def _retry_until_done(
    action: Callable[[AIOKafkaAdminClient], Awaitable[None]], bootstrap_servers: str, timeout_s: float
) -> None:
    """Run `action` with a new admin client, and retry after each KafkaError or OSError until it returns.

    `action` is not run while no server accepts connections. Raises BrokerUnreachableError, with the last error's text,
    after `timeout_s` seconds for all attempts together. Other errors of `action` pass through.
    """
    problem = "nothing listens there"
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    if await is_any_server_listening(bootstrap_servers):
                        async with _open_admin_client(bootstrap_servers) as admin:
                            return await action(admin)
                except (
                    KafkaError,
                    OSError,
                    UnicodeError,
                ) as error:  # a request's TimeoutError is an OSError
                    problem = str(error) or type(error).__name__
                await asyncio.sleep(_PAUSE_S)
    except TimeoutError as error:
        raise BrokerUnreachableError(
            f"no Kafka broker at {bootstrap_servers} did what was asked within {timeout_s:g} s ({problem}): "
            "start it, or correct KAFKA_BOOTSTRAP_SERVERS"
        ) from error


async def is_any_server_listening(bootstrap_servers: str) -> bool:
    """Return True if one of the servers accepts a connection within 3 s, False if none does.

    The connection is closed again. aiokafka logs an error whenever it cannot connect, which is too much for a broker
    that is only starting. Raises BrokerUnreachableError if the setting is not a list of servers.
    """
    try:
        servers = collect_hosts(bootstrap_servers)
    except ValueError as error:
        raise BrokerUnreachableError(f"{bootstrap_servers!r} is not a list of host:port") from error
    for host, port, _ in servers:
        try:
            async with asyncio.timeout(_CONNECT_WITHIN_S):
                _, writer = await asyncio.open_connection(host, port)
        except (OSError, UnicodeError):  # a TimeoutError, too; UnicodeError: of a name that cannot be encoded
            continue
        writer.close()
        return True
    return False


@asynccontextmanager
async def _open_admin_client(bootstrap_servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """Run the block with a connected admin client, then close the client. Raises KafkaError if it cannot connect."""
    admin = AIOKafkaAdminClient(
        bootstrap_servers=bootstrap_servers, request_timeout_ms=_REQUEST_TIMEOUT_MS, **load_client_options()
    )
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def _wait_until_controller_known(admin: AIOKafkaAdminClient) -> None:
    """Wait until the cluster has a controller; a broker that is starting answers before it can serve requests."""
    while (await admin.describe_cluster())["controller_id"] < 0:
        await asyncio.sleep(_PAUSE_S)


async def _create_missing_topics(
    admin: AIOKafkaAdminClient, wanted: tuple[TopicLike, ...], replication_factor: int
) -> bool:
    """Request the creation of missing topics. Return True once none is missing and each partition has a leader.

    Return False if topics were missing, whose creation is now requested, or if a partition has no leader yet: then the
    caller calls again. Raises TopicMismatchError if an existing topic has another partition count, TopicRefusedError if
    the broker refuses to create one, and KafkaError for errors that may pass.
    """
    # Describe all topics, because a request for a topic's name makes some brokers create it with their defaults.
    existing: dict[str, list[dict[str, Any]]] = {
        topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()
    }
    missing = [topic for topic in wanted if topic.name not in existing]
    if missing:
        await _create_topics(admin, missing, replication_factor)
        return False
    for topic in wanted:
        if len(existing[topic.name]) != topic.partitions:
            raise TopicMismatchError(
                f"topic {topic.name} has {len(existing[topic.name])} partitions where {topic.partitions} are needed, "
                "and keys would go astray: delete the topic or use another cluster"
            )
    return all(partition["leader"] >= 0 for topic in wanted for partition in existing[topic.name])


async def _create_topics(admin: AIOKafkaAdminClient, topics: list[TopicLike], replication_factor: int) -> None:
    """Request the creation of topics; a topic that exists already is no error.

    Raises KafkaError if a later attempt may succeed, TopicRefusedError if not.
    """
    answer = await admin.create_topics(
        [
            NewTopic(topic.name, topic.partitions, replication_factor, topic_configs=dict(topic.config))
            for topic in topics
        ]
    )
    for name, code, text in answer.topic_errors:
        problem = for_code(code)
        if problem in (NoError, TopicAlreadyExistsError):  # another process was quicker
            continue
        # Brokers that have just started are not counted as replicas yet.
        if problem.retriable or problem is InvalidReplicationFactorError:
            raise problem(f"{name}: {text}")
        raise TopicRefusedError(f"the broker will not create topic {name}: {text or problem.__name__}")
