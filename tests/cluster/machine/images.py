"""The images of the pods, without a registry: ours by its Dockerfile, stand-ins for others from Debian and Maven."""

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local.kafka.jars import LOCK_FILE, ensure_jars, find_cache_folder, parse_lock
from tests.cluster.machine.layout import FILES
from tests.cluster.machine.network import run
from tests.image.standin import ROOT, Builder, copy_clean_checkout, find_obstacle, parse_base_name

_HERE: Final = Path(__file__).parent
_OURS: Final = "docker.io/library/towerwatch:kind"
_COPIED: Final = (
    "Dockerfile", "pyproject.toml", "uv.lock", "proto", "chassis", "domain", "user_manager", "collector", "streams",
    "notifier", "web", "local",
)  # fmt: skip
"""What the Dockerfile copies, with itself."""

_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_STAND_INS: Final[Mapping[str, Mapping[str, object]]] = {
    "docker.io/library/mysql:8.4.11": {"Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["mysqld"], "Env": [_PATH]},
    "docker.io/apache/kafka:4.4.0": {"User": "appuser", "Env": [_PATH]},
    "docker.io/prom/prometheus:v3.13.3": {
        "User": "nobody",
        "WorkingDir": "/prometheus",
        "Entrypoint": ["/usr/local/bin/prometheus.sh"],
        "Cmd": ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"],
        "Env": [_PATH],
    },
    "registry.k8s.io/pause:3.10.1": {"Entrypoint": ["/usr/bin/sleep", "infinity"], "Env": [_PATH]},
}
"""The images of others that the manifests name, with what their makers' Dockerfiles say of users and commands."""
_DEBIAN: Final = (
    "bash", "coreutils", "mawk", "grep", "sed", "findutils", "procps", "openjdk-17-jre-headless", "prometheus",
    "nginx-light",
)  # fmt: skip
_MYSQL: Final = ("mysql-server-core", "mysql-client-core")


def make_our_image() -> Path:
    """Build the image of our services for kind, unless it was built from the same files; return its archive."""
    obstacle = find_obstacle()
    assert obstacle is None, f"the image cannot be built: {obstacle}"
    archive = FILES / "images" / "towerwatch.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FILES) as name:
        context = Path(name, "checkout")
        copy_clean_checkout(context)
        key = _hash_files(context)
        if archive.exists() and archive.with_suffix(".key").read_text() == key:
            return archive
        folder = Path(name, "builder")
        folder.mkdir()
        builder = Builder(folder)
        try:
            builder.make_base(parse_base_name((ROOT / "Dockerfile").read_text()))
            builder.build(context, "kind", "towerwatch:kind")
            archive.unlink(missing_ok=True)
            builder.export("towerwatch:kind", archive, _OURS)
        finally:
            builder.delete_all()
    archive.with_suffix(".key").write_text(key)
    return archive


def make_stand_ins() -> Path:
    """Build the stand-ins for the images of others, unless they exist from the same parts; return their archive.

    They share their layers: programs of Debian, MySQL of Debian sid beside its own libraries, Kafka's jars, and what is
    in the folder `files`.
    """
    jars = parse_lock(LOCK_FILE.read_text())
    key = hashlib.sha256(
        json.dumps([_STAND_INS, _DEBIAN, _MYSQL, [str(jar) for jar in jars], _hash_files(_HERE / "files")]).encode()
    ).hexdigest()
    archive = FILES / "images" / "stand-ins.tar"
    if archive.exists() and archive.with_suffix(".key").read_text() == key:
        return archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.unlink(missing_ok=True)
    for release, folder, packages in (("bookworm", "debian", _DEBIAN), ("sid", "mysql", _MYSQL)):
        if not (FILES / "files" / folder).exists():
            (FILES / "files").mkdir(parents=True, exist_ok=True)
            run(_HERE / "packages.sh", release, FILES / "files" / folder, *packages)
    with tempfile.TemporaryDirectory(dir=FILES) as name:
        kafka = Path(name, "kafka")
        shutil.copytree(_HERE / "files", kafka, symlinks=True)
        libraries = kafka / "opt" / "kafka" / "libs"
        libraries.mkdir(parents=True)
        for jar in ensure_jars(find_cache_folder(os.environ), jars):
            shutil.copy2(jar, libraries)
        layers = [
            _pack(FILES / "files" / "debian", Path(name, "debian.tar"), "."),
            _pack(FILES / "files" / "mysql", Path(name, "mysql.tar"), "opt/mysql"),
            _pack(kafka, Path(name, "kafka.tar"), "."),
        ]
        _write_archive(archive, layers, _STAND_INS)
    archive.with_suffix(".key").write_text(key)
    return archive


@dataclass(frozen=True, slots=True)
class _Layer:
    path: Path
    sha256: str

    @property
    def digest(self) -> str:
        return f"sha256:{self.sha256}"


def _pack(folder: Path, archive: Path, below: str) -> _Layer:
    """Pack a folder's files, as root's and below another folder, and return them as a layer; without documentation."""
    left_out = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info")

    def prepare(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        inside = entry.name.removeprefix(below).lstrip("./")
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        return None if inside.startswith(left_out) else entry

    with tarfile.open(archive, "w") as packed:
        packed.add(folder, below, filter=prepare)
    with archive.open("rb") as content:
        return _Layer(archive, hashlib.file_digest(content, "sha256").hexdigest())


def _write_archive(archive: Path, layers: Sequence[_Layer], images: Mapping[str, Mapping[str, object]]) -> None:
    """Write images that share all layers as one archive of the OCI's image layout (opencontainers/image-spec)."""
    blobs: dict[str, bytes] = {}

    def add(content: object) -> dict[str, object]:
        encoded = json.dumps(content).encode()
        digest = hashlib.sha256(encoded).hexdigest()
        blobs[digest] = encoded
        return {"digest": f"sha256:{digest}", "size": len(encoded)}

    manifests = []
    for name, configuration in images.items():
        configured = add(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": configuration,
                "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
            }
        )
        kind = "application/vnd.oci.image"
        described = add(
            {
                "schemaVersion": 2,
                "mediaType": f"{kind}.manifest.v1+json",
                "config": {"mediaType": f"{kind}.config.v1+json", **configured},
                "layers": [
                    {
                        "mediaType": f"{kind}.layer.v1.tar",
                        "digest": layer.digest,
                        "size": layer.path.stat().st_size,
                    }
                    for layer in layers
                ],
            }
        )
        manifests.append(
            {
                "mediaType": f"{kind}.manifest.v1+json",
                **described,
                "annotations": {"io.containerd.image.name": name},
                "platform": {"architecture": "amd64", "os": "linux"},
            }
        )
    index = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    unfinished = archive.with_suffix(".unfinished")
    with tarfile.open(unfinished, "w") as packed:
        for name, content in (
            ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
            ("index.json", index),
            *((f"blobs/sha256/{digest}", content) for digest, content in blobs.items()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
        for layer in layers:
            packed.add(layer.path, f"blobs/sha256/{layer.sha256}")
    unfinished.replace(archive)


def _hash_files(folder: Path) -> str:
    """Return a hash over the names and contents of the files of a folder, or of those of our image in a checkout."""
    whole = hashlib.sha256()
    names = [folder / name for name in _COPIED] if (folder / "Dockerfile").exists() else [folder]
    for path in sorted(each for name in names for each in (name.rglob("*") if name.is_dir() else [name])):
        if path.is_file():
            whole.update(f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()
