"""The settings of every service: read once from the environment, with all faults reported together.

A setting `smtp_password` is read from the variable `SMTP_PASSWORD`, or from the file that
`SMTP_PASSWORD_FILE` names (as Kubernetes and Docker mount secrets). Empty means not set.
"""

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError as UnparsableSettingError,
)

from chassis.addresses import ListenHost, Port, ServerList
from chassis.clock import Clock, build_clock
from chassis.errors import SettingsError
from chassis.faults import describe_fault
from chassis.grpc_secret import GrpcSecret
from chassis.hosts import HostNames

__all__ = ["Port", "Settings", "StrongSecret", "load_settings"]


def _require_strong_secret(secret: SecretStr) -> SecretStr:
    """Return the secret, or raise ValueError if it is shorter than 16 characters."""
    if len(secret.get_secret_value()) < 16:
        raise ValueError("must have at least 16 characters")
    return secret


StrongSecret = Annotated[SecretStr, AfterValidator(_require_strong_secret)]
"""The type of a setting that is a secret of at least 16 characters."""


def _read_setting_file(field_name: str) -> str | None:
    """Return the content of the file that `NAME_FILE` names, or None if the variable is not set or the file is empty.

    A byte order mark at its begin and line ends at its end are removed. Raises SettingsError if the file cannot be
    read as UTF-8.
    """
    variable = f"{field_name.upper()}_FILE"
    path = os.environ.get(variable)
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8-sig").rstrip("\r\n") or None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}: cannot be read: {type(error).__name__}") from None


class _SettingFileSource(EnvSettingsSource):
    """The source of settings that reads `NAME` from the file that `NAME_FILE` names.

    A file that cannot be read counts as not set here; `load_settings` reports it.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the setting's value (None: not set, or unreadable), its name, and False for "is JSON".

        pydantic calls this for each setting.
        """
        with suppress(SettingsError):
            return _read_setting_file(field_name), field_name, False
        return None, field_name, False


class Settings(BaseSettings):
    """The settings that every service needs: logs, node, Kafka, listening address and clock.

    Each service has a subclass with its own settings. `load_settings` reads them.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "json"
    k8s_node_name: str = "local"
    kafka_bootstrap_servers: ServerList
    kafka_replication_factor: int = Field(default=1, ge=1)
    listen_host: ListenHost = "127.0.0.1"
    grpc_secret: GrpcSecret | None = None
    """The secret that services show one another in gRPC calls; two during a change. None: no call needs any."""
    allowed_hosts: HostNames = ""
    """Further host names by which people reach the service, separated by commas: see `chassis.hosts`."""
    clock_start: datetime | None = None
    clock_rate: float = Field(default=1.0, gt=0)
    clock_anchor: datetime | None = None
    clock_stop: datetime | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of settings: arguments, environment variables, files; an earlier source wins.

        Sources of `.env` and of a secrets directory are left out. pydantic calls this.
        """
        return init_settings, env_settings, _SettingFileSource(settings_cls)

    def build_clock(self) -> Clock:
        """Return the clock that these settings describe: the system's clock, unless CLOCK_START is set.

        Raises ValueError if the settings of the clock do not fit together.
        """
        return build_clock(self.clock_start, self.clock_rate, self.clock_anchor, self.clock_stop)


S = TypeVar("S", bound=Settings)


def _describe_setting(name: str, fault: ErrorDetails) -> str:
    """Return what is wrong with a setting, as the end of a sentence that begins with its name, without its value."""
    if fault["type"] == "missing":
        return f"Field required: set this variable, or {name}_FILE to the path of a file"
    return describe_fault(fault)


def load_settings(settings: type[S]) -> S:
    """Read settings of a class from the environment and from files, and require that their clock is valid.

    Raises SettingsError with all faults, each with the variable's name and never with its value.
    """
    faults: dict[str, str] = {}
    for name in settings.model_fields:
        try:
            _read_setting_file(name)
        except SettingsError as error:
            faults[name.upper()] = str(error)
    try:
        loaded = settings()  # type: ignore[call-arg]  # what is missing here comes from the environment
        loaded.build_clock()
    except ValidationError as error:
        for e in error.errors():
            name = ".".join(map(str, e["loc"])).upper()
            text = _describe_setting(name, e)
            # Not if it is reported already: a setting whose file cannot be read is not missing.
            faults.setdefault(name, f"{name}: {text}" if name else text)
    except (UnparsableSettingError, ValueError) as error:
        faults[str(error)] = str(error)
    if faults:
        raise SettingsError("\n".join(faults.values()))
    return loaded
