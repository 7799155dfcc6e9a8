"""Several workers of the stream: of one line of the Procfile, each with what is its own, also when begun again."""

from dataclasses import asdict
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
    """Workers that write down what they were told, and end."""
    path = tmp_path / "Procfile"
    path.write_text("streams: sh -c 'echo $STREAMS_WEB_PORT $DATA_DIR >> \"$TOLD\"'\nother: sh -c 'exit 3'\n")
    monkeypatch.setattr(processes, "PROCFILE", path)
    monkeypatch.setattr(processes.read_procfile, "__defaults__", (path,))
    return path


def test_one_worker_is_what_it_was_and_further_ones_get_ports_behind_the_row() -> None:
    """No port is given twice."""
    assert assign_worker_ports(PORTS, 1) == {"streams": PORTS}
    workers = assign_worker_ports(PORTS, 3)
    assert list(workers) == ["streams", "streams_2", "streams_3"]
    own = [each.streams_web for each in workers.values()]
    assert own[0] == PORTS.streams_web
    assert len({*own, *asdict(PORTS).values()}) == len(asdict(PORTS)) + 2


def test_each_has_a_port_and_a_folder_of_its_own_and_keeps_them_when_it_is_begun_again(procfile, tmp_path) -> None:
    """Two workers in one folder would destroy each other's tables."""
    data, written = tmp_path / "data", tmp_path / "told"
    environment = {"STREAMS_WEB_PORT": str(PORTS.streams_web), "DATA_DIR": str(data), "TOLD": str(written)}

    def told() -> list[str]:
        return written.read_text().splitlines() if written.exists() else []

    with ProcessSupervisor(environment, data) as running:
        for name, ports in assign_worker_ports(PORTS, 2).items():
            start_streams_worker(running, name, ports, data)
        both = {f"{PORTS.streams_web} {data}", f"{PORTS.kafka + 1} {data / 'streams_2'}"}
        eventually(lambda: set(told()) == both)
        eventually(lambda: running.restart_ended(("streams_2",)) == ["streams_2"])
        eventually(lambda: len(told()) == 3)
        assert told()[2] == f"{PORTS.kafka + 1} {data / 'streams_2'}"
    assert running.find_log("streams_2").exists()


def test_only_those_may_end_that_are_begun_again(procfile, tmp_path) -> None:
    """The demo goes on without one of several workers, and not without anything else."""
    with ProcessSupervisor({"TOLD": str(tmp_path / "told")}, tmp_path / "data") as running:
        running.start("streams_2", "streams")
        eventually(lambda: ended(running))
        running.require_alive(but=("streams_2",))
        running.start("other")
        with pytest.raises(LocalError, match="other has ended"):
            eventually(lambda: running.require_alive(but=("streams_2",)))


def ended(running: ProcessSupervisor) -> bool:
    try:
        running.require_alive()
    except LocalError:
        return True
    return False
