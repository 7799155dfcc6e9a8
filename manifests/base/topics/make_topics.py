"""The command that creates the catalogue's topics on the environment's brokers; existing topics are not changed.

It waits for the brokers without end, and says once in a while what it waits for, on standard error. Exit status: 0 when
all topics exist and have leaders; 2 when they cannot be made, with the reason on standard error.
"""

import asyncio
import sys

from chassis.errors import ChassisError
from chassis.process import exit_with_error, load_settings_or_exit
from chassis.settings import Settings
from chassis.topics import BrokerUnreachableError, ensure_topics
from towerwatch.topics import CATALOGUE

NAME = "topics"
SAY_EVERY_S = 60.0
"""Seconds of waiting for the brokers after which the reason is printed once more."""


def main() -> None:
    """Create the missing topics, or exit with code 2."""
    settings = load_settings_or_exit(NAME, Settings)
    servers, copies = settings.kafka_bootstrap_servers, settings.kafka_replication_factor
    try:
        while not _try_to_make_topics(servers, copies):
            pass
    except ChassisError as error:
        exit_with_error(NAME, error)
    print(f"{NAME}: all {len(CATALOGUE)} are there")


def _try_to_make_topics(servers: str, copies: int) -> bool:
    """Make the missing topics and return True; False, with the reason printed, if no broker did so in time.

    Raises ChassisError if the topics cannot be made.
    """
    try:
        asyncio.run(ensure_topics(servers, CATALOGUE, copies, SAY_EVERY_S))
    except BrokerUnreachableError as error:
        if not isinstance(error.__cause__, TimeoutError):
            raise  # the setting is no list of servers, which waiting does not mend
        print(f"{NAME}: still waiting: {error}", file=sys.stderr, flush=True)
        return False
    return True


if __name__ == "__main__":
    main()
