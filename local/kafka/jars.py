"""Kafka's jars: pinned by `jars.lock`, downloaded from Maven Central once, verified at every start.

Hashing all 43 MB takes 30 ms, so no "already verified" mark is kept that could be wrong.
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
"""The Maven coordinates that the lock file is resolved from, with their run-time dependencies."""

LOCK_FILE: Final = Path(__file__).with_name("jars.lock")
_LOCK_HEAD: Final = "# Kafka's jars: sha256, size in bytes, Maven coordinate. Made by `python -m local.kafka lock`.\n"

_PARALLEL_DOWNLOADS: Final = 8
_MAX_ATTEMPTS: Final = 3
_TIMEOUT_S: Final = 30


@dataclass(frozen=True, slots=True, order=True)
class Jar:
    """A jar as the lock file pins it: Maven coordinate (`group:artifact:version`), checksum and size in bytes.

    Jars are ordered by coordinate.
    """

    coordinate: str
    sha256: str
    size: int

    @property
    def file_name(self) -> str:
        """The jar's file name by Maven's rule: `artifact-version.jar`."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"

    def is_at(self, path: Path) -> bool:
        """Return True if the file at `path` has this jar's checksum, False if not or if the file does not exist.

        Reads the whole file.
        """
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except FileNotFoundError:
            return False


def parse_lock(text: str) -> tuple[Jar, ...]:
    """Parse the jars of a lock file, in the order of its lines; comments and empty lines are skipped.

    Raises ValueError, with the line's number, for a malformed line.
    """
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
    """Return the lock file's text: a comment, and a line for each jar.

    The lines are sorted by coordinate, so that a new version is a small diff.
    """
    return _LOCK_HEAD + "".join(f"{jar.sha256} {jar.size} {jar.coordinate}\n" for jar in sorted(jars))


def find_cache_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of the downloaded jars: `$XDG_CACHE_HOME/towerwatch/kafka/<version>`, default `~/.cache/…`."""
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "towerwatch" / "kafka" / KAFKA_VERSION


def ensure_jars(folder: Path, jars: Iterable[Jar]) -> list[Path]:
    """Verify all `jars` in `folder`, download those that are missing or damaged, and return the paths in their order.

    Needs the network only for a download. An interrupted download leaves no half jar behind, and the next call
    continues it. Raises JarsUnavailableError or CorruptJarError.
    """
    jars = tuple(jars)
    missing = [jar for jar in jars if not jar.is_at(folder / jar.file_name)]
    if missing:
        log.info("kafka_jars.fetching", jars=len(missing), megabytes=sum(jar.size for jar in missing) // 1_000_000)
        _download(missing, folder)
    return [folder / jar.file_name for jar in jars]


def resolve_lock() -> tuple[Jar, ...]:
    """Resolve `ROOTS` and their run-time dependencies to jars, as Maven Central serves them now.

    Downloads every jar, into a folder that is deleted at the end, to compute its checksum and size.
    """
    with tempfile.TemporaryDirectory() as repository:
        maven = _make_maven_context(Path(repository))
        # "!": the roots' own parents must not manage versions (log4j's would put kafka-clients back to 3.9).
        roots, dependencies = maven.resolver.resolve([maven.create_dependency(f"{root}!") for root in ROOTS])
        runtime = [dependency for dependency in dependencies if dependency.scope in ("compile", "runtime")]
        with ThreadPoolExecutor(_PARALLEL_DOWNLOADS) as pool:
            return tuple(pool.map(_pin_artifact, (dependency.artifact for dependency in (*roots, *runtime))))


def _pin_artifact(artifact: "Artifact") -> Jar:
    """Download an artifact, and return it as a jar, pinned to the checksum and the size of what came."""
    content = artifact.resolve().read_bytes()
    coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
    return Jar(coordinate, hashlib.sha256(content).hexdigest(), len(content))


def _make_maven_context(repository: Path) -> "MavenContext":
    """Make the Maven client with this folder as its local repository."""
    from jgo.maven import MavenContext  # takes half a second, which a start without a download saves

    return MavenContext(repo_cache=repository, timeout=_TIMEOUT_S)


def _download(jars: list[Jar], folder: Path) -> None:
    """Download the jars into the folder, in parallel, each moved there once its checksum is right.

    Raises JarsUnavailableError or CorruptJarError after the first failure; downloads that have not begun are cancelled,
    and the jars that were already downloaded stay in the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Inside the folder, so that a finished jar can be renamed into its place.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as repository:
            maven = _make_maven_context(Path(repository))
            pool = ThreadPoolExecutor(_PARALLEL_DOWNLOADS)
            try:
                list(pool.map(lambda jar: _download_jar(jar, maven).replace(folder / jar.file_name), jars))
            finally:
                pool.shutdown(cancel_futures=True)  # after one failure, the rest need not be tried
    except (OSError, RuntimeError, ValueError) as error:  # of `requests`, its proxies and the disk; jgo's "not found"
        raise JarsUnavailableError(
            f"Kafka's jars could not all be fetched from Maven Central into {folder} ({_summarize(error)}): "
            "check the network, the proxy settings and the disk, and start again; what has arrived is kept"
        ) from error


def _download_jar(jar: Jar, maven: "MavenContext") -> Path:
    """Download one jar into Maven's local repository, and return its path once its checksum is right.

    Makes up to `_MAX_ATTEMPTS` attempts, without a pause. Then raises the last OSError of the attempts, or
    CorruptJarError if each of them brought a wrong checksum. Raises jgo's RuntimeError at once if there is no such jar.
    """
    artifact = maven.create_dependency(jar.coordinate).artifact
    path = maven.repo_cache / artifact.component.path_prefix / artifact.filename
    failure: Exception = CorruptJarError(
        f"{jar.coordinate} came {_MAX_ATTEMPTS} times with another checksum than the one in {LOCK_FILE.name}: "
        "something between here and Maven Central changes it, so try another network"
    )
    for _ in range(_MAX_ATTEMPTS):
        path.unlink(missing_ok=True)  # an incomplete or wrong file of the attempt before
        try:
            artifact.resolve()
        except OSError as error:
            failure = error
        else:
            if jar.is_at(path):
                return path
    raise failure


def _summarize(error: Exception) -> str:
    """Return the system's text of the error, or the class's name: the texts of `requests` fill the screen."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return type(error).__name__ if isinstance(error, ValueError) else str(error)  # a ValueError shows the proxy
