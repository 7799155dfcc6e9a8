"""The configuration of a stack for daily use, read from its `.env`."""

import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

from chassis.addresses import normalize_listen_host
from local.errors import LocalError
from local.kafka import find_external_bootstrap_servers
from local.ports import DEFAULT_BASE, HOST, Ports
from local.processes import ROOT
from local.stack import GATEWAY, SERVICES, Secrets, build_environment, with_mailbox
from local.up.env_file import read_env_file

ENV_FILE: Final = ROOT / ".env"
DATA: Final = ROOT / ".towerwatch" / "data"
_USUAL_PORTS: Final = {"starttls": "587", "tls": "465", "plaintext": "25"}
"""The ports of mail servers by SMTP_SECURITY: submission, submissions (RFC 8314) and smtp."""
_STACK_SETTINGS: Final = (
    *("PORT_BASE", "LISTEN_HOST", "GATEWAY_HOST", "PUBLIC_URL", "ALLOWED_HOSTS", "TRUSTED_PROXY"),
    *("GRPC_SECRET", "OPERATOR_TOKEN", "LOG_FORMAT"),
    *("SMTP_HOST", "SMTP_PORT", "SMTP_SECURITY", "SMTP_USERNAME", "SMTP_PASSWORD", "MAIL_FROM"),
)
"""The settings that the stack reads itself, or gives a value to. The services get every other setting of the shell
anyway, because processes inherit the shell's variables."""


class StackConfig:
    """The configuration of a stack for daily use: names of its processes in the order of their start, ports, variables.

    `mailbox` is True if mails go to the mailbox on this machine, False if to SMTP_HOST. `given`: the variables that
    `.env` sets.
    """

    def __init__(self, env_file: Path, data: Path) -> None:
        """Read `.env`, and load the stack's secrets, which are made and stored at the first start.

        The shell's value of a setting takes precedence, whether `.env` sets it or not. Empty values count as not set.
        The mailbox is used unless SMTP_HOST is set, the stack's own broker unless KAFKA_BOOTSTRAP_SERVERS is. Raises
        LocalError for an unreadable line of `.env`, for an invalid PORT_BASE, for SMTP_HOST without MAIL_FROM, for a
        LISTEN_HOST or GATEWAY_HOST that does not include 127.0.0.1, or if the secrets cannot be read.
        """
        given = read_env_file(env_file)
        self.given = tuple(given)
        given |= {name: os.environ[name] for name in (*self.given, *_STACK_SETTINGS) if os.environ.get(name)}
        kafka = find_external_bootstrap_servers({**given, **os.environ})
        base = given.pop("PORT_BASE", str(DEFAULT_BASE + 100))
        if not (base.isascii() and base.isdecimal()):
            raise LocalError(
                f"PORT_BASE ({env_file.name}, or the shell) must be a port number in digits alone, not {base!r}"
            )
        listen_host = given.get("LISTEN_HOST", HOST)
        gateway_host = given.get("GATEWAY_HOST", listen_host)
        for name, host in (("LISTEN_HOST", listen_host), ("GATEWAY_HOST", gateway_host)):
            _require_reachable(name, host, env_file)
        self.data = data
        self.ports = Ports.from_base(int(base))
        self.mailbox = "SMTP_HOST" not in given
        if not self.mailbox and "MAIL_FROM" not in given:
            raise LocalError(
                f"{env_file.name} or the shell sets SMTP_HOST, but neither sets MAIL_FROM, the address mails come from"
            )
        self.names = (*(() if kafka else ("kafka",)), *(("mailbox",) if self.mailbox else ()), *SERVICES, GATEWAY)
        settings = build_environment(self.ports, data, _load_or_make_secrets(data), kafka)
        if self.mailbox:
            settings = with_mailbox(settings, self.ports)
        elif "SMTP_PORT" not in given and "SMTP_PORT_FILE" not in given:
            settings["SMTP_PORT"] = _USUAL_PORTS.get(given.get("SMTP_SECURITY", "starttls"), "587")
        self.environment = {**settings, **given, "GATEWAY_HOST": gateway_host}


def _require_reachable(name: str, listen_host: str, env_file: Path) -> None:
    """Raise LocalError unless what listens on the host of this setting is reached at 127.0.0.1, as services are."""
    with suppress(ValueError):
        if normalize_listen_host(listen_host) in (HOST, "localhost", "0.0.0.0", "::"):  # noqa: S104 - compared with
            return
    raise LocalError(
        f"{name} ({env_file.name}, or the shell) must be {HOST}, or 0.0.0.0 or :: for all addresses"
    ) from None


def _load_or_make_secrets(data: Path) -> Secrets:
    """Load the stack's secrets from `secrets.json`; make and store them at the first start, readable by the owner only.

    Creates the data folder if necessary. Raises LocalError if the file is not such a JSON object.
    """
    path = data / "secrets.json"
    try:
        return Secrets(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        data.mkdir(parents=True, exist_ok=True)
        secret = Secrets.random()
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123 - with its rights from the first byte on
            json.dump(asdict(secret), file)
        return secret
    except (ValueError, TypeError):
        raise LocalError(f"{path} cannot be read; delete it, and links and tokens of before are void") from None
