"""A builder of images without a registry, whose base image consists of Debian's packages."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

_PROGRAMS: Final = ("buildah", "runc", "debootstrap")
_RELEASE: Final = "bookworm"
_PACKAGES: Final = ("python3", "python3-pip", "ca-certificates")
_ARCHIVE: Final = ROOT / "build" / "image" / f"{_RELEASE}.tar"
"""Debian's files, made by an earlier run. Only the base image is taken from it; all else is built anew in each run."""
_ARCHIVE_LASTS_S: Final = 7 * 24 * 3600.0
_MIRROR: Final = "http://deb.debian.org/debian"
_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
_PIP_OPTIONS: Final = ("index-url", "extra-index-url", "trusted-host", "proxy")


def find_obstacle() -> str | None:
    """Return why no image can be built here, or None if images can be built."""
    missing = [program for program in _PROGRAMS if shutil.which(program, path=_build_path()) is None]
    if missing:
        return f"{', '.join(missing)} not installed (`apt-get install {' '.join(missing)}`)"
    return None if os.geteuid() == 0 else "only root may make the base image"


def _build_path() -> str:
    return f"{os.environ['PATH']}{os.pathsep}/usr/sbin"


def parse_base_name(dockerfile: str) -> str:
    """Return the name of the Dockerfile's base image."""
    found = re.search(r"^ARG BASE=(\S+)$", dockerfile, re.MULTILINE)
    assert found, "the Dockerfile names no base"
    return found[1]


class Builder:
    """A builder with an image storage of its own, apart from the machine's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        configuration = folder / "storage.conf"
        # In many containers (CI may run in one) overlays cannot be mounted. The driver vfs copies all files for each
        # layer, so with vfs the build uses no layers.
        self._overlays = _can_overlay(folder)
        driver = "overlay" if self._overlays else "vfs"
        configuration.write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{folder}/images"\nrunroot = "{folder}/run"\n',
            encoding="utf-8",
        )
        self._environment: Mapping[str, str] = {
            **os.environ,
            "PATH": _build_path(),
            "CONTAINERS_STORAGE_CONF": str(configuration),
            "BUILDAH_ISOLATION": "chroot",
        }

    def make_base(self, name: str) -> None:
        """Build a Debian image with Debian's Python, named like the official image, which cannot be fetched here."""
        if not self._is_archive_fresh():
            self._archive_debian()
        (self._folder / "Base").write_text(f"FROM scratch\nADD {_ARCHIVE.name} /\n", encoding="utf-8")
        recipe = str(self._folder / "Base")
        self._run("buildah", "build", "--layers=false", "--tag", name, "-f", recipe, str(_ARCHIVE.parent))

    def _is_archive_fresh(self) -> bool:
        """Return True if Debian's files were archived this week, False if they are missing or older."""
        return _ARCHIVE.exists() and time.time() - _ARCHIVE.stat().st_mtime < _ARCHIVE_LASTS_S

    def _archive_debian(self) -> None:
        """Write Debian's files to the archive, which replaces an older one."""
        root, archive = self._folder / "base", self._folder / "base.tar"
        packages = ",".join(_PACKAGES)
        self._run("debootstrap", "--variant=minbase", f"--include={packages}", _RELEASE, str(root), self._mirror())
        (root / "usr/local/bin/python").symlink_to("../../bin/python3")
        self._run("tar", "-C", str(root), "-cf", str(archive), ".")
        shutil.rmtree(root)
        _ARCHIVE.parent.mkdir(parents=True, exist_ok=True)
        unfinished = _ARCHIVE.with_suffix(f".{os.getpid()}")  # beside it, so that replacing it is atomic
        shutil.move(archive, unfinished)
        unfinished.replace(_ARCHIVE)

    def build(self, context: Path, target: str, tag: str) -> None:
        """Build one target of the context's Dockerfile.

        The machine's certificates and pip configuration are build secrets, which the image does not contain.
        """
        files = {"certificates": Path(os.environ.get("SSL_CERT_FILE", _CERTIFICATES)), "pip": self._pip_configuration()}
        secrets = [f"--secret=id={name},src={path}" for name, path in files.items() if path.exists()]
        layers = f"--layers={str(self._overlays).lower()}"
        self._run(
            "buildah", "build", layers, "--network=host", f"--target={target}", f"--tag={tag}", *secrets, str(context)
        )

    def inspect(self, tag: str) -> str:
        """Return the image's metadata as JSON."""
        return self._run("buildah", "inspect", "--type", "image", tag)

    def export(self, tag: str, archive: Path, name: str) -> None:
        """Write an image to an archive of the OCI's layout, under the name that its user asks for."""
        self._run("buildah", "push", tag, f"oci-archive:{archive}:{name}")

    def mount(self, tag: str) -> Path:
        """Mount an image and return the path of its files, which must only be read."""
        container = self._run("buildah", "from", "--pull-never", tag).strip()
        return Path(self._run("buildah", "mount", container).strip())

    def delete_all(self) -> None:
        """Unmount and delete all images."""
        self._run("buildah", "rm", "--all")
        if self._overlays:  # the driver's own mount, of its folder onto itself
            subprocess.run(["umount", str(self._folder / "images/overlay")], capture_output=True, check=False)
        shutil.rmtree(self._folder)

    def _mirror(self) -> str:
        """Return the mirror from which the machine's apt gets the Debian release."""
        listed = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)", f"Codename: {_RELEASE}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return next(iter(listed.stdout.split()), _MIRROR)

    def _pip_configuration(self) -> Path:
        """Write the part of the machine's pip configuration about package indexes to a file, and return its path."""
        path = self._folder / "pip.conf"
        lines = ["[global]", f"cert = {_CERTIFICATES}"]  # the path of the secret `certificates` during the build
        for option in _PIP_OPTIONS:
            value = os.environ.get(f"PIP_{option.upper().replace('-', '_')}") or self._read_pip_option(option)
            if value:
                lines.append(f"{option} = {value}")
        path.write_text("\n".join((*lines, "")), encoding="utf-8")
        return path

    def _read_pip_option(self, option: str) -> str:
        """Return a global option of the machine's pip configuration, or "" if it is not set."""
        asked = subprocess.run(
            ["pip", "config", "get", f"global.{option}"], capture_output=True, text=True, check=False
        )
        return " ".join(asked.stdout.split()) if asked.returncode == 0 else ""

    def _run(self, *command: str) -> str:
        """Run a command and return its output; fail with the output if the command fails."""
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        output = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{output}"
        return done.stdout


def _can_overlay(folder: Path) -> bool:
    """Return True if an overlay can be mounted in this folder, False if not."""
    parts = {name: folder / f"overlay-{name}" for name in ("lowerdir", "upperdir", "workdir", "merged")}
    for path in parts.values():
        path.mkdir()
    where = parts.pop("merged")
    options = ",".join(f"{name}={path}" for name, path in parts.items())
    mounted = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, str(where)], capture_output=True, check=False
    )
    if mounted.returncode == 0:
        subprocess.run(["umount", str(where)], check=True)
    return mounted.returncode == 0


def copy_clean_checkout(into: Path) -> None:
    """Copy the files of this work tree that Git tracks or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    ).stdout.decode()  # fmt: skip
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.is_file():
            target = into / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
