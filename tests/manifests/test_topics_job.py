"""The Job of the topics goes on as long as its pod is wanted: a day without Kafka leaves nothing that looks broken."""

import importlib.util
from types import ModuleType

import pytest

from chassis.errors import ChassisError
from chassis.topics import BrokerUnreachableError, TopicRefusedError
from local.processes import ROOT
from tests.manifests.rendering import Rendered
from tests.ports import free_port


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the Job's program, with an environment that it accepts."""
    path = ROOT / "manifests" / "base" / "topics" / "make_topics.py"
    spec = importlib.util.spec_from_file_location("make_topics", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
    return module


def test_nothing_ends_the_job_but_its_success(rendered: Rendered) -> None:
    """No deadline, and so many attempts that none is the last; its node begins a failed container anew."""
    pod = rendered.pod("topics")
    assert "activeDeadlineSeconds" not in pod.owner["spec"]
    assert "activeDeadlineSeconds" not in pod.spec
    assert pod.owner["spec"]["backoffLimit"] == 2**31 - 1
    assert pod.spec["restartPolicy"] == "OnFailure"


def test_the_program_waits_for_a_broker_without_end(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says now and then what it waits for, and goes on where the broker comes at last."""
    attempts = 0

    async def ensure_topics(servers: str, *_: object) -> None:
        """Fail a hundred times as if no broker answered, then succeed."""
        nonlocal attempts
        attempts += 1
        if attempts <= 100:
            raise BrokerUnreachableError(f"no Kafka broker at {servers}") from TimeoutError()

    monkeypatch.setattr(program, "ensure_topics", ensure_topics)
    program.main()
    said = capsys.readouterr()
    assert said.err.splitlines() == ["topics: still waiting: no Kafka broker at kafka:9092"] * 100
    assert said.out.startswith("topics: all ")


def test_an_attempt_without_a_broker_is_repeated(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing listens at the address."""
    monkeypatch.setattr(program, "SAY_EVERY_S", 0.3)
    assert program._try_to_make_topics(f"127.0.0.1:{free_port()}", 1) is False
    assert "still waiting: no Kafka broker" in capsys.readouterr().err


@pytest.mark.parametrize("error", [TopicRefusedError("the broker will not"), BrokerUnreachableError("is not a list")])
def test_what_waiting_does_not_mend_ends_the_program(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: ChassisError
) -> None:
    """With the reason, and no loop that never pauses; the node begins it anew later."""

    async def ensure_topics(*_: object) -> None:
        raise error

    monkeypatch.setattr(program, "ensure_topics", ensure_topics)
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 2
    assert str(error) in capsys.readouterr().err
