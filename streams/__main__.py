"""`python -m streams`: one worker of the stream."""

from chassis import logs
from chassis.process import settings_or_exit
from chassis.stream_app import run_worker
from streams.app import SERVICE, create_app
from streams.settings import StreamsSettings
from towerwatch.topics import CATALOGUE


def main() -> None:
    settings = settings_or_exit(SERVICE, StreamsSettings)
    logs.configure(SERVICE, settings.log_level, settings.log_format)
    run_worker(create_app(settings), settings, CATALOGUE)


if __name__ == "__main__":
    main()
