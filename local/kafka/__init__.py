"""A real Apache Kafka broker for one machine, without Docker and without root: `python -m local.kafka run`."""

from local.kafka.broker import Broker, find_external_bootstrap_servers, running_broker
from local.kafka.errors import BrokerError

__all__ = ["Broker", "BrokerError", "find_external_bootstrap_servers", "running_broker"]
