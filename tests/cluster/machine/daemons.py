"""The processes of the cluster, which outlive the command that started them, and are found again."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from local.processes import ROOT
from tests.cluster.machine.layout import PROGRAMS, RUN
from tests.service_process import bare_environment
from tests.waiting import eventually

_ENDS_WITHIN_S: Final = 20.0


def start_daemon(name: str, *command: str | Path, namespace: str | None = None) -> None:
    """Start a program as a daemon with a log of its name, unless it runs; `namespace`: the network that it is in.

    Its process id is written down with the time of its start, so that no other process is ever taken for it.
    """
    if is_running(name):
        return
    for folder in ("logs", "daemons"):
        (RUN / folder).mkdir(parents=True, exist_ok=True)
    # `ip netns exec` would mount /sys anew, without cgroups.
    enter = ("nsenter", f"--net=/run/netns/{namespace}") if namespace else ()
    # kubelet and containerd look there for mount, iptables and runc.
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin"
    with (RUN / "logs" / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [*enter, *command], cwd=ROOT, env=bare_environment() | {"PATH": path, "HOME": str(RUN)},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    (RUN / "daemons" / name).write_text(f"{process.pid} {_read_start(process.pid)}")


def is_running(name: str) -> bool:
    """Return True if the daemon of this name runs, False if it was never started, or has ended."""
    return _find(name) is not None


def list_daemons() -> list[str]:
    """Return the names of all daemons that were ever started for this cluster."""
    folder = RUN / "daemons"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def end_daemon(name: str, number: signal.Signals = signal.SIGTERM) -> None:
    """Send a signal to the daemon and wait until it has ended; after some seconds kill it. Does nothing if none is."""
    pid = _find(name)
    if pid is not None:
        os.kill(pid, number)
        deadline = time.monotonic() + _ENDS_WITHIN_S
        eventually(lambda: _find(name) is None or time.monotonic() > deadline, f"the end of {name}")
        if _find(name) is not None:
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: _find(name) is None, f"the end of {name}, killed")
    (RUN / "daemons" / name).unlink(missing_ok=True)


def read_log(name: str) -> str:
    """Return the end of a daemon's log."""
    return (RUN / "logs" / f"{name}.log").read_text(errors="replace")[-3000:]


def end_processes(pids: Sequence[int]) -> None:
    """Kill the processes with these ids, as far as they still run."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def list_shims() -> list[int]:
    """Return the process ids of containerd's shims of this cluster: they name a socket in RUN."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            program, arguments = (folder / "exe").readlink(), (folder / "cmdline").read_bytes().decode().split("\0")
        except (OSError, UnicodeDecodeError):  # it has ended, or is the kernel's own
            continue
        is_shim = program == PROGRAMS / "containerd-shim-runc-v2"
        if is_shim and any(argument.startswith(f"{RUN}/") for argument in arguments):
            found.append(int(folder.name))
    return found


def _find(name: str) -> int | None:
    """Return the daemon's process id, or None if it was not started, has ended, or is a zombie."""
    path = RUN / "daemons" / name
    if not path.exists():
        return None
    pid, start = path.read_text().split()
    return int(pid) if _read_start(int(pid)) == start else None


def _read_start(pid: int) -> str | None:
    """Return the time of a process's start in the kernel's ticks (proc(5)), or None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]
