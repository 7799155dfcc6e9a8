"""The check of all services' settings before anything starts: all faults together, each with its line of `.env`."""

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Final, cast

from chassis.errors import SettingsError
from chassis.setting_files import EnvironmentSettings
from chassis.settings import load_settings
from collector.settings import CollectorSettings
from local.errors import LocalError
from local.processes import read_procfile
from local.up.env_file import find_lines
from local.up.settings import StackConfig
from notifier.settings import NotifierSettings
from streams.settings import JoinSettings
from user_manager.settings import UserManagerSettings

_SETTINGS: Final[Mapping[str, type[EnvironmentSettings]]] = {
    "user_manager": UserManagerSettings,
    "collector": CollectorSettings,
    "streams": JoinSettings,
    "notifier": NotifierSettings,
}
"""What each service loads at its start."""


def require_valid_settings(config: StackConfig, env_file: Path) -> CollectorSettings:
    """Load the settings of every service as it will load them itself, and return the collector's.

    Raises LocalError with all faults of all services, each once; where `.env` sets the setting, with the line.
    """
    loaded: dict[str, EnvironmentSettings] = {}
    faults: dict[str, None] = {}
    for name, command in read_procfile().items():
        if name not in _SETTINGS:
            continue
        with _replace_environment({**os.environ, **config.environment}, command):
            try:
                loaded[name] = load_settings(_SETTINGS[name])
            except SettingsError as error:
                faults.update(dict.fromkeys(str(error).splitlines()))
    if faults:
        lines = find_lines(env_file)
        told = "\n".join(f"  {_name_line(fault, lines, env_file)}" for fault in faults)
        raise LocalError(f"nothing was started, because settings are wrong:\n{told}")
    return cast(CollectorSettings, loaded["collector"])


@contextmanager
def _replace_environment(variables: Mapping[str, str], command: str) -> Iterator[None]:
    """Replace the environment during the block by that which a command of the Procfile would see, and restore it after.

    `variables`: what the command is started with. Those that the command sets itself (`env NAME=VALUE …`) are added.
    """
    before = dict(os.environ)
    own = dict(word.split("=", 1) for word in shlex.split(command) if re.match(r"[A-Z_]+=", word))
    try:
        os.environ.clear()
        os.environ.update(variables)
        os.environ.update({name: Template(value).safe_substitute(variables) for name, value in own.items()})
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _name_line(fault: str, lines: Mapping[str, int], env_file: Path) -> str:
    """Return a fault with the line of the first setting that it names and `.env` sets; without one, unchanged."""
    for name in re.findall(r"[A-Z][A-Z0-9_]+", fault):
        if name in lines:
            return f"{env_file.name}, line {lines[name]}: {fault}"
    return fault
