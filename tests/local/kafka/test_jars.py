"""Kafka's jars: the lock file, the cache and the downloads."""

import hashlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from jgo.maven import MavenContext

from local.kafka import jars
from local.kafka.errors import CorruptJarError, JarsUnavailableError
from local.kafka.jars import (
    KAFKA_VERSION,
    LOCK_FILE,
    ROOTS,
    Jar,
    ensure_jars,
    find_cache_folder,
    parse_lock,
    render_lock,
)
from tests.fakes.proxy import recording_proxy
from tests.proxies import set_proxies

NAMES = ("one", "two", "three")


def content(name: str) -> bytes:
    """Return the content of a fake jar."""
    return name.encode() * 10_000


def pinned(name: str) -> Jar:
    """Return the pinned jar with this fake content."""
    return Jar(f"org.example:{name}:1.0", hashlib.sha256(content(name)).hexdigest(), len(content(name)))


PINNED = tuple(pinned(name) for name in NAMES)


class _Repository(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output free of requests."""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """A local Maven repository in place of Maven Central; returns the path of a jar that it serves."""

    def path_of(name: str) -> Path:
        return tmp_path / f"repository/org/example/{name}/1.0/{name}-1.0.jar"

    for name in NAMES:
        path_of(name).parent.mkdir(parents=True)
        path_of(name).write_bytes(content(name))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Repository, directory=str(tmp_path / "repository")))
    remote = {"test": f"http://127.0.0.1:{server.server_port}"}
    monkeypatch.setattr(
        jars, "_make_maven_context", lambda cache: MavenContext(repo_cache=cache, remote_repos=remote, timeout=60)
    )
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield path_of
    server.shutdown()
    server.server_close()
    thread.join()


def test_committed_lock_pins_the_broker() -> None:
    """The lock file is as `lock` writes it, holds the roots, and names coordinates only, no registry."""
    text = LOCK_FILE.read_text()
    locked = parse_lock(text)
    assert render_lock(locked) == text
    assert set(ROOTS) <= {jar.coordinate for jar in locked}
    assert len({jar.file_name for jar in locked}) == len(locked)
    assert not re.search(r"https?:|repo\d?\.|/", text)


def test_lock_is_read_as_written() -> None:
    """A parsed lock file gives the jars that it was rendered from; comments and empty lines are skipped."""
    assert parse_lock("\n# a remark\n" + render_lock(PINNED)) == tuple(sorted(PINNED))
    assert PINNED[0].file_name == "one-1.0.jar"


@pytest.mark.parametrize("line", ["abc 12 a:b:1", f"{'0' * 64} twelve a:b:1", f"{'0' * 64} 12 a:b", f"{'0' * 64} 12"])
def test_a_malformed_lock_line_is_rejected(line: str) -> None:
    """The error names the line's number."""
    with pytest.raises(ValueError, match="line 2 "):
        parse_lock(f"# head\n{line}\n")


def test_cache_is_outside_of_the_repository(tmp_path: Path) -> None:
    """The cache is in the user's XDG cache folder, with one folder per version of Kafka."""
    assert find_cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "towerwatch/kafka" / KAFKA_VERSION
    assert find_cache_folder({}) == Path.home() / ".cache/towerwatch/kafka" / KAFKA_VERSION


def test_only_missing_jars_are_downloaded(tmp_path: Path, repository: Callable[[str], Path]) -> None:
    """Present jars are kept; if all are present, no network is needed."""
    cache = tmp_path / "cache"
    ensure_jars(cache, PINNED[:1])
    repository("one").unlink()

    paths = ensure_jars(cache, PINNED)
    assert [path.read_bytes() for path in paths] == [content(name) for name in NAMES]
    assert sorted(path.name for path in cache.iterdir()) == sorted(jar.file_name for jar in PINNED)

    for name in NAMES[1:]:
        repository(name).unlink()
    assert ensure_jars(cache, PINNED) == paths


def test_a_damaged_jar_is_downloaded_again(tmp_path: Path, repository: Callable[[str], Path]) -> None:
    """A cached jar with another checksum than the lock's is replaced before it is used."""
    cache = tmp_path / "cache"
    one = ensure_jars(cache, PINNED)[0]
    one.write_bytes(content("one")[:-1] + b"X")
    assert ensure_jars(cache, PINNED)[0].read_bytes() == content("one")


def test_a_wrong_jar_from_the_network_is_rejected(tmp_path: Path, repository: Callable[[str], Path]) -> None:
    """A download with a wrong checksum is an error that names the jar, and never enters the cache."""
    repository("two").write_bytes(b"something else")
    with pytest.raises(CorruptJarError, match=r"org\.example:two:1\.0"):
        ensure_jars(tmp_path / "cache", PINNED)
    assert not (tmp_path / "cache/two-1.0.jar").exists()


def test_an_interrupted_download_continues(tmp_path: Path, repository: Callable[[str], Path]) -> None:
    """If one jar cannot be downloaded, the others are kept, and the next start downloads only the rest."""
    kept = repository("three").rename(tmp_path / "kept")
    with pytest.raises(JarsUnavailableError, match="check the network"):
        ensure_jars(tmp_path / "cache", PINNED)
    kept.rename(repository("three"))
    assert all(path.exists() for path in ensure_jars(tmp_path / "cache", PINNED))


def test_a_wrong_checksum_is_no_network_error() -> None:
    """A wrong checksum and an unavailable network are different errors, for the remedies differ."""
    assert not issubclass(CorruptJarError, (OSError, RuntimeError, JarsUnavailableError))


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_download_takes_the_machines_proxy(
    tmp_path: Path, repository: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Maven Central is outside, and asked as ordinary clients do."""
    served = repository("one").read_bytes()
    with recording_proxy(f"HTTP/1.0 200 OK\r\nContent-Length: {len(served)}\r\n\r\n".encode() + served) as proxy:
        set_proxies(monkeypatch, {variable: proxy.url})
        ensure_jars(tmp_path / "cache", PINNED[:1])
    assert any(each.endswith("one-1.0.jar HTTP/1.1") for each in proxy.requests)


@pytest.mark.parametrize(
    "value",
    [
        "socks5h://u:hunter2@127.0.0.1:1",
        "socks5://127.0.0.1:1",
        "http://",
        "http://:1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:notaport",
        "http://u:hunter2@127.0.0.1:+1",
        "http://u:hunter2/x@127.0.0.1:1",
        "http://u:hunter2@127.0.0.1:1",
        "http://a..b:3128",
        "http://" + "a" * 64 + ".org:1",
        "ftp://127.0.0.1:1",
        "http://[::1:1",
        "127.0.0.1:1",
    ],
)
def test_an_unusable_proxy_is_one_sentence(
    tmp_path: Path, repository: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """The sentence says what to check, without the proxy's password."""
    set_proxies(monkeypatch, {"http_proxy": value})
    with pytest.raises(JarsUnavailableError, match="check the network, the proxy settings and the disk") as caught:
        ensure_jars(tmp_path / "cache", PINNED)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)
