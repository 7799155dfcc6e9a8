"""The supervisor of the local stack's processes."""

import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import fields
from pathlib import Path

import pytest

from local import processes
from local.errors import LocalError
from local.ports import Ports
from local.processes import ROOT, ProcessSupervisor, find_log_file, kill_leftovers, read_procfile
from local.signals import signals_blocked, unblock_signals
from local.stack import GATEWAY, SERVICES
from tests.local.kafka.processes import runs
from tests.waiting import eventually


@pytest.fixture
def procfile(tmp_path, monkeypatch) -> Path:
    """A Procfile of the test's own in place of the project's."""
    path = tmp_path / "Procfile"
    monkeypatch.setattr(processes, "PROCFILE", path)
    monkeypatch.setattr(processes.read_procfile, "__defaults__", (path,))
    return path


def test_the_projects_procfile_names_every_process_of_the_stack():
    """Every process that the demo starts by name is in the Procfile."""
    assert set(read_procfile()) == {"kafka", "opensky", "mailbox", *SERVICES, GATEWAY}


def test_a_malformed_procfile_line_is_rejected(tmp_path):
    """The error shows the malformed line."""
    path = tmp_path / "Procfile"
    path.write_text("web python -m web\n")
    with pytest.raises(LocalError, match="not `name: command`"):
        read_procfile(path)


def test_leaving_the_block_ends_all_processes_and_their_children(procfile, tmp_path):
    """A process that ignores SIGTERM is killed, and so is a child that a process left behind."""
    procfile.write_text("forks: sh -c 'sleep 300 & echo $! > \"$WHERE\"; wait'\n")
    child = tmp_path / "child"
    with ProcessSupervisor({"WHERE": str(child)}, tmp_path / "data") as running:
        running.start("forks")
        eventually(lambda: child.exists() and child.read_text().strip() != "", "the child runs")
        running.require_alive()
    pid = int(child.read_text())
    eventually(lambda: not runs(pid), "the child is gone")


def test_an_ended_process_is_reported_with_its_last_log_line(procfile, tmp_path):
    """Waiting for it fails immediately, not at the deadline."""
    procfile.write_text("sick: sh -c \"echo 'no room left'; exit 3\"\n")
    with ProcessSupervisor({}, tmp_path / "data") as running:
        running.start("sick")
        with pytest.raises(LocalError, match="sick has ended: no room left"):
            running.wait_until("sick", lambda: False, 20)


def test_an_ended_process_is_restarted(procfile, tmp_path):
    """A stack for daily use restarts its processes."""
    ran = tmp_path / "runs"
    procfile.write_text("brief: sh -c 'echo run >> \"$RUNS\"'\n")
    with ProcessSupervisor({"RUNS": str(ran)}, tmp_path / "data") as running:
        running.start("brief")
        eventually(lambda: bool(running.restart_ended()), "it is begun again")
        eventually(lambda: ran.read_text().count("run") >= 2, "it ran twice")


def test_no_process_survives_a_kill_of_its_parent(tmp_path):
    """After kill -9 of the supervisor its processes are killed by the kernel (Linux), or by the next start."""
    program = """
import os, sys, time
from pathlib import Path
from local import processes
path = Path(sys.argv[1]) / "Procfile"
path.write_text("sleeper: sleep 300\\n")
processes.read_procfile.__defaults__ = (path,)
with processes.ProcessSupervisor({"DATA_DIR": sys.argv[1]}, Path(sys.argv[1])) as running:
    running.start("sleeper")
    print(running._running["sleeper"].process.pid, flush=True)
    time.sleep(300)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert runs(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    kill_leftovers(tmp_path)
    eventually(lambda: not runs(pid), "the process is gone")


def test_a_signal_during_a_process_start_is_not_lost():
    """The signal is delivered after the start; during a fork Python would swallow the handler's exception."""
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with signals_blocked():
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # as where no other thread could take it
            child = subprocess.Popen(["sleep", "300"], preexec_fn=unblock_signals)
            assert heard == []
        assert heard == [signal.SIGTERM]
        child.terminate()
        assert child.wait(60) == -signal.SIGTERM, "the child hears it too"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_first_process_is_stopped_last(procfile, tmp_path):
    """The other processes depend on it: a stream whose broker ends first waits for it in vain."""
    trap = "trap 'echo {0} >> $ORDER; exit' TERM; echo up > $ORDER.{0}; while :; do sleep 0.05; done"
    procfile.write_text("".join(f'{name}: sh -c "{trap.format(name)}"\n' for name in ("broker", "one", "two")))
    order = tmp_path / "order"
    with ProcessSupervisor({"ORDER": str(order)}, tmp_path / "data") as running:
        for name in ("broker", "one", "two"):
            running.start(name)
        eventually(lambda: all((tmp_path / f"order.{name}").exists() for name in ("broker", "one", "two")), "all run")
    assert order.read_text().split()[-1] == "broker"
    assert len(order.read_text().split()) == 3


def test_only_our_own_leftovers_are_killed(tmp_path):
    """A process id that belongs to another program by now is not killed."""
    stranger = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        tmp_path.joinpath("processes.json").write_text(f'{{"kafka": {stranger.pid}}}')
        kill_leftovers(tmp_path)
        assert stranger.poll() is None
        assert not tmp_path.joinpath("processes.json").exists()
    finally:
        os.killpg(stranger.pid, signal.SIGKILL)
        stranger.wait()


def test_the_previous_runs_output_is_kept(procfile, tmp_path):
    """The previous run's output can still be read, and is separate from this run's."""
    procfile.write_text("speaker: echo hello\n")
    for _ in range(2):
        with ProcessSupervisor({}, tmp_path) as running:
            running.start("speaker")
            eventually(lambda: "hello" in find_log_file(tmp_path, "speaker").read_text(), "it spoke")
    assert find_log_file(tmp_path, "speaker").with_suffix(".old").read_text() == "hello\n"
    assert find_log_file(tmp_path, "speaker").read_text() == "hello\n"


def test_a_port_in_use_is_reported_with_its_remedy():
    """One sentence names the port, its purpose, and the option that moves the stack."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = Ports(*([taken.getsockname()[1]] * len(fields(Ports))))
        with pytest.raises(LocalError, match=r"port \d+ \(for mailbox\) is in use: .*--port-base"):
            ports.require_free(("mailbox",))
