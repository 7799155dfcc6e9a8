"""Settings: read once from the environment, every fault reported at once, secrets also from files.

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
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError as UnparsableSettingError,
)

from chassis.clock import Clock, build_clock
from chassis.errors import SettingsError

Port = Annotated[int, Field(ge=1, le=65535)]


def _require_strong_secret(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < 16:
        raise ValueError("must have at least 16 characters")
    return secret


StrongSecret = Annotated[SecretStr, AfterValidator(_require_strong_secret)]


def _read_setting_file(field_name: str) -> str | None:
    """What the file holds that `NAME_FILE` names; None where none is named or it is empty. Raises SettingsError."""
    variable = f"{field_name.upper()}_FILE"
    path = os.environ.get(variable)
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n") or None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}: cannot be read: {type(error).__name__}") from None


class _SettingFileSource(EnvSettingsSource):
    """The source of settings that reads `NAME` from the file that `NAME_FILE` names.

    A file that cannot be read counts as not set here; `load_settings` reports it.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        with suppress(SettingsError):
            return _read_setting_file(field_name), field_name, False
        return None, field_name, False


class Settings(BaseSettings):
    """What every service needs. Each service's own class adds to it."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "json"
    k8s_node_name: str = "local"
    kafka_bootstrap_servers: str = Field(min_length=1, description="host:port[,host:port…]")
    kafka_replication_factor: int = Field(default=1, ge=1)
    listen_host: str = "127.0.0.1"
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
        return init_settings, env_settings, _SettingFileSource(settings_cls)

    def build_clock(self) -> Clock:
        """The clock that these settings describe: the system's, unless CLOCK_START is set."""
        return build_clock(self.clock_start, self.clock_rate, self.clock_anchor, self.clock_stop)


S = TypeVar("S", bound=Settings)


def load_settings(settings: type[S]) -> S:
    """Read the environment. Raises SettingsError with every fault, by variable, never with a value."""
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
            faults.setdefault(name, f"{name}: {e['msg']}")  # what has no file to be read from is not missing too
    except (UnparsableSettingError, ValueError) as error:
        faults[str(error)] = str(error)
    if faults:
        raise SettingsError("\n".join(faults.values()))
    return loaded
