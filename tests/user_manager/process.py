"""Real `python -m user_manager` processes for tests."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.ports import free_port
from tests.service_process import ServiceProcess

SIGNING_KEY: Final = "the-signing-key-of-tests"
OPERATOR_TOKEN: Final = "the-operators-own-token"
PROGRAM: Final = ("-m", "user_manager")

StartProcess = Callable[..., ServiceProcess]
"""A function that starts a user_manager process; its keyword arguments are settings."""


@contextmanager
def process_starter(folder: Path, program: Sequence[str] = PROGRAM, **defaults: str) -> Iterator[StartProcess]:
    """Yield a function that starts user_manager processes; kill all of them at the end of the block.

    `defaults` are settings of all processes; the function's own arguments override them. By default the processes share
    a SQLite file in `folder`, and nothing listens on the addresses of the collector and of Kafka.
    """
    processes: list[ServiceProcess] = []

    def start(**settings: str) -> ServiceProcess:
        all_settings = {
            "DATABASE_URL": f"sqlite:///{folder}/user_manager.db",
            "HTTP_PORT": str(free_port()),
            "GRPC_PORT": str(free_port()),
            "COLLECTOR_GRPC_TARGET": f"127.0.0.1:{free_port()}",
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
            "PUBLIC_URL": "https://towerwatch.example",
            "SIGNING_KEY": SIGNING_KEY,
            "OPERATOR_TOKEN": OPERATOR_TOKEN,
            "ALLOW_TEST_ADDRESSES": "true",
            "MAILS_PER_CLIENT": "1000000",  # all tests are one client
            "MAILS_PER_HOUR": "1000000",
            **defaults,
            **settings,
        }
        process = ServiceProcess(program, all_settings, folder / f"user_manager-{len(processes)}.log")
        processes.append(process)
        return process

    try:
        yield start
    finally:
        for process in processes:
            process.kill()
