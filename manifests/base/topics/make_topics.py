"""The command that creates the catalogue's topics on the environment's brokers; existing topics are not changed.

Exit status: 0 when all topics exist and have leaders; 2 when that fails, with the reason on standard error.
"""

import asyncio

from chassis.errors import ChassisError
from chassis.process import exit_with_error, load_settings_or_exit
from chassis.settings import Settings
from chassis.topics import ensure_topics
from towerwatch.topics import CATALOGUE

NAME = "topics"
BROKERS_WITHIN_S = 300.0


def main() -> None:
    """Create the missing topics, or exit with code 2."""
    settings = load_settings_or_exit(NAME, Settings)
    servers, copies = settings.kafka_bootstrap_servers, settings.kafka_replication_factor
    try:
        asyncio.run(ensure_topics(servers, CATALOGUE, copies, BROKERS_WITHIN_S))
    except ChassisError as error:
        exit_with_error(NAME, error)
    print(f"{NAME}: all {len(CATALOGUE)} are there")


if __name__ == "__main__":
    main()
