"""What services say of wrong settings when they start: every setting of every service, with values of every kind."""

import pytest

from chassis.errors import SettingsError
from chassis.faults import _UNKNOWN
from chassis.settings import Settings, load_settings
from collector.settings import CollectorSettings
from notifier.settings import NotifierSettings
from streams.settings import JoinSettings
from tests.error_texts import FOREIGN_WORDS
from user_manager.settings import UserManagerSettings

SERVICES = (CollectorSettings, NotifierSettings, JoinSettings, UserManagerSettings)
VALUES = (
    "hunter2 hunter2", "-1", "0", "1e400", "nan", "hunter2://hunter2", "http://hunter2@", "99999", "2026-13-40",
    "true", "[]", "{", "ü" * 300, "hunter2\x7f", "/no/such/hunter2", "PT", "hunter2,,hunter2:0", "127.0.0.1:99999:1",
)  # fmt: skip


@pytest.mark.parametrize("settings", SERVICES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("value", VALUES)
def test_every_fault_is_told_in_our_words_and_without_the_value(
    monkeypatch: pytest.MonkeyPatch, settings: type[Settings], value: str
) -> None:
    """One line for each setting, which begins with its name and says what it must be."""
    for name in settings.model_fields:
        monkeypatch.setenv(name.upper(), value)
    with pytest.raises(SettingsError) as caught:
        load_settings(settings)
    for line in str(caught.value).splitlines():
        assert FOREIGN_WORDS.search(line) is None, line
        assert _UNKNOWN not in line, line
        assert "hunter2" not in line
        assert line.split(": ")[0].isupper() or line.split(" ")[0].isupper(), line


@pytest.mark.parametrize("settings", SERVICES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("kind", ["missing", "folder", "binary", "nul"])
def test_a_file_that_cannot_be_read_is_told_with_the_systems_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path, settings: type[Settings], kind: str
) -> None:
    """Not with the name of an error of Python's; the path is not repeated."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    path = {"missing": "/no/such/hunter2", "folder": str(tmp_path), "binary": str(tmp_path / "binary")}.get(kind, "")
    if kind == "nul":
        path = "a" * 5000  # a NUL cannot be set; a name that is too long can
    for name in settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.setenv(f"{name.upper()}_FILE", path)
    with pytest.raises(SettingsError) as caught:
        load_settings(settings)
    reason = {
        "missing": "No such file or directory",
        "folder": "Is a directory",
        "binary": "it is not in UTF-8",
        "nul": "File name too long",
    }[kind]
    lines = str(caught.value).splitlines()
    assert len(lines) >= len(settings.model_fields)
    assert sum(f"_FILE: names a file that cannot be read ({reason})" in line for line in lines) == len(
        settings.model_fields
    )
    assert "hunter2" not in str(caught.value)
