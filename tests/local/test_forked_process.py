"""Processes that are forked from the supervisor: they run as if they had been started anew, but share its memory."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local.forked_process import parse_module_command
from local.processes import ROOT, read_procfile
from tests.local.kafka.processes import runs
from tests.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has forks that are sound")

_SAMPLE = """
import json, os, signal, sys, threading, time

def main():
    told = {
        "shares": "imported_before" in sys.modules,
        "argv": sys.argv[1:],
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "session": os.getsid(0) == os.getpid(),
        "umask": os.umask(0o022),
        "files": sorted(os.listdir("/proc/self/fd"), key=int)[:-1],
        "input": os.readlink("/proc/self/fd/0"),
        "shown": open("/proc/self/cmdline", "rb").read().decode().strip("\\0").split("\\0"),
        "terminates": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        "blocked": [int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "parent": os.getppid(),
    }
    path = os.environ["TOLD"]
    with open(path + ".part", "w") as file:
        json.dump(told, file)
    os.replace(path + ".part", path)
    print("said", flush=False)
    threading.Thread(target=lambda: (time.sleep(0.05), print("a thread's last words"))).start()
    match sys.argv[1]:
        case "raise":
            raise ValueError("what went wrong")
        case "refuse":
            sys.exit(2)
        case "complain":
            sys.exit("no room left")
        case "wait":
            time.sleep(300)
"""

_SUPERVISOR = """
import json, os, signal, sys, threading, time
from pathlib import Path
folder, thread = Path(sys.argv[1]), sys.argv[2]
sys.path.insert(0, str(folder))
import imported_before
from local import processes
processes.read_procfile.__defaults__ = (folder / "Procfile",)
signal.signal(signal.SIGTERM, lambda *_: None)
lock = open(folder / "lock", "w")
if thread == "threads":
    threading.Thread(target=time.sleep, args=(300,), daemon=True).start()
given = {"TOLD": str(folder / "told"), "WORDS": "two words", "GONE": "x", "PYTHONPATH": os.environ["PYTHONPATH"]}
with processes.ProcessSupervisor(given, folder / "data", forks=True) as running:
    running.start("sample")
    process = running._running["sample"].process
    print(process.pid, flush=True)
    for line in sys.stdin:
        if line == "kill\\n":
            os.kill(process.pid, signal.SIGTERM)
        print(process.wait(120), flush=True)
"""


def run_sample(folder: Path, action: str, *, thread: str = "one-thread") -> subprocess.Popen[str]:
    """Start a supervisor whose only process is the sample, which does `action`; it prints the sample's process id.

    It prints the exit status for each line on its standard input, and ends with that.
    """
    (folder / "sample").mkdir()
    (folder / "sample" / "__init__.py").touch()
    (folder / "sample" / "__main__.py").write_text(f"{_SAMPLE}\nif __name__ == '__main__':\n    sys.exit(main())\n")
    (folder / "imported_before.py").touch()
    (folder / "Procfile").write_text(f'sample: env -u GONE NEW="$WORDS/$WORDS" python -m sample {action} "$WORDS"\n')
    return subprocess.Popen(
        [sys.executable, "-c", _SUPERVISOR, str(folder), thread],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}{os.pathsep}{folder}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(supervisor: subprocess.Popen[str], line: str = "wait\n") -> int:
    """Return the sample's exit status, after the supervisor was given this line, and wait for the supervisor's end."""
    out, _ = supervisor.communicate(line, timeout=300)
    assert supervisor.returncode == 0
    return int(out.split()[-1])


def read_told(folder: Path) -> dict[str, Any]:
    """Return the facts that the sample has written about its own process."""
    told: dict[str, Any] = json.loads((folder / "told").read_text())
    return told


def test_a_fork_runs_as_if_it_had_been_started_anew(tmp_path: Path) -> None:
    """It has its own arguments, variables, folder, session and files, no handler and no mask of its parent's signals.

    But it has the modules that its parent has imported.
    """
    supervisor = run_sample(tmp_path, "return")
    assert finish(supervisor) == 0
    told = read_told(tmp_path)
    assert told["shares"]
    assert told["argv"] == ["return", "two words"]
    assert told["environment"]["NEW"] == "two words/two words"
    assert "GONE" not in told["environment"]
    assert told["folder"] == str(ROOT)
    assert told["session"]
    assert told["umask"] == 0o077
    assert told["files"] == ["0", "1", "2"]
    assert told["input"] == "/dev/null"
    assert told["terminates"]
    assert told["blocked"] == []
    assert told["parent"] == supervisor.pid
    shown = " ".join(("python", "-m", "sample", "return", "two words"))
    assert " ".join(told["shown"]) == shown
    log = (tmp_path / "data" / "logs" / "sample.log").read_text()
    assert sorted(log.splitlines()) == ["a thread's last words", "said"]


def test_with_a_second_thread_nothing_is_forked(tmp_path: Path) -> None:
    """A fork could wait for ever for a lock that the other thread held: the process is started anew instead."""
    supervisor = run_sample(tmp_path, "return", thread="threads")
    assert finish(supervisor) == 0
    told = read_told(tmp_path)
    assert not told["shares"]
    assert told["argv"] == ["return", "two words"]
    assert told["environment"]["NEW"] == "two words/two words"
    assert "GONE" not in told["environment"]
    assert told["parent"] == supervisor.pid


@pytest.mark.parametrize(
    ("action", "status", "said"),
    [("raise", 1, "ValueError: what went wrong"), ("refuse", 2, ""), ("complain", 1, "no room left")],
)
def test_a_fork_ends_with_the_status_of_its_program(tmp_path: Path, action: str, status: int, said: str) -> None:
    """An error ends the fork alone, with its stack trace in the log, after its threads have ended; so do exits."""
    assert finish(run_sample(tmp_path, action)) == status
    log = (tmp_path / "data" / "logs" / "sample.log").read_text()
    assert said in log
    assert "a thread's last words" in log


def test_a_signal_ends_a_fork_and_not_its_parent(tmp_path: Path) -> None:
    """The parent survives SIGTERM by a handler of its own, which the fork does not have."""
    supervisor = run_sample(tmp_path, "wait")
    eventually((tmp_path / "told").exists, "the sample runs")
    assert finish(supervisor, "kill\n") == -signal.SIGTERM


def test_no_fork_survives_a_kill_of_its_parent(tmp_path: Path) -> None:
    """After kill -9 of the supervisor the kernel kills its forks."""
    supervisor = run_sample(tmp_path, "wait")
    assert supervisor.stdout is not None
    pid = int(supervisor.stdout.readline())
    eventually((tmp_path / "told").exists, "the sample runs")
    assert runs(pid)
    supervisor.kill()
    supervisor.communicate()
    eventually(lambda: not runs(pid), "the fork is gone")


@pytest.mark.parametrize("name", sorted(read_procfile()))
def test_a_command_of_the_procfile_means_what_the_shell_takes_it_for(tmp_path: Path, name: str) -> None:
    """Arguments and variables are those that the shell gives to `python`; or the command is left to the shell."""
    stub = tmp_path / "python"
    stub.write_text(f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([sys.argv[1:], dict(os.environ)]))\n")
    stub.chmod(0o700)
    command = read_procfile()[name]
    given = {word.strip('"$'): f"{tmp_path}/a b*c/{number}" for number, word in enumerate(_find_variables(command))}
    given |= {"PATH": f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin", "KAFKA_BOOTSTRAP_SERVERS": "elsewhere:9092"}
    shell = subprocess.run(
        ["/bin/sh", "-c", f"exec {command}"], env=given, capture_output=True, text=True, check=True, timeout=120
    )
    arguments, variables = json.loads(shell.stdout)
    parsed = parse_module_command(command, given)
    if name == "opensky":  # its options are split at their spaces, as only the shell does it
        assert parsed is None
        return
    assert parsed is not None
    assert ["-m", parsed.package, *parsed.arguments] == arguments
    ours = {each: value for each, value in parsed.environment.items() if each not in ("PWD", "_", "LC_CTYPE")}
    assert ours == {each: value for each, value in variables.items() if each not in ("PWD", "_", "LC_CTYPE", "SHLVL")}


def _find_variables(command: str) -> list[str]:
    """Return the names of the variables that a command reads."""
    return sorted({word.split("/")[0].rstrip('"') for word in command.split("$")[1:] for word in [word.split()[0]]})


@pytest.mark.parametrize(
    "command",
    ["python -m one; rm two", "python -m one $WORDS", "python -m one '$WORDS'", "python one.py", "sleep 300", "env"],
)
def test_what_only_a_shell_can_tell_is_left_to_it(command: str) -> None:
    """Whatever is more than variables between double quotes, or runs no package, is not parsed."""
    assert parse_module_command(command, {"WORDS": "two words"}) is None
