"""Several workers of the stream: they share one line of the Procfile, and each has its own port and folder."""

from dataclasses import asdict, astuple
from pathlib import Path

import pytest

from local import processes
from local.errors import LocalError
from local.ports import Ports
from local.processes import ProcessSupervisor
from local.stack import assign_worker_ports, start_streams_worker
from tests.waiting import eventually

PORTS = Ports.from_base(9000)


@pytest.fixture
def procfile(tmp_path, monkeypatch) -> Path:
    """A Procfile whose workers write their port and folder to a file, and end."""
    path = tmp_path / "Procfile"
    path.write_text("streams: sh -c 'echo $STREAMS_WEB_PORT $DATA_DIR >> \"$TOLD\"'\nother: sh -c 'exit 3'\n")
    monkeypatch.setattr(processes, "PROCFILE", path)
    monkeypatch.setattr(processes.read_procfile, "__defaults__", (path,))
    return path


def test_further_workers_get_ports_after_the_stacks() -> None:
    """The first worker's ports are the stack's, and no port is assigned twice."""
    assert assign_worker_ports(PORTS, 1) == {"streams": PORTS}
    workers = assign_worker_ports(PORTS, 3)
    assert list(workers) == ["streams", "streams_2", "streams_3"]
    own = [each.streams_web for each in workers.values()]
    assert own[0] == PORTS.streams_web
    assert len({*own, *asdict(PORTS).values()}) == len(asdict(PORTS)) + 2


def test_each_worker_keeps_its_own_port_and_folder_when_restarted(procfile, tmp_path) -> None:
    """Two workers in one folder would destroy each other's tables."""
    data, written = tmp_path / "data", tmp_path / "told"
    environment = {"STREAMS_WEB_PORT": str(PORTS.streams_web), "DATA_DIR": str(data), "TOLD": str(written)}

    def told() -> list[str]:
        return written.read_text().splitlines() if written.exists() else []

    second = max(astuple(PORTS)) + 1
    with ProcessSupervisor(environment, data) as running:
        for name, ports in assign_worker_ports(PORTS, 2).items():
            start_streams_worker(running, name, ports, data)
        both = {f"{PORTS.streams_web} {data}", f"{second} {data / 'streams_2'}"}
        eventually(lambda: set(told()) == both)
        eventually(lambda: running.restart_ended(("streams_2",)) == ["streams_2"])
        eventually(lambda: len(told()) == 3)
        assert told()[2] == f"{second} {data / 'streams_2'}"
    assert running.find_log("streams_2").exists()


def test_only_restarted_processes_may_end(procfile, tmp_path) -> None:
    """The demo continues without one of several workers, but not without any other process."""
    with ProcessSupervisor({"TOLD": str(tmp_path / "told")}, tmp_path / "data") as running:
        running.start("streams_2", "streams")
        eventually(lambda: has_ended(running))
        running.require_alive(but=("streams_2",))
        running.start("other")
        with pytest.raises(LocalError, match="other has ended"):
            eventually(lambda: running.require_alive(but=("streams_2",)))


def has_ended(running: ProcessSupervisor) -> bool:
    """Return True if any process has ended, else False."""
    try:
        running.require_alive()
    except LocalError:
        return True
    return False
