"""TLS and SASL of Kafka: the settings, and each kind of client against a real broker that insists on both."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import faust
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from chassis.errors import ChassisError, SettingsError
from chassis.faust.app import build_broker_credentials
from chassis.kafka import start_producer
from chassis.kafka_options import load_client_options, load_kafka_security
from chassis.kafka_security import KafkaSecuritySettings
from chassis.settings import Settings, load_settings
from chassis.topics import ensure_topics
from tests.fakes.secured_broker import PASSWORD, USERNAME, SecuredBroker

VARIABLES = (
    "SECURITY_PROTOCOL",
    "SASL_MECHANISM",
    "USERNAME",
    "PASSWORD",
    "CA",
    "USERNAME_FILE",
    "PASSWORD_FILE",
    "CA_FILE",
)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the test an environment without settings of Kafka's security, and forget what was loaded after it."""
    for name in VARIABLES:
        monkeypatch.delenv(f"KAFKA_{name}", raising=False)
    load_kafka_security.cache_clear()
    yield
    load_kafka_security.cache_clear()


def set_security(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """Set variables KAFKA_…, and forget what was loaded before."""
    for name, value in values.items():
        monkeypatch.setenv(f"KAFKA_{name}", value)
    load_kafka_security.cache_clear()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """Yield a broker whose second listener insists on TLS and SASL."""
    broker = SecuredBroker(tmp_path_factory.mktemp("secured"))
    broker.start()
    yield broker
    broker.stop()


async def publish_and_read(servers: str) -> bytes | None:
    """Make a topic, publish a record and read it again, each with a client of its own; return its value."""
    topic = SimpleNamespace(name=f"secured.{uuid4()}", partitions=1, config={})
    await ensure_topics(servers, [topic], timeout_s=60)
    producer = await start_producer(servers)
    await producer.send_and_wait(topic.name, b"safe")
    await producer.stop()
    consumer = AIOKafkaConsumer(
        topic.name, bootstrap_servers=servers, auto_offset_reset="earliest", **load_client_options()
    )
    await consumer.start()
    record = await consumer.getone()
    await consumer.stop()
    value: bytes | None = record.value
    return value


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_clients_connect_by_tls_and_sasl(
    broker: SecuredBroker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mechanism: str
) -> None:
    """Admin client, producer and consumer, with the password and the authority in files."""
    (tmp_path / "password").write_text(PASSWORD + "\n")
    set_security(
        monkeypatch,
        SECURITY_PROTOCOL="SASL_SSL",
        SASL_MECHANISM=mechanism,
        USERNAME=USERNAME,
        PASSWORD_FILE=str(tmp_path / "password"),
        CA_FILE=str(broker.authority),
    )
    assert asyncio.run(asyncio.wait_for(publish_and_read(broker.secured), 120)) == b"safe"


@pytest.mark.parametrize(
    "wrong",
    [
        {"PASSWORD": "hunter2"},
        {"USERNAME": "nobody"},
        {"CA_FILE": ""},  # the system's authorities have not signed it
        {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "CA_FILE": ""},
    ],
    ids=str,
)
def test_a_client_that_is_not_trusted_or_does_not_trust_gets_nothing(
    broker: SecuredBroker, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str]
) -> None:
    """Nothing is published, and the error has no secret in it."""
    right = {
        "SECURITY_PROTOCOL": "SASL_SSL",
        "USERNAME": USERNAME,
        "PASSWORD": PASSWORD,
        "CA_FILE": str(broker.authority),
    }
    set_security(monkeypatch, **(right | wrong))

    async def attempt() -> None:
        with pytest.raises(ChassisError) as refused:
            await ensure_topics(broker.secured, [SimpleNamespace(name="never", partitions=1, config={})], timeout_s=5)
        assert not {PASSWORD, "hunter2"} & {*str(refused.value).split()}
        producer = AIOKafkaProducer(bootstrap_servers=broker.secured, **load_client_options())
        try:
            with pytest.raises((KafkaError, OSError)):
                await asyncio.wait_for(producer.start(), 20)
        finally:
            with suppress(KafkaError):
                await producer.stop()

    asyncio.run(attempt())


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({}, type(None)),
        ({"SECURITY_PROTOCOL": "SSL"}, faust.SSLCredentials),
        ({"SECURITY_PROTOCOL": "SASL_SSL", "USERNAME": "a", "PASSWORD": "b"}, faust.SASLCredentials),
        ({"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "USERNAME": "a", "PASSWORD": "b"}, faust.SASLCredentials),
    ],
    ids=str,
)
def test_faust_gets_the_same_protocol(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], kind: type) -> None:
    """Its clients are made by Faust itself, from credentials of its own."""
    set_security(monkeypatch, **values)
    credentials = build_broker_credentials()
    assert isinstance(credentials, kind)
    if credentials is not None:
        assert credentials.protocol.value == values["SECURITY_PROTOCOL"]


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL"),
        ({"SECURITY_PROTOCOL": "sasl_ssl"}, "KAFKA_SECURITY_PROTOCOL"),
        ({"SASL_MECHANISM": "GSSAPI"}, "KAFKA_SASL_MECHANISM"),
        ({"SECURITY_PROTOCOL": "SASL_SSL"}, "needs KAFKA_USERNAME and KAFKA_PASSWORD"),
        ({"SECURITY_PROTOCOL": "SASL_SSL", "USERNAME": "a"}, "needs KAFKA_USERNAME and KAFKA_PASSWORD"),
        ({"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "PASSWORD": "hunter2"}, "needs KAFKA_USERNAME and KAFKA_PASSWORD"),
        ({"USERNAME": "a", "PASSWORD": "hunter2"}, "PLAINTEXT sends no KAFKA_USERNAME"),
        ({"SECURITY_PROTOCOL": "SSL", "USERNAME": "a", "PASSWORD": "hunter2"}, "SSL sends no KAFKA_USERNAME"),
        ({"SECURITY_PROTOCOL": "SSL", "CA": "hunter2"}, "KAFKA_CA: "),
        (
            {"SECURITY_PROTOCOL": "SSL", "CA": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"},
            "KAFKA_CA: ",
        ),
        ({"SECURITY_PROTOCOL": "SSL", "CA_FILE": "/nowhere/ca.pem"}, "KAFKA_CA_FILE: names a file that cannot be read"),
        (
            {"SECURITY_PROTOCOL": "SASL_SSL", "USERNAME": "a", "PASSWORD_FILE": "/nowhere"},
            "KAFKA_PASSWORD_FILE: names a file that cannot",
        ),
    ],
    ids=str,
)
def test_settings_that_a_client_would_not_use_are_refused(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], fault: str
) -> None:
    """A password that is silently not sent, or TLS that is silently not used, would look like a wrong password."""
    set_security(monkeypatch, BOOTSTRAP_SERVERS="127.0.0.1:9092", **values)
    for settings in (Settings, KafkaSecuritySettings):
        with pytest.raises(SettingsError) as refused:
            load_settings(settings)
        assert fault in str(refused.value)
        assert "hunter2" not in str(refused.value)


def test_by_default_clients_connect_plainly() -> None:
    """On one machine and in the cluster's own network nothing has to be set."""
    assert "KAFKA_SECURITY_PROTOCOL" not in os.environ
    assert load_client_options() == {}
