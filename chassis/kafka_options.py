"""The options about security of this process's Kafka clients."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from chassis.kafka_security import KafkaSecuritySettings
from chassis.settings import load_settings


@cache
def load_kafka_security() -> KafkaSecuritySettings:
    """Return how this process connects to Kafka, read from its environment once.

    A service has validated these settings at its start. Raises SettingsError where nothing has.
    """
    return load_settings(KafkaSecuritySettings)


def load_client_options() -> Mapping[str, Any]:
    """Return the options about security for a client of aiokafka; empty if it connects plainly."""
    return load_kafka_security().build_client_options()
