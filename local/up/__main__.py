"""`python -m local.up start|stop|clean`, and `run`, which `start` leaves in the background."""

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from local.demo.options import DATA as DEMO_DATA
from local.errors import LocalError
from local.ports import HOST
from local.processes import ROOT, Processes, end_leftovers, log_file
from local.stack import is_ready, listeners, patience_s
from local.up.settings import DATA, ENV_FILE, Own

_LOOK_EVERY_S: Final = 0.2
_STOPPED_WITHIN_S: Final = 40.0
_LEAVES_WITHIN_S: Final = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.up", description=__doc__)
    commands = {"start": start, "stop": stop, "clean": clean, "run": run}
    parser.add_argument("command", choices=commands)
    parser.add_argument("--env-file", type=Path, default=ENV_FILE, help="its settings (%(default)s)")
    parser.add_argument("--data", type=Path, default=DATA, help="its folder (%(default)s)")
    given = parser.parse_args()
    try:
        commands[given.command](given.env_file.absolute(), given.data.absolute())
    except LocalError as error:
        print(f"towerwatch: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def pid_file(data: Path) -> Path:
    """Held locked by the process that runs the stack; holds its process id."""
    return data / "stack.pid"


def start(env_file: Path, data: Path) -> None:
    """Start the stack in the background, and return when all of it is ready. Raises LocalError, and nothing runs."""
    own = Own(env_file, data)
    if _running_pid(data) is not None:
        raise LocalError("is running already; `make down` stops it")
    end_leftovers(data)
    own.ports.require_free(listeners(own.names))
    log = log_file(data, "stack")
    log.parent.mkdir(parents=True, exist_ok=True)
    print("Starting Towerwatch (the first start fetches Kafka) …", flush=True)
    with log.open("wb") as output:
        stack = subprocess.Popen(
            [sys.executable, "-m", "local.up", "run", "--env-file", str(env_file), "--data", str(data)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        for name in own.names:
            _wait_until_ready(name, own, stack)
    except BaseException:
        stack.terminate()
        stack.wait()
        raise
    _say_where(own)


def _wait_until_ready(name: str, own: Own, stack: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + patience_s(name)
    while True:
        with contextlib.suppress(FileNotFoundError):  # a log that is not there yet
            if is_ready(name, own.ports, own.data):
                print(f"  {name} is ready", flush=True)
                return
        if stack.poll() is not None:
            said = log_file(own.data, "stack").read_text(errors="replace").strip() or "no reason given"
            raise LocalError(f"did not start: {said.splitlines()[-1]}")
        if time.monotonic() > deadline:
            raise LocalError(f"{name} was not ready in time; see {log_file(own.data, name)}")
        time.sleep(_LOOK_EVERY_S)


def _say_where(own: Own) -> None:
    ports = own.ports
    mails = f"mails go to the Maildir {own.data / 'mail'}" if own.mailbox else "mails go to SMTP_HOST of .env"
    print(
        f"""
Towerwatch is up ({mails}).
  accounts     http://{HOST}:{ports.user_manager_http}/users
  interests    http://{HOST}:{ports.collector_http}/interests
  airports     http://{HOST}:{ports.streams_web}/overview
  logs         {own.data / "logs"}
  README.md says how to register and to set an interest; `make down` stops it, data is kept."""
    )


def run(env_file: Path, data: Path) -> None:
    """Run the stack until SIGTERM or SIGINT, beginning again what ends. In the background of `start`."""
    own = Own(env_file, data)
    stopping = False

    def stop_running(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop_running)
    with _locked(pid_file(data)), Processes(own.environment, data) as processes:
        for name in own.names:
            processes.begin(name)
        while not stopping:
            for name in processes.restart_ended():
                print(f"{name} had ended and was started again", flush=True)
            time.sleep(_LOOK_EVERY_S)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalError("is running already; `make down` stops it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _running_pid(data: Path) -> int | None:
    """The process that runs the stack, or None. The lock tells, not the number, which outlives a crash."""
    try:
        with pid_file(data).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
    except FileNotFoundError:
        pass
    return None


def stop(_env_file: Path, data: Path) -> None:
    """Stop the stack in an orderly way; data is kept. Harmless when it does not run."""
    pid = _running_pid(data)
    if pid is None:
        end_leftovers(data)
        print("Towerwatch is not running.")
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOPPED_WITHIN_S
    while _running_pid(data) is not None:
        if time.monotonic() > deadline:
            raise LocalError(f"process {pid} did not stop within {_STOPPED_WITHIN_S:.0f} s")
        time.sleep(_LOOK_EVERY_S)
    # It gives its lock back before it has left Python. Nobody may be there to bury it: so no longer than a moment.
    deadline = time.monotonic() + _LEAVES_WITHIN_S
    while _is_there(pid) and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
    print("Towerwatch is down; its data is kept.")


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def clean(_env_file: Path, data: Path) -> None:
    """Delete the data of this stack and of the demo, once the person has said yes."""
    if _running_pid(data) is not None:
        raise LocalError("is running; `make down` first")
    folders = [folder for folder in (data, DEMO_DATA) if folder.exists()]
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
    print("Deleted.")


if __name__ == "__main__":
    sys.exit(main())
