"""The file `.env`: what is written there arrives, or a sentence says which line cannot be meant so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.errors import LocalError
from local.processes import ROOT
from local.up.env_file import read_env_file


def read(tmp_path: Path, content: str | bytes) -> dict[str, str]:
    """Read a `.env` with this content."""
    path = tmp_path / ".env"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_env_file(path)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("SMTP_PASSWORD=ab${cd}ef", "ab${cd}ef"),
        ("SMTP_PASSWORD=ab$HOME", "ab$HOME"),
        ("SMTP_PASSWORD=$$", "$$"),
        ("SMTP_PASSWORD='ab${cd}ef'", "ab${cd}ef"),
        ('SMTP_PASSWORD="ab${cd}ef"', "ab${cd}ef"),
        ("SMTP_PASSWORD=ab${cd:-x}ef", "ab${cd:-x}ef"),
        ("SMTP_PASSWORD=ab#cd", "ab#cd"),
        ("SMTP_PASSWORD=#ab", "#ab"),
        ("SMTP_PASSWORD='ab #cd'", "ab #cd"),
        ('SMTP_PASSWORD="ab #cd" # mine', "ab #cd"),
        ("SMTP_PASSWORD=ab cd", "ab cd"),
        ("SMTP_PASSWORD=' ab '", " ab "),
        ("SMTP_PASSWORD=ab\\cd\\", "ab\\cd\\"),
        ("SMTP_PASSWORD=ab\\\\cd", "ab\\\\cd"),
        ("SMTP_PASSWORD='ab\\cd\\n'", "ab\\cd\\n"),
        ('SMTP_PASSWORD="ab\\\\cd\\"ef"', 'ab\\cd"ef'),
        ("SMTP_PASSWORD=ab=cd==", "ab=cd=="),
        ("SMTP_PASSWORD=ab'cd\"ef", "ab'cd\"ef"),
        ("SMTP_PASSWORD='it\\'s'", "it's"),
        ("SMTP_PASSWORD=pässwörd🔑", "pässwörd🔑"),
        ("export SMTP_PASSWORD=ab", "ab"),
        ("  SMTP_PASSWORD = ab", "ab"),
        ("SMTP_PASSWORD=ab\r", "ab"),
        ("SMTP_PASSWORD=ab`id`!&|;<>()*?~%{}[]", "ab`id`!&|;<>()*?~%{}[]"),
    ],
)
def test_a_secret_arrives_as_it_is_written(tmp_path: Path, line: str, value: str) -> None:
    """Nothing is replaced, and only quotes around the whole value are taken off."""
    for content in (f"{line}\n", line, f"A=1\n{line}\nB=2\n", f"\ufeff{line}\n", f"# x\r\n{line}\r\nB=2\r\n"):
        assert read(tmp_path, content)["SMTP_PASSWORD"] == value


@pytest.mark.parametrize(
    "line",
    [
        "SMTP_PASSWORD=hunter2 #cd",
        "SMTP_PASSWORD= #hunter2",
        "SMTP_PASSWORD='hunter2",
        'SMTP_PASSWORD="hunter2',
        "SMTP_PASSWORD='hunter2'x",
        "SMTP_PASSWORD='hunter2\\'",
        'SMTP_PASSWORD="hunter2" x',
        'SMTP_PASSWORD="hunter2\\n"',
        'SMTP_PASSWORD="C:\\temp\\hunter2"',
        "SMTP_PASSWORD='hunter2\\\\x'",
        "SMTP_PASSWORD: hunter2",
        "SMTP_PASSWORD hunter2",
        "SMTP_PASSWORD",
        "SMTP-PASSWORD=hunter2",
        "SMTP_PASSWORD=hunter2\0",
        "OPENSKY_CLIENT_SECRET=hunter2\t# mine",
        "OPERATOR_TOKEN=hunter2 # mine",
        "=hunter2",
    ],
)
def test_what_would_be_lost_is_one_sentence_with_the_line(tmp_path: Path, line: str) -> None:
    """The sentence has the line's number, but nothing of the secret."""
    with pytest.raises(LocalError, match=r"^\.env, line 3: .{10,140}$") as caught:
        read(tmp_path, f"A=1\n\n{line}\n")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("content", ["A=1\n".encode("utf-16"), b"SMTP_PASSWORD=p\xe4ss\n"])
def test_another_encoding_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    """Editors of Windows write such files."""
    with pytest.raises(LocalError, match="UTF-8"):
        read(tmp_path, content)


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    """A directory is none; no file at all is no error."""
    with pytest.raises(LocalError, match="cannot be read"):
        read_env_file(tmp_path)
    assert read_env_file(tmp_path / "none") == {}


def test_other_settings_may_have_comments(tmp_path: Path) -> None:
    """A comment may follow a value, the last of two values counts, and DKIM's key may have line ends."""
    text = 'PORT_BASE=8600 # mine\nLOG_LEVEL=\nA=1\nA=2\nDKIM_KEY="-----BEGIN\\nx"\nMAIL_FROM=Tower <a@b.org>\n'
    expected = {"PORT_BASE": "8600", "A": "2", "DKIM_KEY": "-----BEGIN\nx", "MAIL_FROM": "Tower <a@b.org>"}
    assert read(tmp_path, text) == expected


def test_the_command_prints_one_sentence(tmp_path: Path) -> None:
    """`make up` ends before anything starts."""
    (tmp_path / ".env").write_text("SMTP_PASSWORD='hunter2\n")
    command = [sys.executable, "-m", "local.up", "start", "--env-file", tmp_path / ".env", "--data", tmp_path / "data"]
    ended = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "towerwatch: .env, line 1: is not NAME=value; close every quote, and put nothing behind it but a comment"
    ]
