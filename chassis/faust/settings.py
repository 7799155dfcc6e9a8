"""What a service built on Faust is told by its environment."""

import logging
import re
import socket
from pathlib import Path
from typing import Annotated, Final

from aiokafka.conn import collect_hosts
from pydantic import Field, HttpUrl, field_validator

from chassis.settings import Port, Settings

_ALL_ADDRESSES: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not listened on

FAUST_LOG: Final = logging.getLogger("faust.chassis")
"""For `Service.logger` of what is derived from Faust's: a service tells of its own start and end what `chassis.logs`
holds back of Faust, whose loggers it knows by their names."""

_HOST: Final = re.compile(r"[^\s/@]+")


class StreamSettings(Settings):
    """What a service built on Faust needs beside the rest."""

    data_dir: Path = Path("data")
    """Where a worker keeps its tables; one worker per directory."""
    store: str = Field(default="memory", pattern="^(memory|rocksdb)$")
    """`memory` recovers all from the changelogs at each start; `rocksdb` what the directory does not have."""
    web_port: Port
    advertised_url: Annotated[HttpUrl | None, Field(description="http://host:port")] = None
    """Where other workers find this one's pages; in Kubernetes http://$(POD_IP):port."""
    session_timeout_s: float = Field(default=15.0, ge=6.0, le=25.0)
    """A dead worker's partitions move after this. Brokers refuse less than 6 s; requests must be given more time."""
    stuck_after_s: float = Field(default=120.0, ge=6.0)
    """Without progress for so long, though there is something to do and the broker answers, a worker is no longer
    live. Longer than an agent may take over one event, its pauses included; and offsets are committed every 2.8 s."""

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _is_a_list_of_servers(cls, value: str) -> str:
        """Faust would end with a stack trace, where the other services wait for a broker that cannot be."""
        try:
            servers = collect_hosts(value)
        except ValueError:
            servers = []
        if not servers or any(not _HOST.fullmatch(host) or not 0 < port < 65536 for host, port, _ in servers):
            raise ValueError("must be a list of host:port")
        return value

    def build_canonical_url(self) -> str:
        """Where this worker's pages are, as other workers know it: no path, no slash at its end."""
        if self.advertised_url is not None:
            return str(self.advertised_url).rstrip("/")
        host = socket.gethostname() if self.listen_host in _ALL_ADDRESSES else self.listen_host
        return f"http://[{host}]:{self.web_port}" if ":" in host else f"http://{host}:{self.web_port}"
