"""`python -m local.up start|stop|clean|backup|restore`, and `run`, which `start` leaves in the background."""

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

if __name__ == "__main__":  # the imports take seconds; until `main`, Ctrl-C ends the process without a stack trace
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from chassis.process import keep_files_private
from domain.airports import find_airport
from local.demo.options import DATA as DEMO_DATA
from local.errors import LocalError
from local.forked_process import import_before_forks
from local.ports import HOST
from local.processes import ROOT, ProcessSupervisor, find_log_file, kill_leftovers
from local.stack import (
    READY_S,
    explain_waiting,
    find_damage,
    get_ready_timeout_s,
    is_ready,
    list_port_names,
)
from local.up.backups import BACKUPS, create_backup, find_restore_mark, require_no_interrupted_restore, restore_backup
from local.up.external_broker import explain_missing_broker
from local.up.known_names import find_unknown_names
from local.up.settings import DATA, ENV_FILE, StackConfig

if TYPE_CHECKING:
    from collector.settings import CollectorSettings

_BEGIN_ANEW: Final = "--begin-anew"
_AWAIT_START_LINE: Final = "--await-start-line"
_START_LINE: Final = b"start\n"
"""The line on standard input that lets the background process start the stack."""
_RUNS_ALREADY: Final = "is running already; `make down` stops it (changed settings take effect with the next `make up`)"
_TRY_AGAIN: Final = "nothing runs now, data is kept, and `make up` tries again"
_WITH_DATABASE: Final = ("user_manager", "collector")
SHARED: Final = ("user_manager", "collector", "streams", "notifier", "local.kafka", "local.mailbox", "local.gateway")
"""The programs that the stack's processes run as forks of the supervisor, which imports them once for all."""
_POLL_INTERVAL_S: Final = 0.2
_STOP_TIMEOUT_S: Final = 40.0
_EXIT_TIMEOUT_S: Final = 5.0
"""Seconds to wait for the exit of a process that has already released its lock."""


def main() -> int:
    """Run the command of the command line and return the exit status: 0 if it succeeded, 2 if not, 130 after Ctrl-C.

    Before 2, one sentence on standard error gives the reason.
    """
    parser = argparse.ArgumentParser(prog="python -m local.up", description=__doc__)
    parser.add_argument("command", choices=("start", "stop", "clean", "run", "backup", "restore"))
    parser.add_argument("--env-file", type=Path, default=ENV_FILE, help="its settings (%(default)s)")
    parser.add_argument("--data", type=Path, default=DATA, help="its folder (%(default)s)")
    parser.add_argument("--file", type=Path, help="restore: the backup to restore")
    parser.add_argument("--backups", type=Path, default=BACKUPS, help="backup: the folder of backups (%(default)s)")
    parser.add_argument(
        _BEGIN_ANEW,
        action="store_true",
        help="start: first remove from Kafka what the databases do not have (after one was lost)",
    )
    parser.add_argument(_AWAIT_START_LINE, action="store_true", help="run: wait for the line “start” on standard input")
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    keep_files_private()
    if given.command == "restore" and given.file is None:
        print(f"towerwatch: name the backup: make restore FILE=…; they are in {given.backups}", file=sys.stderr)
        return 2
    env_file, data = given.env_file.absolute(), given.data.absolute()
    commands: dict[str, Callable[[], None]] = {
        "start": lambda: start(env_file, data, begins_anew=given.begin_anew),
        "stop": lambda: stop(data),
        "clean": lambda: clean(data),
        "run": lambda: run(env_file, data, begins_anew=given.begin_anew, awaits_start_line=given.await_start_line),
        "backup": lambda: backup(env_file, data, given.backups),
        "restore": lambda: restore(env_file, data, given.file),
    }
    try:
        commands[given.command]()
    except LocalError as error:
        print(f"towerwatch: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def find_pid_file(data: Path) -> Path:
    """Return the path of the file that the running stack keeps locked, and that holds its process id."""
    return data / "stack.pid"


def start(env_file: Path, data: Path, *, begins_anew: bool = False) -> None:
    """Start the stack in the background, wait until all of it is ready, and print its addresses.

    Kills leftovers of a killed run first. Raises LocalError if the stack runs already, the configuration is invalid, a
    port is in use, or a process does not get ready; unless the stack ran already, no process of it runs then. Ctrl-C
    during the wait stops the stack, too. `begins_anew`: see `run`.
    """
    require_no_interrupted_restore(data)
    config = StackConfig(env_file, data)
    if _find_running_pid(data) is not None:
        raise LocalError(_RUNS_ALREADY)
    kill_leftovers(data)
    config.ports.require_free(list_port_names(config.names))
    log = find_log_file(data, "stack")
    log.parent.mkdir(parents=True, exist_ok=True)
    data.chmod(0o700)  # an earlier version may have made it for all to read
    with log.open("wb") as output:
        stack = subprocess.Popen(
            [
                *(sys.executable, "-m", "local.up", "run", "--env-file", str(env_file), "--data", str(data)),
                *([_BEGIN_ANEW] if begins_anew else []),
                _AWAIT_START_LINE,
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            # By this folder `kill_leftovers` knows the forks. Each arena of malloc keeps what was freed for its thread.
            env={**os.environ, "TOWERWATCH_DATA": str(data), "MALLOC_ARENA_MAX": "2"},
        )
    try:
        settings = _check_settings(config, env_file)
        print("Starting Towerwatch (the first start fetches Kafka) …", flush=True)
        _allow_start(stack)
        for name in config.names:
            _wait_until_ready(name, config, stack)
    except BaseException:
        cast(IO[bytes], stack.stdin).close()  # if it waits for the word, this ends it, and SIGTERM does not
        stack.terminate()
        stack.wait()
        raise
    if begins_anew:
        print(log.read_text(errors="replace"), end="")
    from local.up.sources import describe_sources  # as in `_check_settings`

    _print_addresses(config, describe_sources(settings))


def _check_settings(config: StackConfig, env_file: Path) -> "CollectorSettings":
    """Check `.env` and all settings, warn of what has no effect or is missing, and return the collector's settings.

    Raises LocalError with all faults.
    """
    # It imports all services, which takes seconds; the process that runs the stack does so at the same time.
    from local.up.setting_checks import require_valid_settings

    for sentence in find_unknown_names(config.given):
        print(f"towerwatch: in {env_file.name} {sentence}", file=sys.stderr)
    settings = require_valid_settings(config, env_file)
    if (missing := _explain_missing_broker(config)) is not None:
        print(f"towerwatch: {missing}", file=sys.stderr)
    return settings


def _allow_start(stack: subprocess.Popen[bytes]) -> None:
    """Allow the background process to start the stack, by a line on its standard input.

    Does nothing if it has ended already: the wait for it then raises the reason.
    """
    with contextlib.suppress(BrokenPipeError), cast(IO[bytes], stack.stdin) as stdin:
        stdin.write(_START_LINE)


def _wait_until_ready(name: str, config: StackConfig, stack: subprocess.Popen[bytes]) -> None:
    """Wait until a process of the stack is ready, and print that.

    Raises LocalError if the background process `stack` ends, with the last line of its log, or after a timeout. Its
    text says where the log is, and that `make up` tries again: the caller stops the stack then.
    """
    deadline = time.monotonic() + get_ready_timeout_s(name)
    while True:
        with contextlib.suppress(FileNotFoundError):  # a log that is not there yet
            if is_ready(name, config.ports, config.data):
                print(f"  {name} is ready", flush=True)
                return
        if find_damage(name, config.ports) is not None:
            raise LocalError(
                f"the database of {name} is damaged: `make restore FILE=…` restores a backup; they are in {BACKUPS}"
            )
        if stack.poll() is not None:
            log = find_log_file(config.data, "stack")
            reason = (log.read_text(errors="replace").strip() or "no reason given").splitlines()[-1]
            raise LocalError(f"did not start: {reason.removeprefix('towerwatch: ')} (its log is {log}); {_TRY_AGAIN}")
        if time.monotonic() > deadline:
            reason = _explain_missing_broker(config) or explain_waiting(name, config.ports, config.data)
            raise LocalError(f"{name} was not ready in time: {reason.rstrip('.')}; {_TRY_AGAIN}")
        time.sleep(_POLL_INTERVAL_S)


def _explain_missing_broker(config: StackConfig) -> str | None:
    """Return a sentence if the stack uses a broker that is not its own and cannot be reached; else None."""
    if "kafka" in config.names:
        return None
    return explain_missing_broker(config.environment["KAFKA_BOOTSTRAP_SERVERS"])


def _print_addresses(config: StackConfig, sources: str) -> None:
    """Print the address for people, those for operators, what flights come from (`sources`), and where the logs are."""
    ports = config.ports
    public = config.environment["PUBLIC_URL"]
    mails = f"http://{HOST}:{ports.mailbox_web}/" if config.mailbox else "go to SMTP_HOST of .env"
    print(
        f"""
Towerwatch is up.
  people       {public}/
  programs     {public}/docs
  mails        {mails}
  operators    http://{HOST}:{ports.streams_web}/overview
  logs         {config.data / "logs"}
  sources      {sources}
  The first mail about an airport can come some three hours after its first interest, later ones in the morning after
  each day: OpenSky gives a day's flights in the night after it, and they are taken for complete only when given twice.
  People register and sign in at the first address; `make down` stops it, data is kept."""
    )


def run(env_file: Path, data: Path, *, begins_anew: bool = False, awaits_start_line: bool = False) -> None:
    """Run the stack until SIGTERM or SIGINT, restart every process that ends, and stop all processes at the end.

    `start` runs this in the background. The lock that other commands look for is held meanwhile. `begins_anew`: before
    the services start, remove from Kafka what their databases do not have. `awaits_start_line`: first import what the
    services share, then wait for a line on standard input, and do nothing if that ends without one. Raises LocalError
    if another process holds the lock, if the configuration is invalid, or if a service refuses its settings at the
    start.
    """
    config = StackConfig(env_file, data)
    stopping = False

    def stop_running(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop_running)
    find_airport("")  # reads the table of airports, which three services would read again
    import_before_forks(SHARED)
    if awaits_start_line and sys.stdin.buffer.readline() != _START_LINE:
        return
    with (
        _hold_lock(find_pid_file(data)),
        ProcessSupervisor(config.environment, data, forks=True) as processes,
    ):
        # Those with a database compare it with Kafka's log before they are ready, unless there is no broker yet.
        for name in sorted(config.names, key=lambda name: (name in _WITH_DATABASE, config.names.index(name))):
            while name in _WITH_DATABASE and "kafka" in config.names and not stopping:
                if is_ready("kafka", config.ports, data):
                    break
                processes.require_alive()
                time.sleep(_POLL_INTERVAL_S)
            if stopping:
                break
            if begins_anew and name in _WITH_DATABASE:
                print(processes.run_to_end(name, _BEGIN_ANEW), flush=True)
            processes.start(name)
        started_at = time.monotonic()
        while not stopping:
            if time.monotonic() - started_at < READY_S:  # later it must not end because of one process
                processes.require_accepted_settings()
            for name in processes.restart_ended():
                print(f"{name} had ended and was started again", flush=True)
            time.sleep(_POLL_INTERVAL_S)


@contextmanager
def _hold_lock(path: Path) -> Iterator[None]:
    """Lock the file for the block, and write this process's id to it. Raises LocalError at once if it is locked.

    The file is created if necessary, and stays, with the id, after the block; only the lock counts.
    """
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalError(_RUNS_ALREADY) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _find_running_pid(data: Path) -> int | None:
    """Return the id of the process that runs the stack, or None if no process does.

    The lock decides, not the number in the file, which survives a crash. None, too, in the moment in which a starting
    process holds the lock and has not written its id yet.
    """
    try:
        with find_pid_file(data).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
    except FileNotFoundError:
        pass
    return None


def stop(data: Path) -> None:
    """Stop the stack by SIGTERM, wait until it has ended, and keep its data.

    If it does not run, only kill leftovers of a killed run. Prints the result. Raises LocalError if the stack does not
    stop within `_STOP_TIMEOUT_S`.
    """
    pid = _find_running_pid(data)
    if pid is None:
        kill_leftovers(data)
        print("Towerwatch is not running.")
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while _find_running_pid(data) is not None:
        if time.monotonic() > deadline:
            raise LocalError(
                f"process {pid} did not stop within {_STOP_TIMEOUT_S:.0f} s; `kill -9 {pid}` ends it, and loses nothing"
            )
        time.sleep(_POLL_INTERVAL_S)
    # It releases its lock before it exits. Wait for the exit, but not long: its parent may never reap it.
    deadline = time.monotonic() + _EXIT_TIMEOUT_S
    while _process_exists(pid) and time.monotonic() < deadline:
        time.sleep(_POLL_INTERVAL_S)
    print("Towerwatch is down; its data is kept.")


def _process_exists(pid: int) -> bool:
    """Return True if a process has this id, also one that has ended and is not reaped yet; else False."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def clean(data: Path) -> None:
    """Delete the data folders of this stack and of the demo, with what restores have kept, if the person confirms it.

    Nothing is deleted without data, or for any answer but `y` or `yes`. Raises LocalError if the stack runs.
    """
    if _find_running_pid(data) is not None:
        raise LocalError("is running; `make down` first")
    folders = [
        folder for folder in (data, DEMO_DATA, *sorted(data.parent.glob(f"{data.name}.before-*"))) if folder.exists()
    ]
    if not folders:
        print("There is no data.")
        return
    print(f"This deletes for good {' and '.join(map(str, folders))}: accounts, interests, flights, mails, logs.")
    try:
        answer = input("Delete? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        print("Nothing was deleted.")
        return
    for folder in folders:
        shutil.rmtree(folder)
    find_restore_mark(data).unlink(missing_ok=True)
    print("Deleted." + (f" The backups in {BACKUPS} are kept." if BACKUPS.exists() else ""))


def backup(env_file: Path, data: Path, backups: Path) -> None:
    """Write a backup, also while the stack runs, and print its path. Raises LocalError if it cannot be made."""
    print(f"The backup is {create_backup(data, env_file, backups)}. It holds secrets and addresses: keep it safe.")


def restore(env_file: Path, data: Path, backup: Path) -> None:
    """Restore a backup into the data folder, and print where the data of before is kept.

    Raises LocalError if the stack runs, or the file is no whole backup; then nothing is changed.
    """
    if _find_running_pid(data) is not None:
        raise LocalError("is running; `make down` first")
    kill_leftovers(data)
    kept = restore_backup(backup, data, env_file)
    if kept is not None:
        print(f"The data of before is kept in {kept}.")
    print("Restored. `make up` starts with an empty Kafka; the collector fills it within minutes.")


if __name__ == "__main__":
    sys.exit(main())
