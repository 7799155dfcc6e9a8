"""A real `python -m collector` process for tests."""

from pathlib import Path
from typing import Final

from tests.ports import free_port
from tests.service_process import ServiceProcess

OPERATOR_TOKEN: Final = "the-operators-own-token"


class CollectorProcess(ServiceProcess):
    """A running `python -m collector`; by default nothing listens on the addresses that its settings name."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        """Start the process with a SQLite file in `folder`; `settings` override the defaults."""
        all_settings = {
            "DATABASE_URL": f"sqlite:///{folder}/collector.db",
            "HTTP_PORT": str(free_port()),
            "GRPC_PORT": str(free_port()),
            "USER_MANAGER_GRPC_TARGET": f"127.0.0.1:{free_port()}",
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
            "OPENSKY_URL": f"http://127.0.0.1:{free_port()}/api",
            "OPENSKY_TOKEN_URL": f"http://127.0.0.1:{free_port()}/token",
            "OPERATOR_TOKEN": OPERATOR_TOKEN,
            **settings,
        }
        super().__init__(("-m", "collector"), all_settings, folder / f"log-{all_settings['HTTP_PORT']}")
