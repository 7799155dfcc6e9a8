"""The process of a service: servers in threads, background tasks on the main event loop, and an orderly shutdown."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, NoReturn, Protocol, TypeVar

import structlog

from chassis.errors import ChassisError, RefusedStartError
from chassis.settings import Settings, load_settings

log = structlog.get_logger()

S = TypeVar("S", bound=Settings)


class Server(Protocol):
    """A server that runs in threads of its own: `start` returns at once, `stop` returns when requests have ended."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


def exit_with_error(service: str, error: ChassisError) -> NoReturn:
    """Print each line of an error's text on standard error, after the service's name, and exit with code 2."""
    for line in str(error).splitlines():
        print(f"{service}: {line}", file=sys.stderr)
    sys.exit(2)


def keep_files_private() -> None:
    """Let the process, and those that it starts, create files of mode 0600 and folders of mode 0700.

    Databases, tables, mails and logs hold addresses, and a machine may have other users.
    """
    os.umask(0o077)


def load_settings_or_exit(service: str, settings: type[S], arguments: Mapping[str, str] = MappingProxyType({})) -> S:
    """Return a service's settings, or exit: with code 2 and all faults printed, or with code 0 after `--help`.

    `--help` is handled here for services without a command line of their own. `arguments` are further arguments of the
    service, each with a sentence about it, for the usage text: the caller reads them from `sys.argv`. From here on the
    process creates files that only its own user can read.
    """
    keep_files_private()
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(describe_usage(service, settings, arguments))
        sys.exit(0)
    try:
        return load_settings(settings)
    except ChassisError as error:
        exit_with_error(service, error)


def describe_usage(service: str, settings: type[Settings], arguments: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the usage text of a service, with the names of the environment variables that it needs or may read.

    `arguments`: its command-line arguments, each with a sentence about it.
    """
    required = {name.upper(): field.is_required() for name, field in settings.model_fields.items()}
    return "\n".join(
        (
            " ".join((f"usage: python -m {service}", *(f"[{name}]" for name in arguments))),
            "",
            "Serves until SIGTERM. All settings are environment variables, or files that NAME_FILE names.",
            "",
            f"needed:   {' '.join(name for name, needed in required.items() if needed)}",
            f"optional: {' '.join(name for name, needed in required.items() if not needed)}",
            *(f"\n{name}  {sentence}" for name, sentence in arguments.items()),
        )
    )


async def serve(servers: list[Server], background: Mapping[str, Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Run servers and background tasks until SIGTERM or SIGINT; then drain and stop the servers, then cancel the tasks.

    `background` maps the name of each task to the function that starts it. When a task raises, the error is logged and
    the task is started again after a pause; a task that returns is not. The servers stop concurrently. Return when the
    tasks have ended. Raises RefusedStartError, after everything has stopped, as soon as a task raises it.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    refusals: list[RefusedStartError] = []

    async def run_task(name: str, start: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await _run_with_restarts(name, start)
        except RefusedStartError as error:
            refusals.append(error)
            stopping.set()

    tasks = [asyncio.create_task(run_task(name, start), name=name) for name, start in background.items()]
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
    if refusals:
        raise refusals[0]


async def _run_with_restarts(name: str, start: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a task until it returns; log each error, and start the task again after pauses that double from 1 s to 30 s.

    A ChassisError is logged with its text, any other error with a stack trace. RefusedStartError is raised.
    """
    pause = 1.0
    while True:
        try:
            await start()
            return
        except RefusedStartError:
            raise
        except ChassisError as error:  # an operator can act upon its text, which needs no stack trace
            log.error("task.failed", task=name, reason=str(error), again_in_s=pause)
        except Exception as error:  # after any error the service must go on without an operator
            log.error("task.failed", task=name, error=type(error).__name__, again_in_s=pause, exc_info=error)
        await asyncio.sleep(pause)
        pause = min(pause * 2, 30.0)
