"""What `make up` says of a broker of .env or the shell that is not there."""

import socket
from dataclasses import fields
from pathlib import Path

import pytest

from local.errors import LocalError
from local.ports import Ports
from local.up import __main__ as up
from local.up.external_broker import explain_missing_broker
from local.up.settings import StackConfig
from tests.ports import free_port, free_ports


def test_an_absent_broker_is_named() -> None:
    """With what to do; one of several servers is enough. Of a wrong list the services say what is wrong."""
    gone = f"127.0.0.1:{free_port()}"
    assert explain_missing_broker(gone) == (
        f"nothing takes connections at {gone}, which KAFKA_BOOTSTRAP_SERVERS names in .env or in the shell: start that "
        "broker, or remove the variable, and Towerwatch runs its own"
    )
    assert explain_missing_broker("no-such-host.invalid:9092") is not None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert explain_missing_broker(f"{gone}, 127.0.0.1:{listener.getsockname()[1]}") is None
    assert explain_missing_broker("::1:9092:x") is None


class RunningProcess:
    """A stack that goes on running."""

    def poll(self) -> None:
        """Return None, as of a process that has not ended."""


def test_a_stack_that_waits_for_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than that a service was not ready in time; the stack's own broker is never blamed."""
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setattr(up, "get_ready_timeout_s", lambda _: -1.0)
    env_file, base = tmp_path / ".env", free_ports(len(fields(Ports)))
    env_file.write_text(f"KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:{free_port()}\nPORT_BASE={base}\n")
    config = StackConfig(env_file, tmp_path / "data")
    with pytest.raises(LocalError, match="user_manager was not ready in time: nothing takes connections at 127"):
        up._wait_until_ready("user_manager", config, RunningProcess())  # type: ignore[arg-type]
    env_file.write_text(f"PORT_BASE={base}\n")
    config = StackConfig(env_file, tmp_path / "data")
    with pytest.raises(LocalError, match="user_manager was not ready in time: http"):
        up._wait_until_ready("user_manager", config, RunningProcess())  # type: ignore[arg-type]


class EndedProcess:
    """A stack that has ended."""

    def poll(self) -> int:
        """Return the exit status of a process that gave up."""
        return 2


def test_a_start_that_failed_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After minutes of waiting or at once: where the log is, that nothing runs, and that `make up` tries again."""
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    (tmp_path / ".env").write_text(f"PORT_BASE={free_ports(len(fields(Ports)))}\n")
    config = StackConfig(tmp_path / ".env", tmp_path / "data")
    logs = tmp_path / "data" / "logs"
    logs.mkdir(parents=True)
    (logs / "stack.log").write_text("towerwatch: kafka has ended: no space\n")
    again = "nothing runs now, data is kept, and `make up` tries again"
    with pytest.raises(LocalError) as ended:
        up._wait_until_ready("collector", config, EndedProcess())  # type: ignore[arg-type]
    assert str(ended.value) == f"did not start: kafka has ended: no space (its log is {logs / 'stack.log'}); {again}"
    monkeypatch.setattr(up, "get_ready_timeout_s", lambda _: -1.0)
    for name in ("kafka", "collector"):
        with pytest.raises(LocalError) as late:
            up._wait_until_ready(name, config, RunningProcess())  # type: ignore[arg-type]
        assert str(logs / f"{name}.log") in str(late.value)
        assert str(late.value).endswith(f"; {again}")
