"""Processes that are forks of this one: they share the memory of the modules that it imported before.

An import of a service takes seconds and some 80 MB, most of which all services have in common. Only for Linux, and
only while this process has one thread: a fork has no other threads, and would wait for ever for a lock that one of them
held.
"""

import atexit
import ctypes
import gc
import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final, NoReturn

from local.signals import ENDING_SIGNALS, unblock_signals

_POLL_INTERVAL_S: Final = 0.02
_FIRST_FILE: Final = 3
"""The first file number after standard input, output and error."""
_LAST_FILE: Final = 4096
"""A fork closes the inherited files below this number."""
_NOT_PLAIN: Final = re.compile(r"[$'`\\;|&<>*?~#()]")
"""Characters that a shell would interpret: a command with one of them needs a shell."""
_ARGUMENTS_BEGIN: Final = 47 - 2
"""The index of `arg_start` in /proc/PID/stat after the command's name, with `arg_end` behind it (proc_pid_stat(5))."""


@dataclass(frozen=True, slots=True)
class ModuleCommand:
    """A command that runs a Python package: `[env [-u NAME] [NAME="VALUE" …]] python -m PACKAGE …`."""

    package: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


def parse_module_command(command: str, environment: Mapping[str, str]) -> ModuleCommand | None:
    """Parse a command, with its variables between double quotes replaced; None if only a shell can tell what it means.

    `environment`: the variables; those that the command sets are added to the result's, those that it unsets removed.
    """
    if _NOT_PLAIN.search(re.sub(r'"[^"`\\]*"', "", command)):
        return None
    words = [Template(word).safe_substitute(environment) for word in shlex.split(command)]
    own = dict(environment)
    if words[:1] == ["env"]:
        del words[0]
        while words and (words[0] == "-u" or re.match(r"\w+=", words[0])):
            name, is_set, value = words.pop(0).partition("=")
            if is_set:
                own[name] = value
            elif words:
                own.pop(words.pop(0), None)
    if len(words) < 3 or words[:2] != ["python", "-m"]:
        return None
    return ModuleCommand(words[2], tuple(words[3:]), own)


def can_fork() -> bool:
    """Return True if a fork of this process is sound: on Linux, while it has one thread. False if not."""
    return sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208 - names are enough


def import_before_forks(packages: Iterable[str]) -> None:
    """Import the programs of packages, for the forks to share them.

    The garbage collector is told to ignore all present objects: its marks would make each fork copy their pages.
    """
    for package in packages:
        importlib.import_module(f"{package}.__main__")
    gc.collect()
    gc.freeze()


class ForkedProcess:
    """A process that runs `main` of a package's `__main__` in a fork of this process, which must have one thread.

    It has the operations of `subprocess.Popen` that the supervisor uses. It is a session of its own, its output goes to
    one file, and its command line is shown as if it had been started anew.
    """

    def __init__(self, command: ModuleCommand, folder: Path, output: int, prepare: Callable[[], None]) -> None:
        """Fork. `folder`: where it runs; `output`: a file number; `prepare` is called in the fork, before `main`.

        Signals that request an end must be blocked in the caller; the fork unblocks them.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _run_fork(command, folder, output, prepare)

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal's number; None while the process runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the exit status. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(_POLL_INTERVAL_S)
        return status


def _run_fork(command: ModuleCommand, folder: Path, output: int, prepare: Callable[[], None]) -> NoReturn:
    """Run the command in this process, which was just forked, and end it as the interpreter would; never return."""
    status = 1
    try:
        _leave_parent(command, folder, output)
        prepare()
        sys.exit(importlib.import_module(f"{command.package}.__main__").main())
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        else:
            status = end.code or 0
    except BaseException:  # noqa: BLE001 - as the interpreter does it: whatever it is, it ends this process alone
        traceback.print_exc()
    finally:
        try:
            threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as at every end of a process
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def _leave_parent(command: ModuleCommand, folder: Path, output: int) -> None:
    """Replace what this fork inherited: session, files, signal handlers, environment, arguments, command line."""
    os.setsid()
    for each in ENDING_SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    unblock_signals()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate((nothing, output, output)):
        os.dup2(file, number)
    os.closerange(_FIRST_FILE, _LAST_FILE)  # the lock of the parent's stack among them
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, write_through=True)  # type: ignore[union-attr]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(command.environment)
    sys.argv = [f"{command.package}/__main__.py", *command.arguments]
    show_command_line(("python", "-m", command.package, *command.arguments))


def show_command_line(words: Iterable[str]) -> None:
    """Write over this process's command line, as `ps` shows it; it is cut to the length of the old one."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = map(int, fields[_ARGUMENTS_BEGIN : _ARGUMENTS_BEGIN + 2])
    shown = b"".join(os.fsencode(word) + b"\0" for word in words)[: end - begin - 1]
    ctypes.memmove(begin, shown.ljust(end - begin, b"\0"), end - begin)
