"""The local stack: its processes, their environment variables, and the checks that they are ready."""

import hmac
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Final

import httpx

from chassis.addresses import LONGEST_SOCKET_PATH, UNIX_SCHEME
from local.opensky.nightly_record import NIGHTLY, RecordSchedule
from local.opensky.record_options import encode_record_options
from local.ports import HOST, Ports
from local.processes import ROOT, ProcessSupervisor, find_log_file

SERVICES: Final = ("user_manager", "collector", "streams", "notifier")
GATEWAY: Final = "gateway"
"""The process that people reach; it passes their requests on to the services."""

FIRST_START_S: Final = 600.0
"""Seconds to wait for Kafka: the first start downloads it, later ones take seconds."""
READY_S: Final = 90.0
"""Seconds to wait for any other process."""

REPLAY_BEACONS: Final = "KJFK,KATL,KEWR,KORD,KLGA"
"""BEACON_AIRPORTS of a collector that uses the replay. All its flights leave New York: KJFK, KEWR and KLGA have the
departures; KATL and KORD, two of the largest destinations, have arrivals."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets that the services share: the key of signed links, and the operator's token."""

    signing_key: str
    operator_token: str

    @classmethod
    def random(cls) -> "Secrets":
        """Make new random secrets."""
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32))


def list_port_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the fields of Ports that these processes listen on, in the order of the fields.

    A process may have several: all fields that begin with its name.
    """
    return tuple(each.name for each in fields(Ports) if any(each.name.startswith(name) for name in names))


def build_environment(ports: Ports, data: Path, secret: Secrets, kafka: str | None) -> dict[str, str]:
    """Build the environment variables of the whole stack; the Procfile adds those of single processes.

    They name the ports, the data folder, the broker, the services' addresses, the secrets, and logs for a console; mail
    server and source of flights are added by `with_mailbox` and `with_replay`. `kafka`: bootstrap servers of an
    external broker; None: the stack's own broker.
    """
    kafka = kafka or f"{HOST}:{ports.kafka}"
    return {
        **{f"{name.upper()}_PORT": str(port) for name, port in asdict(ports).items()},
        "DATA_DIR": str(data),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}",
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        **_build_targets(ports, data, "grpc"),
        **_build_targets(ports, data, "http"),
        "GATEWAY_HOST": HOST,
        "PUBLIC_URL": build_public_url(ports),
        "ALLOWED_HOSTS": "",
        "TRUSTED_PROXY": "",
        # Derived, so that no file needs to keep it, and the same in every process that builds this environment.
        "GRPC_SECRET": hmac.digest(secret.signing_key.encode(), b"grpc", "sha256").hex(),
        "SIGNING_KEY": secret.signing_key,
        "OPERATOR_TOKEN": secret.operator_token,
        "LOG_FORMAT": "console",
        "GRPC_VERBOSITY": "ERROR",  # else gRPC's own lines about idle connections fill the logs
    }


def build_public_url(ports: Ports) -> str:
    """Return the address of the stack for people: the gateway's."""
    return f"http://{HOST}:{ports.gateway_http}"


def _build_targets(ports: Ports, data: Path, protocol: str) -> dict[str, str]:
    """Return the variables that say where `protocol` ("grpc" or "http") listens, and where its clients call it.

    It listens on Unix domain sockets in the data folder, which no other user of the machine can enter: so none can use
    up a service's connections, or claim a client's address as the gateway does. If the folder's path is too long for a
    socket, clients use the ports, on which services believe no address that a header names.
    """
    folder = data.absolute() / protocol
    sockets = {name: str(folder / f"{name.lower()}.sock") for name in ("USER_MANAGER", "COLLECTOR")}
    is_short = all(len(path.encode()) <= LONGEST_SOCKET_PATH for path in sockets.values())
    variables = {}
    for name, path in sockets.items():
        port = getattr(ports, f"{name}_{protocol}".lower())
        variables[f"{name}_{protocol.upper()}_SOCKET"] = path if is_short else ""
        variables[f"{name}_{protocol.upper()}_TARGET"] = f"{UNIX_SCHEME}{path}" if is_short else f"{HOST}:{port}"
    return variables


def assign_worker_ports(ports: Ports, count: int) -> dict[str, Ports]:
    """Return the ports of `count` stream workers, by process name: `streams`, `streams_2`, `streams_3` and so on.

    The first worker has `ports` as they are; the pages of the others are on the ports after the last of `ports`.
    """
    first_free = max(astuple(ports)) + 1
    others = {f"streams_{number + 2}": replace(ports, streams_web=first_free + number) for number in range(count - 1)}
    return {"streams": ports, **others}


def start_streams_worker(processes: ProcessSupervisor, name: str, ports: Ports, data: Path) -> None:
    """Start one of the workers of `assign_worker_ports`; this does not wait until it is ready.

    All but the first get a data folder of their own, in `data`, and the port of their pages.
    """
    own = {} if name == "streams" else {"STREAMS_WEB_PORT": str(ports.streams_web), "DATA_DIR": str(data / name)}
    processes.start(name, "streams", own)


def with_replay(environment: Mapping[str, str], ports: Ports, schedule: RecordSchedule = NIGHTLY) -> dict[str, str]:
    """Return a copy of the environment with the replay of real flights in place of OpenSky, with anonymous access.

    `schedule`: when the replay's record of each day appears, and what it lacks.
    """
    return {
        **environment,
        "OPENSKY_REPLAY_OPTIONS": " ".join(encode_record_options(schedule)),
        "BEACON_AIRPORTS": REPLAY_BEACONS,
        "OPENSKY_URL": f"http://{HOST}:{ports.opensky}/api",
        "OPENSKY_TOKEN_URL": f"http://{HOST}:{ports.opensky}/auth/realms/opensky-network/protocol/openid-connect/token",
        "OPENSKY_PROXY": "",  # the replay is on this machine
        "OPENSKY_CLIENT_ID": "",
        "OPENSKY_CLIENT_SECRET": "",
        "OPENSKY_CREDENTIALS_FILE": "",
        "LIVE": "off",
        "LIVE_URLS": "",  # real aircraft have no place among the replay's
        "CREDITS_PER_DAY": "1000000",  # as the Procfile gives the replay
    }


def with_positions(environment: Mapping[str, str], credits_per_day: int, faults: str | None) -> dict[str, str]:
    """Return a copy of the environment of `with_replay` with an account at the replay, by which positions are polled.

    `credits_per_day`: the account's credits for positions; `faults`: an option --state-faults of the replay, without
    spaces; None: none.
    """
    options = [
        environment["OPENSKY_REPLAY_OPTIONS"],
        "--sky-goes-on",
        *([f"--state-faults={faults}"] if faults else []),
    ]
    return {
        **environment,
        "OPENSKY_REPLAY_OPTIONS": " ".join(options),
        "OPENSKY_CLIENT_ID": "towerwatch-demo",
        "OPENSKY_CLIENT_SECRET": secrets.token_urlsafe(32),
        "LIVE": "auto",
        "LIVE_CREDITS_PER_DAY": str(credits_per_day),
    }


def with_mailbox(environment: Mapping[str, str], ports: Ports) -> dict[str, str]:
    """Return a copy of the environment with the mailbox on this machine in place of a mail server."""
    return {
        **environment,
        "SMTP_HOST": HOST,
        "SMTP_PORT": str(ports.mailbox),
        "SMTP_SECURITY": "plaintext",
        "SMTP_USERNAME": "",
        "SMTP_PASSWORD": "",
        "MAIL_FROM": "Towerwatch <alerts@towerwatch.example>",
    }


def wait_until_ready(processes: ProcessSupervisor, names: tuple[str, ...], ports: Ports, data: Path) -> None:
    """Wait until each of `names` is ready, one after the other, each with its own timeout.

    Raises LocalError if any started process ends, or if one is not ready after `get_ready_timeout_s`.
    """
    for name in names:
        processes.wait_until(
            name,
            partial(is_ready, name, ports, data),
            get_ready_timeout_s(name),
            partial(explain_waiting, name, ports, data),
        )


def get_ready_timeout_s(name: str) -> float:
    """Return the seconds that a process may take until it is ready: many for Kafka, which may be downloaded first."""
    return FIRST_START_S if name == "kafka" else READY_S


def is_ready(name: str, ports: Ports, data: Path) -> bool:
    """Return True if a process of the stack is ready now, False if not yet.

    Services are ready by their own health check, the replay and the mailbox if their port accepts connections (the
    mailbox's port for mails, which it opens after the one for its pages), Kafka once its log has the line `ready`.
    Raises FileNotFoundError before Kafka's log exists.
    """
    match name:
        case "kafka":
            return "ready " in find_log_file(data, name).read_text(errors="replace")
        case "opensky" | "mailbox":
            return _accepts_connections(getattr(ports, name))
        case "user_manager" | "collector":
            return _is_healthy(getattr(ports, f"{name}_http"))
        case _:
            return _is_healthy(getattr(ports, f"{name}_web"))


def explain_waiting(name: str, ports: Ports, data: Path) -> str:
    """Return why a process of the stack is not ready, as far as can be seen from outside, and where to read more."""
    log_file = find_log_file(data, name)
    if name == "kafka":
        return f"it is still starting, or its jars are being fetched; its log is {log_file}"
    if name in ("opensky", "mailbox"):
        return f"nothing takes connections at {HOST}:{getattr(ports, name)}; its log is {log_file}"
    port: int = getattr(ports, f"{name}_http" if name in ("user_manager", "collector") else f"{name}_web")
    url = f"http://{HOST}:{port}/health/ready"
    try:
        answer = _fetch(url)
    except httpx.TransportError as error:
        return f"{url} does not answer ({type(error).__name__}); its log is {log_file}"
    if answer.status_code == httpx.codes.OK:
        return f"it has become ready only now: this machine is slow or busy; start again, or see {log_file}"
    reason = _read_reason(answer)
    if reason is None:
        return f"{url} was answered {answer.status_code} by something else than {name}; see what listens there"
    return f"it answers, but is not ready ({reason.rstrip('.')}); its log is {log_file}"


def find_damage(name: str, ports: Ports) -> str | None:
    """Return what a service says of its database if that is damaged, which no waiting mends; None: nothing."""
    if name not in ("user_manager", "collector"):
        return None
    url = f"http://{HOST}:{getattr(ports, f'{name}_http')}/health/ready"
    try:
        reason = _read_reason(_fetch(url))
    except httpx.TransportError:
        return None
    return reason if reason is not None and reason.startswith("The database is damaged") else None


def _read_reason(answer: httpx.Response) -> str | None:
    """Return what a service says of itself when it is not ready; None if the answer is not a service's of ours."""
    try:
        body = answer.json()
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    detail = body.get("detail") or body.get("reason") or body.get("status")
    return str(detail) if detail else None


def _is_healthy(port: int) -> bool:
    """Return True if the service at the port reports readiness, False if not or if it does not answer."""
    try:
        return _fetch(f"http://{HOST}:{port}/health/ready").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _fetch(url: str) -> httpx.Response:
    """Get an `http://` page of this machine. Raises httpx.TransportError if there is no answer within 5 s.

    `verify` says that httpx need not read the certificate authorities, which no plain request uses: it would spend
    30 ms on them for each look at a service that is starting.
    """
    return httpx.get(url, timeout=5, trust_env=False, verify=False)


def _accepts_connections(port: int) -> bool:
    """Return True if a TCP connection to the port succeeds, else False."""
    try:
        socket.create_connection((HOST, port), timeout=5).close()
    except OSError:
        return False
    return True
