"""The settings of a service built on Faust."""

import logging
import socket
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from chassis.addresses import HttpUrl, Port, join_host_and_port
from chassis.settings import Settings

_ALL_ADDRESSES: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not listened on

FAUST_LOG: Final = logging.getLogger("faust.chassis")
"""The logger for classes that are derived from Faust's services.

Its name begins with "faust", so that `chassis.logs` suppresses their messages about starts and stops, as Faust's own.
"""


class StreamSettings(Settings):
    """The settings of a service built on Faust, besides those of every service: its tables, pages and timeouts."""

    data_dir: Path = Path("data")
    """The directory of a worker's tables; each worker needs its own."""
    store: Literal["memory", "rocksdb"] = "memory"
    """`memory` recovers all tables from the changelogs at each start; `rocksdb` recovers only what is not on disk."""
    web_port: Port
    advertised_url: Annotated[HttpUrl | None, Field(description="http://host:port")] = None
    """The URL of this worker's pages for other workers; in Kubernetes http://$(POD_IP):port."""
    session_timeout_s: float = Field(default=15.0, ge=6.0, le=25.0)
    """Seconds until a dead worker's partitions move. Brokers refuse less than 6 s; request timeouts must be longer."""
    stuck_after_s: float = Field(default=120.0, ge=6.0)
    """Seconds without progress, with a backlog and an answering broker, after which a worker is no longer live.

    It must be longer than an agent may take over one event, its pauses included; offsets are committed every 2.8 s.
    """

    def build_canonical_url(self) -> str:
        """Return the URL of this worker's pages for other workers, without a slash at its end.

        It is `advertised_url` if that is set; else it consists of `web_port` and `listen_host`, or the machine's name
        if the worker listens on all addresses.
        """
        if self.advertised_url is not None:
            return self.advertised_url.rstrip("/")
        host = socket.gethostname() if self.listen_host in _ALL_ADDRESSES else self.listen_host
        return f"http://{join_host_and_port(host, self.web_port)}"
