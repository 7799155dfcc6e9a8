"""The identity of the log: the cluster's id and the ids of its topics, and whether the log is still the one it was.

A topic that is deleted and made again has its old name and another id, and a new cluster has another id. aiokafka's
clients request versions of the metadata that have no topic ids, so the request of a later version is defined here.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from chassis.kafka_options import load_client_options

_REQUEST_TIMEOUT_MS: Final = 5_000


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]
    """A UUID in Kafka's protocol: 16 bytes."""

    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


class _MetadataResponseV12(Response):  # type: ignore[misc]
    """The metadata with topic ids; its fields are at https://kafka.apache.org/protocol#The_Messages_Metadata."""

    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition_index", Int32),
                        ("leader_id", Int32),
                        ("leader_epoch", Int32),
                        ("replica_nodes", CompactArray(Int32)),
                        ("isr_nodes", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("topic_authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequestV12(RequestStruct):  # type: ignore[misc]
    """The request for the metadata with topic ids (Kafka 3.0 and later)."""

    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponseV12
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequestV12]):  # type: ignore[misc]
    """A request for the metadata of all topics; it creates none."""

    API_KEY = 3

    def build(self, request_struct_class: type[_MetadataRequestV12]) -> _MetadataRequestV12:
        return request_struct_class(None, False, False, {})


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """The identity of the log at one moment: the cluster's id, and of some topics their ids and end offsets."""

    cluster: str
    topics: Mapping[str, str] = field(default_factory=dict)
    """By the name of a topic that exists, its id; "" if the brokers are older than topic ids (Kafka 3.0)."""
    ends: Mapping[str, int] = field(default_factory=dict)
    """By "topic/partition", the offset after the last record."""

    def find_loss(self, now: "LogIdentity") -> str | None:
        """Return why `now` is not the log that this one was, in words; None if it is.

        A partition that ends earlier than it did has lost records. A topic that is missing now is no loss yet: it will
        have another id when it is made again.
        """
        if self.cluster != now.cluster:
            return "it is another cluster"
        for name, topic_id in self.topics.items():
            if name in now.topics and now.topics[name] != topic_id:
                return f"the topic {name} was made anew"
        for partition, end in self.ends.items():
            if partition in now.ends and now.ends[partition] < end:
                return f"{partition} ends before what was published"
        return None

    def merge(self, now: "LogIdentity") -> "LogIdentity":
        """Return `now`, with the ids and ends of topics that it lacks from this one."""
        return LogIdentity(now.cluster, {**self.topics, **now.topics}, {**self.ends, **now.ends})


class LogClients:
    """Kafka clients that fetch the log's identity, its partitions' ends, and the offsets that groups have committed.

    They connect at the first request, and again after an error or `close`. Not to be used by two tasks at once.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._clients: tuple[AIOKafkaAdminClient, AIOKafkaConsumer] | None = None

    async def fetch_identity(self, names: Iterable[str]) -> LogIdentity:
        """Fetch the cluster's id, and the ids of those of the named topics that exist; `ends` is empty.

        Raises KafkaError or OSError if the broker does not answer, or does not know a topic's id now.
        """
        return (await self._fetch_metadata(frozenset(names)))[0]

    async def fetch_identity_with_ends(self, names: Iterable[str]) -> LogIdentity:
        """Fetch what `fetch_identity` fetches, and the ends of all partitions of these topics.

        Raises KafkaError or OSError.
        """
        identity, partitions = await self._fetch_metadata(frozenset(names))
        ends = await self.fetch_ends(partitions)
        return LogIdentity(identity.cluster, identity.topics, {f"{tp.topic}/{tp.partition}": ends[tp] for tp in ends})

    async def fetch_ends(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Fetch the offset after the last record of each partition. Raises KafkaError or OSError."""
        wanted = list(partitions)
        _, consumer = await self._connect()
        return await self._closing_on_error(consumer.end_offsets(wanted)) if wanted else {}

    async def fetch_begins(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Fetch the offset of the first record that each partition still has. Raises KafkaError or OSError."""
        wanted = list(partitions)
        _, consumer = await self._connect()
        return await self._closing_on_error(consumer.beginning_offsets(wanted)) if wanted else {}

    async def fetch_committed(self, group: str, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Fetch the offsets that a consumer group has committed; partitions without a commit are left out.

        Raises KafkaError or OSError.
        """
        admin, _ = await self._connect()
        found = await self._closing_on_error(admin.list_consumer_group_offsets(group, partitions=list(partitions)))
        return {tp: committed.offset for tp, committed in found.items() if committed.offset >= 0}

    async def _fetch_metadata(self, names: frozenset[str]) -> tuple[LogIdentity, list[TopicPartition]]:
        """Fetch the identity of the named topics, without ends, and their partitions. Raises KafkaError or OSError."""
        admin, _ = await self._connect()
        client = admin._client  # aiokafka has no public way to send a request of one's own
        try:
            answer = (
                await self._closing_on_error(client.send(client.get_random_node(), _MetadataRequest()))
            ).to_object()
            cluster, topics = answer["cluster_id"], answer["topics"]
        except NotImplementedError:  # an older broker
            cluster = (await self._closing_on_error(admin.describe_cluster()))["cluster_id"]
            topics = await self._closing_on_error(admin.describe_topics())
        found, partitions = {}, []
        for topic in topics:
            name = topic.get("name") or topic.get("topic")
            if name not in names:
                continue
            if topic["error_code"]:
                raise for_code(topic["error_code"])(name)
            found[name] = topic["topic_id"].hex if "topic_id" in topic else ""
            partitions += [TopicPartition(name, _get_number(each)) for each in topic["partitions"]]
        return LogIdentity(str(cluster), found), partitions

    async def close(self) -> None:
        """Close the clients if they exist; the next request connects new ones. Errors of the network are ignored."""
        clients, self._clients = self._clients, None
        if clients is not None:
            for closing in (clients[0].close(), clients[1].stop()):
                with suppress(KafkaError, OSError):
                    await closing

    async def _connect(self) -> tuple[AIOKafkaAdminClient, AIOKafkaConsumer]:
        """Return the connected clients; create and connect them first if there are none.

        Raises KafkaError or OSError if they cannot connect, and closes them.
        """
        if self._clients is None:
            options: dict[str, Any] = {
                "bootstrap_servers": self._bootstrap_servers,
                "request_timeout_ms": _REQUEST_TIMEOUT_MS,
                **load_client_options(),
            }
            admin, consumer = AIOKafkaAdminClient(**options), AIOKafkaConsumer(**options)
            self._clients = admin, consumer
            await self._closing_on_error(admin.start())
            await self._closing_on_error(consumer.start())
        return self._clients

    async def _closing_on_error(self, answer: Any) -> Any:
        """Wait for an answer and return it; close the clients if it raises an error, and raise the error."""
        try:
            return await answer
        except (KafkaError, OSError):
            await self.close()
            raise


def _get_number(partition: Mapping[str, Any]) -> int:
    """Return a partition's number from its metadata, of either version of the request."""
    return int(partition["partition_index"] if "partition_index" in partition else partition["partition"])
