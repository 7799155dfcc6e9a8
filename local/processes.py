"""The supervisor of the local stack's processes: starts them from the Procfile, restarts them, and stops them.

Every process is a session of its own, so that a Ctrl-C reaches it only through the supervisor, and its children end
with it. On Linux a process also ends when the supervisor is killed; the next start finds other leftovers in
`processes.json`.
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
from local.forked_process import ForkedProcess, can_fork, parse_module_command
from local.signals import signals_blocked, unblock_signals

ROOT: Final = Path(__file__).resolve().parent.parent
PROCFILE: Final = ROOT / "Procfile"

_STOP_TIMEOUT_S: Final = 20.0
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_POLL_INTERVAL_S: Final = 0.05
_UMASK: Final = 0o077
"""What processes write may hold addresses, and the machine may have other users."""
_FIRST_BACKOFF_S: Final = 0.5
_MAX_BACKOFF_S: Final = 10.0
_REFUSED: Final = 2
"""The exit status of a service whose settings or ports do not allow it to run."""
_STABLE_AFTER_S: Final = 60
"""Seconds after which a restarted process counts as stable, and its backoff is reset."""


def read_procfile(path: Path = PROCFILE) -> dict[str, str]:
    """Read the shell commands of the Procfile, by process name, in the order of the file.

    Empty lines and comments are skipped. Raises LocalError for any other line that is not `name: command`.
    """
    commands = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([A-Za-z_]\w*):\s*(\S.*)", line)
        if match is None:
            raise LocalError(f"{path.name}: not `name: command`: {line}")
        commands[match[1]] = match[2]
    return commands


def find_log_file(data: Path, name: str) -> Path:
    """Return the path of a process's log, which holds its output."""
    return data / "logs" / f"{name}.log"


@dataclass(slots=True)
class _RunningProcess:
    """A process that was started (and may have ended), with all that is needed to start it again."""

    process: subprocess.Popen[bytes] | ForkedProcess
    started_at: float
    """Monotonic seconds."""
    command: str
    """Its command's name in the Procfile."""
    variables: Mapping[str, str]
    """Its own environment variables, added to those of all processes."""
    backoff_s: float = _FIRST_BACKOFF_S
    """Seconds after a start before the process may be restarted."""


class ProcessSupervisor:
    """A supervisor of the Procfile's processes. Use as a context manager: leaving it stops all processes.

    Their output goes to `find_log_file`; entering renames the previous run's logs to `.old`. Their ids are in
    `processes.json` in the data folder, for `kill_leftovers`. Start processes from the main thread only: on Linux a
    process ends with the thread that started it.
    """

    def __init__(self, environment: Mapping[str, str], data: Path, *, forks: bool = False) -> None:
        """`environment` is added to this process's environment. Raises LocalError for a malformed Procfile.

        `forks`: processes of Python are forks of this one wherever that is sound, and share what it has imported.
        """
        self._forks = forks
        self._commands = read_procfile()
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{self._environment.get('PATH', '')}"
        self._logs = data / "logs"
        self._register = data / "processes.json"
        self._running: dict[str, _RunningProcess] = {}

    def __enter__(self) -> "ProcessSupervisor":
        """Make the folder of logs, and rename the logs of the previous run to `.old`; no process is started."""
        self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in self._commands:
            with contextlib.suppress(FileNotFoundError):
                self.find_log(name).replace(self.find_log(name).with_suffix(".old"))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def add_environment(self, variables: Mapping[str, str]) -> None:
        """Add variables to the environment of all processes that are started, or restarted, from now on."""
        self._environment.update(variables)

    def find_log(self, name: str) -> Path:
        """Return the path of a process's log."""
        return find_log_file(self._logs.parent, name)

    def start(self, name: str, command: str | None = None, variables: Mapping[str, str] | None = None) -> None:
        """Start a process, with its output appended to its log; this does not wait until it is ready.

        The process's id is written to `processes.json`. A process that has ended may be started again by its name.
        `command`: its command's name in the Procfile, if it differs from `name` because several processes share the
        command; `variables`: its own environment variables, added to those of all processes.
        """
        command, variables = command or name, variables or {}
        log_file = os.open(self.find_log(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(log_file, "ab") as log, signals_blocked():
            process = self._spawn(self._commands[command], {**self._environment, **variables}, log.fileno())
            previous = self._running.get(name)
            backoff_s = previous.backoff_s if previous else _FIRST_BACKOFF_S
            self._running[name] = _RunningProcess(process, time.monotonic(), command, variables, backoff_s)
        self._write_register()

    def _spawn(self, command: str, environment: Mapping[str, str], log: int) -> subprocess.Popen[bytes] | ForkedProcess:
        """Start a command in a session of its own, with its output in the file `log`; as a fork where that is sound."""
        module = parse_module_command(command, environment) if self._forks and can_fork() else None
        if module is not None:
            return ForkedProcess(module, ROOT, log, _prepare_fork)
        return subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            umask=_UMASK,
            preexec_fn=_prepare_child,
        )

    def run_to_end(self, name: str, argument: str) -> str:
        """Run a command of the Procfile with one more argument until it ends, and return the last line that it prints.

        Raises LocalError with what it printed on standard error, if it fails.
        """
        done = subprocess.run(
            ["/bin/sh", "-c", f"exec {self._commands[name]} {shlex.quote(argument)}"],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            faults = [line for line in done.stderr.splitlines() if line.startswith(f"{name}: ")]
            raise LocalError("; ".join(faults) or f"{name} {argument} failed with exit status {done.returncode}")
        return done.stdout.strip().rpartition("\n")[2]

    def _write_register(self) -> None:
        """Write the id of every started process to `processes.json`, by name, atomically."""
        pids = {name: running.process.pid for name, running in self._running.items()}
        part = self._register.with_suffix(".part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(pids, file)
        part.replace(self._register)

    def require_alive(self, but: Collection[str] = ()) -> None:
        """Raise LocalError, with the last line of its log, if a started process not named in `but` has ended."""
        for name, running in self._running.items():
            if name not in but and running.process.poll() is not None:
                raise LocalError(
                    f"{name} has ended: {self._read_last_log_line(name)} (all of it: {self.find_log(name)})"
                )

    def require_accepted_settings(self) -> None:
        """Raise LocalError, with the lines that it printed last, if a process has refused to run (exit status 2).

        A process that was restarted before does not count: it had run, and may run again.
        """
        for name, running in self._running.items():
            if running.process.poll() == _REFUSED and running.backoff_s == _FIRST_BACKOFF_S:
                log = self.find_log(name).read_text(encoding="utf-8", errors="replace")
                faults = [line for line in log.splitlines() if line.startswith(f"{running.command}: ")]
                raise LocalError("; ".join(faults) or f"{name} has ended; see {self.find_log(name)}")

    def _read_last_log_line(self, name: str) -> str:
        """Return the last line of a process's log, or a remark if the log is empty."""
        lines = self.find_log(name).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def wait_until(
        self, name: str, is_ready: Callable[[], bool], timeout_s: float, explain: Callable[[], str] | None = None
    ) -> None:
        """Wait until `is_ready` returns True, which is called again and again. `name`: the process, for the errors.

        Raises LocalError if any process ends meanwhile, or after `timeout_s` seconds; then its text ends with what
        `explain` returns (None: where the process's log is).
        """
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            self.require_alive()
            if time.monotonic() > deadline:
                reason = f"see {self.find_log(name)}" if explain is None else explain()
                raise LocalError(f"{name} was not ready within {timeout_s:.0f} s: {reason}")
            time.sleep(_POLL_INTERVAL_S)

    def restart_ended(self, only: Collection[str] | None = None) -> list[str]:
        """Restart the processes that have ended, each with exponential backoff, and return the names of the restarted.

        Call it again and again: a process whose backoff is not over is left to a later call. The backoff counts from
        the process's last start; it doubles with each restart up to `_MAX_BACKOFF_S`, and is reset once the process
        has run for `_STABLE_AFTER_S`. `only`: restart no other processes (None: all).
        """
        restarted = []
        now = time.monotonic()
        for name, running in list(self._running.items()):
            if only is not None and name not in only:
                continue
            if running.process.poll() is None:
                if now - running.started_at > _STABLE_AFTER_S:
                    running.backoff_s = _FIRST_BACKOFF_S
            elif now - running.started_at >= running.backoff_s:
                running.backoff_s = min(running.backoff_s * 2, _MAX_BACKOFF_S)
                self.start(name, running.command, running.variables)
                restarted.append(name)
        return restarted

    def stop(self) -> None:
        """Stop all processes by SIGTERM, and by SIGKILL after a timeout; wait for their ends, and delete the register.

        The process that was started first is stopped last, after the others: they depend on it, and would wait for it.
        Signals that request an end are blocked meanwhile.
        """
        with signals_blocked():
            processes = [running.process for running in self._running.values()]
            _terminate(processes[1:])
            _terminate(processes[:1])
            self._register.unlink(missing_ok=True)


def _terminate(processes: list[subprocess.Popen[bytes] | ForkedProcess]) -> None:
    """Send SIGTERM to the processes, wait for their ends, and kill what remains of their sessions.

    They have `_STOP_TIMEOUT_S` together; those that have not ended by then are killed.
    """
    for process in processes:
        _signal_group(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(deadline - time.monotonic(), 0.1))
        _signal_group(process.pid, signal.SIGKILL)  # also what a process left behind in its session
        process.wait()


def kill_leftovers(data: Path) -> None:
    """Kill the processes that an earlier run left behind when it was killed itself, and wait until they have ended.

    Reads their ids from `processes.json` in the data folder, and deletes the file; does nothing without it. Only a
    process that has this folder in its environment is killed, for another program may have the id by now. The wait ends
    after `_STOP_TIMEOUT_S`, without an error.
    """
    register = data / "processes.json"
    try:
        pids: dict[str, int] = json.loads(register.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    for pid in pids.values():
        while str(data) in _read_environment(pid) and time.monotonic() < deadline:
            _signal_group(pid, signal.SIGKILL)
            time.sleep(_POLL_INTERVAL_S)
    register.unlink(missing_ok=True)


def _read_environment(pid: int) -> str:
    """Return a process's environment (where there is no /proc, its command too) as text; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        shown = subprocess.run(
            ["ps", "-E", "-o", "command=", "-p", shlex.quote(str(pid))], capture_output=True, text=True, check=False
        )
        return shown.stdout


def _signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process group; do nothing if the group has ended or is not ours."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _prepare_fork() -> None:
    """Prepare a fork of this process: set the mask of its files, and bind its life to its parent's."""
    os.umask(_UMASK)
    _prepare_child()


def _prepare_child() -> None:
    """Prepare a child process between fork and exec: unblock signals, and bind its life to its parent's (on Linux).

    The kernel then kills the child when the parent ends, for whatever reason. By SIGKILL: an orderly stop would wait
    for a broker that has ended too, and nothing here needs an orderly stop.
    """
    unblock_signals()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
