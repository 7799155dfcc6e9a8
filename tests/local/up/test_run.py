"""The background process of `make up`, which imports while the command checks the settings."""

import subprocess
import sys

from local.processes import ROOT
from tests.e2e.test_demo import find_processes
from tests.ports import free_ports


def test_without_the_word_nothing_is_started(tmp_path):
    """If the command ends before it has given the word, because a setting is wrong or it is killed, no process runs."""
    (tmp_path / "env").write_text(f"PORT_BASE={free_ports(10)}\n")
    data = tmp_path / "data"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "local.up", "run", "--await-start-line"),
            *("--env-file", str(tmp_path / "env"), "--data", str(data)),
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert not (data / "processes.json").exists()
    assert not (data / "logs").exists()


def test_wrong_settings_end_the_background_process_too(tmp_path):
    """The command names the fault, and has waited for the end of the process that it had started by then."""
    (tmp_path / "env").write_text(f"PORT_BASE={free_ports(10)}\nPOLL_INTERVAL=never\n")
    data = tmp_path / "data"
    start = subprocess.run(
        [
            *(sys.executable, "-m", "local.up", "start"),
            *("--env-file", str(tmp_path / "env"), "--data", str(data)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert start.returncode == 2
    assert "nothing was started" in start.stderr
    assert "POLL_INTERVAL" in start.stderr
    assert not (data / "processes.json").exists()
    assert not find_processes(data)


def test_what_the_services_share_starts_no_thread_and_reads_no_setting(tmp_path):
    """With a second thread nothing could be forked, and a setting that is read at an import would be the supervisor's.

    So the import works without any setting, in an empty folder, and leaves one thread and no open file.
    """
    program = """
import os
from domain.airports import find_airport
from local.forked_process import can_fork, import_before_forks
from local.up.__main__ import SHARED
before = set(os.listdir("/proc/self/fd"))
find_airport("")
import_before_forks(SHARED)
print(can_fork(), sorted(set(os.listdir("/proc/self/fd")) - before))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("True []\n", "")
