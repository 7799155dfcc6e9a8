"""Kafka's jars: pinned by `jars.lock`, fetched from Maven Central once, verified at every start.

Hashing all 43 MB takes 30 ms, so there is no "already verified" mark that could be wrong: what runs was just checked.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from local.kafka.errors import CorruptJarError, JarsUnavailableError

if TYPE_CHECKING:
    from jgo.maven import Artifact, MavenContext

log = structlog.get_logger()

KAFKA_VERSION: Final = "4.4.0"
ROOTS: Final = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    # Kafka logs to slf4j 1.7 and brings log4j-core of this version, but not the bridge between them.
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5",
)
"""The coordinates that, with what they need at run time, make the lock file."""

LOCK_FILE: Final = Path(__file__).with_name("jars.lock")
_LOCK_HEAD: Final = "# Kafka's jars: sha256, size in bytes, Maven coordinate. Made by `python -m local.kafka lock`.\n"

_FETCHES_AT_ONCE: Final = 8
_TRIES: Final = 3
_TIMEOUT_S: Final = 30


@dataclass(frozen=True, slots=True, order=True)
class Jar:
    """One jar as the lock file pins it."""

    coordinate: str
    sha256: str
    size: int

    @property
    def file_name(self) -> str:
        """The name that Maven gives it: `artifact-version.jar`."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"

    def is_at(self, path: Path) -> bool:
        """Whether the file at `path` is this jar, to the last byte."""
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except FileNotFoundError:
            return False


def parse_lock(text: str) -> tuple[Jar, ...]:
    """The jars of a lock file. Raises ValueError, with the line's number, for a line that is not one."""
    jars = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#") or not line.strip():
            continue
        match line.split():
            case [sha256, size, coordinate] if len(sha256) == 64 and size.isdecimal() and coordinate.count(":") == 2:
                jars.append(Jar(coordinate, sha256, int(size)))
            case _:
                raise ValueError(f"line {number} is not `sha256 size group:artifact:version`: {line!r}")
    return tuple(jars)


def render_lock(jars: Iterable[Jar]) -> str:
    """The lock file's text, sorted by coordinate so that a new version is a small diff."""
    return _LOCK_HEAD + "".join(f"{jar.sha256} {jar.size} {jar.coordinate}\n" for jar in sorted(jars))


def find_cache_folder(environ: Mapping[str, str]) -> Path:
    """Where the jars stay between runs: `$XDG_CACHE_HOME/towerwatch/kafka/<version>`, by default below `~/.cache`."""
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "towerwatch" / "kafka" / KAFKA_VERSION


def ensure_jars(folder: Path, jars: Iterable[Jar]) -> list[Path]:
    """The paths of all `jars` in `folder`, each verified; what is missing or damaged is fetched first.

    Needs the network only then. An interrupted fetch leaves no half jar behind, and the next one goes on from there.
    Raises JarsUnavailableError or CorruptJarError.
    """
    jars = tuple(jars)
    wanted = [jar for jar in jars if not jar.is_at(folder / jar.file_name)]
    if wanted:
        log.info("kafka_jars.fetching", jars=len(wanted), megabytes=sum(jar.size for jar in wanted) // 1_000_000)
        _fetch(wanted, folder)
    return [folder / jar.file_name for jar in jars]


def resolve_lock() -> tuple[Jar, ...]:
    """What the lock file should say: `ROOTS` and all that they need at run time, as Maven Central serves them now."""
    with tempfile.TemporaryDirectory() as repository:
        maven = _maven(Path(repository))
        # "!": the roots' own parents must not manage versions (log4j's would put kafka-clients back to 3.9).
        inputs, needed = maven.resolver.resolve([maven.create_dependency(f"{root}!") for root in ROOTS])
        needed = [dependency for dependency in needed if dependency.scope in ("compile", "runtime")]
        with ThreadPoolExecutor(_FETCHES_AT_ONCE) as pool:
            return tuple(pool.map(_pinned, (dependency.artifact for dependency in (*inputs, *needed))))


def _pinned(artifact: "Artifact") -> Jar:
    content = artifact.resolve().read_bytes()
    coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
    return Jar(coordinate, hashlib.sha256(content).hexdigest(), len(content))


def _maven(repository: Path) -> "MavenContext":
    from jgo.maven import MavenContext  # half a second, which a start that fetches nothing saves

    return MavenContext(repo_cache=repository, timeout=_TIMEOUT_S)


def _fetch(jars: list[Jar], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Inside the folder, so that a finished jar can be renamed into its place.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as repository:
            maven = _maven(Path(repository))
            pool = ThreadPoolExecutor(_FETCHES_AT_ONCE)
            try:
                list(pool.map(lambda jar: _fetched(jar, maven).replace(folder / jar.file_name), jars))
            finally:
                pool.shutdown(cancel_futures=True)  # where one fails, the rest need not be tried
    except (OSError, RuntimeError) as error:  # of `requests` and the disk; jgo's "not found"
        raise JarsUnavailableError(
            f"Kafka's jars could not all be fetched from Maven Central into {folder} ({_in_short(error)}): "
            "check the network, the proxy settings and the disk, and start again; what has arrived is kept"
        ) from error


def _fetched(jar: Jar, maven: "MavenContext") -> Path:
    artifact = maven.create_dependency(jar.coordinate).artifact
    path = maven.repo_cache / artifact.component.path_prefix / artifact.filename
    failure: Exception = CorruptJarError(
        f"{jar.coordinate} came {_TRIES} times with another checksum than the one in {LOCK_FILE.name}: "
        "something between here and Maven Central changes it, so try another network"
    )
    for _ in range(_TRIES):
        path.unlink(missing_ok=True)  # torn or wrong: what the try before has left
        try:
            artifact.resolve()
        except OSError as error:
            failure = error
        else:
            if jar.is_at(path):
                return path
    raise failure


def _in_short(error: Exception) -> str:
    """The system's word for it, or the class's name: what `requests` says of a failure fills the screen."""
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
