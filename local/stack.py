"""The local stack: which processes, with which environment, and when they are ready."""

import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Final

import httpx

from local.ports import HOST, Ports
from local.processes import ROOT, Processes, log_file

SERVICES: Final = ("user_manager", "collector", "streams", "notifier")

FIRST_START_S: Final = 600.0
"""The first start fetches Kafka; after that all is ready within seconds."""
READY_S: Final = 90.0


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the services share and nobody else may know."""

    signing_key: str
    operator_token: str

    @classmethod
    def random(cls) -> "Secrets":
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32))


def listeners(names: tuple[str, ...]) -> tuple[str, ...]:
    """The fields of Ports that these processes listen on."""
    return tuple(each.name for each in fields(Ports) if any(each.name.startswith(name) for name in names))


def environment(ports: Ports, data: Path, secret: Secrets, kafka: str | None) -> dict[str, str]:
    """The environment of the whole stack; the Procfile adds what differs from process to process.

    `kafka`: the brokers of the user's own, if any.
    """
    kafka = kafka or f"{HOST}:{ports.kafka}"
    return {
        **{f"{name.upper()}_PORT": str(port) for name, port in asdict(ports).items()},
        "DATA_DIR": str(data),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}",
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "USER_MANAGER_GRPC_TARGET": f"{HOST}:{ports.user_manager_grpc}",
        "COLLECTOR_GRPC_TARGET": f"{HOST}:{ports.collector_grpc}",
        "PUBLIC_URL": f"http://{HOST}:{ports.user_manager_http}",
        "SIGNING_KEY": secret.signing_key,
        "OPERATOR_TOKEN": secret.operator_token,
        "LOG_FORMAT": "console",
    }


def streams_workers(ports: Ports, count: int) -> dict[str, Ports]:
    """So many workers of the stream by the names of their processes, each with the ports as it shall see them.

    The first one is `streams`; the others' pages are on the ports behind the row.
    """
    behind = ports.kafka + 1
    others = {f"streams_{number + 2}": replace(ports, streams_web=behind + number) for number in range(count - 1)}
    return {"streams": ports, **others}


def begin_streams_worker(processes: Processes, name: str, ports: Ports, data: Path) -> None:
    """Begin one of `streams_workers`. All but the first have a folder of their own."""
    own = {} if name == "streams" else {"STREAMS_WEB_PORT": str(ports.streams_web), "DATA_DIR": str(data / name)}
    processes.begin(name, "streams", own)


def with_replay(environment: Mapping[str, str], ports: Ports) -> dict[str, str]:
    """The environment with the replay of real flights in OpenSky's place, for anonymous access."""
    return {
        **environment,
        "OPENSKY_URL": f"http://{HOST}:{ports.opensky}/api",
        "OPENSKY_TOKEN_URL": f"http://{HOST}:{ports.opensky}/auth/realms/opensky-network/protocol/openid-connect/token",
        "OPENSKY_CLIENT_ID": "",
        "OPENSKY_CLIENT_SECRET": "",
        "OPENSKY_CREDENTIALS_FILE": "",
        "CREDITS_PER_DAY": "1000000",  # as the Procfile gives the replay
    }


def with_mailbox(environment: Mapping[str, str], ports: Ports) -> dict[str, str]:
    """The environment with a mailbox on this machine in the mail server's place."""
    return {
        **environment,
        "SMTP_HOST": HOST,
        "SMTP_PORT": str(ports.mailbox),
        "SMTP_SECURITY": "plaintext",
        "SMTP_USERNAME": "",
        "SMTP_PASSWORD": "",
        "MAIL_FROM": "Towerwatch <alerts@towerwatch.example>",
    }


def wait_until_ready(processes: Processes, names: tuple[str, ...], ports: Ports, data: Path) -> None:
    """Return when each of `names` is ready. Raises LocalError when a process ends or takes too long."""
    for name in names:
        processes.wait_until(name, lambda name=name: is_ready(name, ports, data), patience_s(name))  # type: ignore[misc]


def patience_s(name: str) -> float:
    """How long a process may take until it is ready."""
    return FIRST_START_S if name == "kafka" else READY_S


def is_ready(name: str, ports: Ports, data: Path) -> bool:
    """Whether a process of the stack does its work now, by its own health check where it has one."""
    match name:
        case "kafka":
            return "ready " in log_file(data, name).read_text(errors="replace")
        case "opensky" | "mailbox":
            return _accepts(getattr(ports, name))
        case "user_manager" | "collector":
            return _is_healthy(getattr(ports, f"{name}_http"))
        case _:
            return _is_healthy(getattr(ports, f"{name}_web"))


def _is_healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}/health/ready", timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=5).close()
    except OSError:
        return False
    return True
