"""The names that may stand in `.env`: those of the services' settings; any other is likely misspelt."""

import importlib
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from chassis.setting_files import EnvironmentSettings
from local.stack import SERVICES

_OF_THE_STACK: Final = frozenset(
    ("PORT_BASE", "GATEWAY_HOST", "KAFKA_BOOTSTRAP_SERVERS", "OPENSKY_REPLAY_OPTIONS", "JAVA_HOME")
)
_OF_OTHERS: Final = re.compile(
    r"(HTTP|HTTPS|ALL|NO)_PROXY|TZ|LANG|LC_.*|PATH|HOME|TMPDIR|SSL_.*|XDG_.*|(PYTHON|JAVA|KAFKA_HEAP|GRPC_|TOWERWATCH_).*",
    re.IGNORECASE,
)
"""Names that Python, Java, gRPC and the system's libraries read."""


def find_unknown_names(names: Iterable[str]) -> list[str]:
    """Return a sentence for each name that nothing reads, or not all processes, with the nearest known name.

    Reading the settings' names imports the services, which takes a second.
    """
    given = list(names)
    known = _list_known_names() if given else set()
    sentences = []
    for name in given:
        if name in known:
            continue
        if name.upper() in known:
            sentences.append(f"{name} must be written in capitals, {name.upper()}, or not all processes read it")
            continue
        if _OF_OTHERS.fullmatch(name):
            continue
        near = get_close_matches(name.upper(), sorted(known), n=1, cutoff=0.75)
        advice = f"did you mean {near[0]}?" if near else "README.md and .env.example name those that there are"
        sentences.append(f"{name} is no setting, and changes nothing; {advice}")
    return sentences


def _list_known_names() -> set[str]:
    """Return the names of the variables that the services and the stack read, with those of files that hold a value."""
    names = set(_OF_THE_STACK)
    for service in SERVICES:
        module = importlib.import_module(f"{service}.settings")
        for each in vars(module).values():
            if isinstance(each, type) and issubclass(each, EnvironmentSettings):
                names |= {name.upper() for name in each.model_fields}
    return names | {f"{name}_FILE" for name in names - _OF_THE_STACK}
