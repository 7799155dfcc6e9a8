"""The settings of every service: read once from the environment, with all faults reported together."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError as UnparsableSettingError

from chassis.addresses import ListenHost, Port, ServerList
from chassis.clock import Clock, build_clock
from chassis.errors import SettingsError
from chassis.faults import describe_fault
from chassis.grpc_secret import GrpcSecret
from chassis.hosts import HostNames
from chassis.kafka_security import KafkaSecuritySettings
from chassis.setting_files import EnvironmentSettings, read_setting_file

__all__ = ["Port", "Settings", "StrongSecret", "load_settings"]


def _require_strong_secret(secret: SecretStr) -> SecretStr:
    """Return the secret, or raise ValueError if it is shorter than 16 characters."""
    if len(secret.get_secret_value()) < 16:
        raise ValueError("must have at least 16 characters")
    return secret


StrongSecret = Annotated[SecretStr, AfterValidator(_require_strong_secret)]
"""The type of a setting that is a secret of at least 16 characters."""


class Settings(KafkaSecuritySettings):
    """The settings that every service needs: logs, node, Kafka, listening address and clock.

    Each service has a subclass with its own settings. `load_settings` reads them.
    """

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "json"
    k8s_node_name: str = "local"
    kafka_bootstrap_servers: ServerList
    kafka_replication_factor: int = Field(default=1, ge=1)
    listen_host: ListenHost = "127.0.0.1"
    grpc_secret: GrpcSecret | None = None
    """The secret that services send one another in gRPC calls; two during a change. None: no call needs any."""
    allowed_hosts: HostNames = ""
    """Further host names by which people reach the service, separated by commas: see `chassis.hosts`."""
    clock_start: datetime | None = None
    clock_rate: float = Field(default=1.0, gt=0)
    clock_anchor: datetime | None = None
    clock_anchor_path: Path | None = None
    """The file in which the anchor will be; until then the clock is held at its start. In place of CLOCK_ANCHOR."""
    clock_stop: datetime | None = None

    def build_clock(self) -> Clock:
        """Return the clock that these settings describe: the system's clock, unless CLOCK_START is set.

        Raises ValueError if the settings of the clock do not fit together.
        """
        return build_clock(
            self.clock_start, self.clock_rate, self.clock_anchor, self.clock_stop, self.clock_anchor_path
        )


S = TypeVar("S", bound=EnvironmentSettings)


def _describe_setting(name: str, fault: ErrorDetails) -> str:
    """Return what is wrong with a setting, as the end of a sentence that begins with its name, without its value."""
    if fault["type"] == "missing":
        return f"is not set; set it, or {name}_FILE to the path of a file that holds it"
    return describe_fault(fault)


def load_settings(settings: type[S]) -> S:
    """Read settings of a class from the environment and from files, and require that their clock is valid.

    Raises SettingsError with all faults, each with the variable's name and never with its value.
    """
    faults: dict[str, str] = {}
    for name in settings.model_fields:
        try:
            read_setting_file(name)
        except SettingsError as error:
            faults[name.upper()] = str(error)
    try:
        loaded = settings()  # what is missing here comes from the environment
        if isinstance(loaded, Settings):
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
