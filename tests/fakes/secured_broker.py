"""A real broker whose second listener takes only clients with TLS, with SASL, or with both."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from chassis.topics import TopicLike
from local.kafka import Broker
from local.ports import HOST
from tests.fakes.tls import server_context
from tests.ports import free_port
from towerwatch.topics import CATALOGUE

USERNAME: Final = "towerwatch"
PASSWORD: Final = "correct horse battery staple"
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_MODULES: Final = "org.apache.kafka.common.security"


class SecuredBroker(Broker):
    """A broker with a plain listener, by which it is prepared, and one more; `secured` is that one's address."""

    def __init__(self, data: Path, protocol: str = "SASL_SSL", topics: Iterable[TopicLike] = CATALOGUE) -> None:
        """`protocol`: Kafka's name of what the second listener asks for. `topics`: made at the start."""
        super().__init__(data, topics=topics)
        data.mkdir(parents=True, exist_ok=True)
        _, self.authority = server_context(data)
        (data / "keystore.pem").write_bytes((data / "key.pem").read_bytes() + self.authority.read_bytes())
        self._protocol = protocol
        self._secured_port = free_port()

    @property
    def secured(self) -> str:
        """The address of the second listener."""
        return f"{HOST}:{self._secured_port}"

    def _render_properties(self, port: int, controller_port: int) -> str:
        lines = dict(
            line.split("=", 1) for line in super()._render_properties(port, controller_port).splitlines() if line
        )
        lines["listeners"] += f",SECURED://{self.secured}"
        lines["advertised.listeners"] += f",SECURED://{self.secured}"
        lines["listener.security.protocol.map"] += f",SECURED:{self._protocol}"
        lines["ssl.keystore.type"] = "PEM"
        lines["ssl.keystore.location"] = "keystore.pem"
        own = "listener.name.secured"
        lines[f"{own}.sasl.enabled.mechanisms"] = ",".join(_MECHANISMS)
        lines[f"{own}.plain.sasl.jaas.config"] = (
            f'{_MODULES}.plain.PlainLoginModule required user_{USERNAME}="{PASSWORD}";'
        )
        for mechanism in _MECHANISMS[1:]:
            lines[f"{own}.{mechanism.lower()}.sasl.jaas.config"] = f"{_MODULES}.scram.ScramLoginModule required;"
        return "".join(f"{name}={value}\n" for name, value in lines.items())

    def _list_format_arguments(self) -> tuple[str, ...]:
        return tuple(
            part
            for mechanism in _MECHANISMS[1:]
            for part in ("--add-scram", f"{mechanism}=[name={USERNAME},password={PASSWORD}]")
        )
