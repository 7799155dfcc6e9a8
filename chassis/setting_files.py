"""Where settings come from: variables of the environment, and files that such variables name.

A setting `smtp_password` is read from the variable `SMTP_PASSWORD`, or from the file that
`SMTP_PASSWORD_FILE` names (as Kubernetes and Docker mount secrets). Empty means not set.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from chassis.errors import SettingsError
from chassis.faults import explain_unreadable


def read_setting_file(field_name: str) -> str | None:
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
    except (OSError, ValueError) as error:  # a ValueError: not UTF-8, or a path with a NUL
        raise SettingsError(f"{variable}: names a file that cannot be read ({explain_unreadable(error)})") from None


class _SettingFileSource(EnvSettingsSource):
    """The source of settings that reads `NAME` from the file that `NAME_FILE` names.

    A file that cannot be read counts as not set here; `load_settings` reports it.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the setting's value (None: not set, or unreadable), its name, and False for "is JSON".

        pydantic calls this for each setting.
        """
        with suppress(SettingsError):
            return read_setting_file(field_name), field_name, False
        return None, field_name, False


class EnvironmentSettings(BaseSettings):
    """Settings that are read from variables of the environment and from files; `chassis.settings` loads them."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

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
