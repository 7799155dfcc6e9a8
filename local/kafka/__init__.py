"""A real Apache Kafka for one machine, without Docker and without root: `python -m local.kafka run --data DIR`."""

from local.kafka.broker import Broker, find_external_bootstrap_servers, running_broker
from local.kafka.errors import BrokerError

__all__ = ["Broker", "BrokerError", "find_external_bootstrap_servers", "running_broker"]
