"""The processes of the local stack: begun from the Procfile, kept alive, and never left behind.

Every process is a session of its own, so that a Ctrl-C reaches it only through us and all that it starts ends with
it. On Linux it also ends when we are killed; what is left all the same is found in `processes.json` by the next start.
"""

import contextlib
import ctypes
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local.errors import LocalError
from local.signals import hear, held

ROOT: Final = Path(__file__).resolve().parent.parent
PROCFILE: Final = ROOT / "Procfile"

_STOPPED_WITHIN_S: Final = 20.0
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_LOOK_EVERY_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 10.0


def read_procfile(path: Path = PROCFILE) -> dict[str, str]:
    """By process name, its shell command. Raises LocalError for a line that is not `name: command`."""
    commands = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([A-Za-z_]\w*):\s*(\S.*)", line)
        if match is None:
            raise LocalError(f"{path.name}: not `name: command`: {line}")
        commands[match[1]] = match[2]
    return commands


def log_file(data: Path, name: str) -> Path:
    """Where the output of a process goes."""
    return data / "logs" / f"{name}.log"


@dataclass(slots=True)
class _Running:
    """One process of the stack as it runs now."""

    process: subprocess.Popen[bytes]
    begun_at: float
    command: str
    """Its name in the Procfile."""
    variables: Mapping[str, str]
    """Of its own, beside the environment of all."""
    pause_s: float = 0.5
    """How long to wait before it is begun again."""


class Processes:
    """Processes of the Procfile, each begun by name. Use as a context manager: leaving it stops all of them.

    Their output goes to `log_file`; that of the run before is kept as `.old`. To be begun on the main thread: on Linux
    the processes end with the thread that began them.
    """

    def __init__(self, environment: Mapping[str, str], data: Path) -> None:
        self._commands = read_procfile()
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{self._environment.get('PATH', '')}"
        self._logs = data / "logs"
        self._register = data / "processes.json"
        self._running: dict[str, _Running] = {}

    def __enter__(self) -> "Processes":
        self._logs.mkdir(parents=True, exist_ok=True)
        for name in self._commands:
            with contextlib.suppress(FileNotFoundError):
                self.log_of(name).replace(self.log_of(name).with_suffix(".old"))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def set_environment(self, variables: Mapping[str, str]) -> None:
        """Add to the environment of the processes that are begun from now on."""
        self._environment.update(variables)

    def log_of(self, name: str) -> Path:
        return log_file(self._logs.parent, name)

    def begin(self, name: str, command: str | None = None, variables: Mapping[str, str] | None = None) -> None:
        """Start a process; it need not be ready when this returns.

        `command`: its name in the Procfile, where that is another, because it is one of several alike; `variables`: its
        own environment beside that of all.
        """
        command, variables = command or name, variables or {}
        with self.log_of(name).open("ab") as log, held():
            process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {self._commands[command]}"],
                cwd=ROOT,
                env={**self._environment, **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
            known = self._running.get(name)
            pause_s = known.pause_s if known else 0.5
            self._running[name] = _Running(process, time.monotonic(), command, variables, pause_s)
        self._write_register()

    def _write_register(self) -> None:
        pids = {name: running.process.pid for name, running in self._running.items()}
        part = self._register.with_suffix(".part")
        part.write_text(json.dumps(pids), encoding="utf-8")
        part.replace(self._register)

    def require_alive(self, but: Collection[str] = ()) -> None:
        """Raises LocalError with the last line of its log where a process has ended, `but` for these."""
        for name, running in self._running.items():
            if name not in but and running.process.poll() is not None:
                raise LocalError(f"{name} has ended: {self._last_words(name)} (all of it: {self.log_of(name)})")

    def _last_words(self, name: str) -> str:
        lines = self.log_of(name).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def wait_until(self, name: str, is_ready: Callable[[], bool], timeout_s: float) -> None:
        """Return once `is_ready`. Raises LocalError when a process ends, or after `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            self.require_alive()
            if time.monotonic() > deadline:
                raise LocalError(f"{name} was not ready within {timeout_s:.0f} s; see {self.log_of(name)}")
            time.sleep(_LOOK_EVERY_S)

    def restart_ended(self, only: Collection[str] | None = None) -> list[str]:
        """Begin again what has ended, each after a growing pause. To be called again and again. Returns their names.

        `only`: leave the others as they are.
        """
        begun = []
        now = time.monotonic()
        for name, running in list(self._running.items()):
            if only is not None and name not in only:
                continue
            if running.process.poll() is None:
                if now - running.begun_at > 60:
                    running.pause_s = 0.5
            elif now - running.begun_at >= running.pause_s:
                running.pause_s = min(running.pause_s * 2, _LONGEST_PAUSE_S)
                self.begin(name, running.command, running.variables)
                begun.append(name)
        return begun

    def stop(self) -> None:
        """End all: in an orderly way, or by force where that takes too long.

        What was begun first is asked last, when the others are gone: they lean on it, and would wait for it.
        """
        with held():
            processes = [running.process for running in self._running.values()]
            _end(processes[1:])
            _end(processes[:1])
            self._register.unlink(missing_ok=True)


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        _signal_group(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOPPED_WITHIN_S
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(deadline - time.monotonic(), 0.1))
        _signal_group(process.pid, signal.SIGKILL)  # also what a process left behind in its session
        process.wait()


def end_leftovers(data: Path) -> None:
    """End by force what an earlier run, itself killed, has left behind, and return when it is gone."""
    register = data / "processes.json"
    try:
        pids: dict[str, int] = json.loads(register.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    deadline = time.monotonic() + _STOPPED_WITHIN_S
    for pid in pids.values():
        # The number may belong to somebody else by now: only processes that were told of this folder are ours.
        while str(data) in _command_and_environment(pid) and time.monotonic() < deadline:
            _signal_group(pid, signal.SIGKILL)
            time.sleep(_LOOK_EVERY_S)
    register.unlink(missing_ok=True)


def _command_and_environment(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        shown = subprocess.run(
            ["ps", "-E", "-o", "command=", "-p", shlex.quote(str(pid))], capture_output=True, text=True, check=False
        )
        return shown.stdout


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _end_with_parent() -> None:
    """In the child: ask the kernel to end it when the parent is gone, however it went (Linux only).

    By force: an orderly end would wait for a broker that is gone too, and nothing here needs one.
    """
    hear()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
