"""A service's process: servers in threads, background tasks on the main thread's event loop, an orderly end."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NoReturn, Protocol, TypeVar

import structlog

from chassis.errors import ChassisError
from chassis.settings import Settings, load_settings

log = structlog.get_logger()

S = TypeVar("S", bound=Settings)


class Server(Protocol):
    """Something that serves in threads of its own."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


def refuse_to_start(service: str, error: ChassisError) -> NoReturn:
    """Say on standard error what is wrong, without a stack trace, and exit with code 2."""
    for line in str(error).splitlines():
        print(f"{service}: {line}", file=sys.stderr)
    sys.exit(2)


def load_settings_or_exit(service: str, settings: type[S]) -> S:
    """The settings of a service, or its end: with every fault in the environment said, or with what `--help` asks for.

    `--help` is answered here for services that have no command line of their own: all that they are told is settings.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(describe_usage(service, settings))
        sys.exit(0)
    try:
        return load_settings(settings)
    except ChassisError as error:
        refuse_to_start(service, error)


def describe_usage(service: str, settings: type[Settings]) -> str:
    """How a service is run, and each variable that it reads."""
    required = {name.upper(): field.is_required() for name, field in settings.model_fields.items()}
    return "\n".join(
        (
            f"usage: python -m {service}",
            "",
            "Serves until SIGTERM. All settings are environment variables, or files that NAME_FILE names.",
            "",
            f"needed:   {' '.join(name for name, needed in required.items() if needed)}",
            f"optional: {' '.join(name for name, needed in required.items() if not needed)}",
        )
    )


async def serve(servers: list[Server], background: Mapping[str, Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Run until SIGTERM or SIGINT; then stop the servers (they drain), then the background tasks.

    A background task that raises is logged and begun again after a pause: the service stays alive.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    tasks = [asyncio.create_task(_run_with_restarts(name, begin), name=name) for name, begin in background.items()]
    for server in servers:
        server.start()
    log.info("service.started")
    await stopping.wait()
    log.info("service.stopping")
    await asyncio.gather(*(asyncio.to_thread(server.stop) for server in servers))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    log.info("service.stopped")


async def _run_with_restarts(name: str, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
    pause = 1.0
    while True:
        try:
            await begin()
            return
        except ChassisError as error:  # what an operator can act upon needs no stack trace
            log.error("task.failed", task=name, reason=str(error), again_in_s=pause)
        except Exception as error:  # whatever it was, the service must go on without an operator
            log.error("task.failed", task=name, error=type(error).__name__, again_in_s=pause, exc_info=error)
        await asyncio.sleep(pause)
        pause = min(pause * 2, 30.0)
