"""Images without a registry: a base made of Debian's packages in the place of the one that the Dockerfile names."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

_PROGRAMS: Final = ("buildah", "runc", "debootstrap")
_RELEASE: Final = "bookworm"
_MIRROR: Final = "http://deb.debian.org/debian"
_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
_PIP_OPTIONS: Final = ("index-url", "extra-index-url", "trusted-host", "proxy")


def why_not() -> str | None:
    """Why no image can be built here, or None."""
    missing = [program for program in _PROGRAMS if shutil.which(program, path=_path()) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian has packages of these names)"
    return None if os.geteuid() == 0 else "only root may make the base image"


def _path() -> str:
    return f"{os.environ['PATH']}{os.pathsep}/usr/sbin"


def base_name(dockerfile: str) -> str:
    """The base image that the Dockerfile begins with."""
    found = re.search(r"^ARG BASE=(\S+)$", dockerfile, re.MULTILINE)
    assert found, "the Dockerfile names no base"
    return found[1]


class Builder:
    """Builds images in a storage of its own, so that nothing of the machine's is used or left behind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        configuration = folder / "storage.conf"
        # Within many containers, as CI may be one, no overlay can be mounted. vfs copies all files for each layer, so
        # with it a step is not kept for the next build.
        self._overlays = _can_overlay(folder)
        driver = "overlay" if self._overlays else "vfs"
        configuration.write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{folder}/images"\nrunroot = "{folder}/run"\n',
            encoding="utf-8",
        )
        self._environment: Mapping[str, str] = {
            **os.environ,
            "PATH": _path(),
            "CONTAINERS_STORAGE_CONF": str(configuration),
            "BUILDAH_ISOLATION": "chroot",
        }

    def make_base(self, name: str) -> None:
        """A Debian with its own Python, under the name of the official image, which cannot be fetched here."""
        root = self._folder / "base"
        packages = "python3,python3-pip,ca-certificates"
        self._run("debootstrap", "--variant=minbase", f"--include={packages}", _RELEASE, str(root), self._mirror())
        (root / "usr/local/bin/python").symlink_to("../../bin/python3")
        self._run("tar", "-C", str(root), "-cf", str(self._folder / "base.tar"), ".")
        (self._folder / "Base").write_text("FROM scratch\nADD base.tar /\n", encoding="utf-8")
        recipe = str(self._folder / "Base")
        self._run("buildah", "build", "--layers=false", "--tag", name, "-f", recipe, str(self._folder))
        shutil.rmtree(root)

    def build(self, context: Path, target: str, tag: str) -> None:
        """One target of the context's Dockerfile. What this machine needs to reach PyPI is lent to the build alone."""
        lent = {"certificates": Path(os.environ.get("SSL_CERT_FILE", _CERTIFICATES)), "pip": self._pip_configuration()}
        secrets = [f"--secret=id={name},src={path}" for name, path in lent.items() if path.exists()]
        layers = f"--layers={str(self._overlays).lower()}"
        self._run(
            "buildah", "build", layers, "--network=host", f"--target={target}", f"--tag={tag}", *secrets, str(context)
        )

    def inspected(self, tag: str) -> str:
        """What the image says of itself, as JSON."""
        return self._run("buildah", "inspect", "--type", "image", tag)

    def mounted(self, tag: str) -> Path:
        """The files of an image, which must only be read."""
        container = self._run("buildah", "from", "--pull-never", tag).strip()
        return Path(self._run("buildah", "mount", container).strip())

    def clear(self) -> None:
        """Unmount what `mounted` did, and delete the images."""
        self._run("buildah", "rm", "--all")
        if self._overlays:  # the driver's own mount, of its folder onto itself
            subprocess.run(["umount", str(self._folder / "images/overlay")], capture_output=True, check=False)
        shutil.rmtree(self._folder)

    def _mirror(self) -> str:
        """Where this machine's own apt gets the release from."""
        listed = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)", f"Codename: {_RELEASE}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return next(iter(listed.stdout.split()), _MIRROR)

    def _pip_configuration(self) -> Path:
        """The part of this machine's pip configuration that says where packages come from."""
        path = self._folder / "pip.conf"
        lines = ["[global]", f"cert = {_CERTIFICATES}"]  # there the certificates are lent to; the image has its own
        for option in _PIP_OPTIONS:
            value = os.environ.get(f"PIP_{option.upper().replace('-', '_')}") or self._asked_of_pip(option)
            if value:
                lines.append(f"{option} = {value}")
        path.write_text("\n".join((*lines, "")), encoding="utf-8")
        return path

    def _asked_of_pip(self, option: str) -> str:
        asked = subprocess.run(
            ["pip", "config", "get", f"global.{option}"], capture_output=True, text=True, check=False
        )
        return " ".join(asked.stdout.split()) if asked.returncode == 0 else ""

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        said = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{said}"
        return done.stdout


def _can_overlay(folder: Path) -> bool:
    """Whether an overlay can be mounted in this folder."""
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


def clean_checkout(into: Path) -> None:
    """Copy the files of this work tree that Git has or would add, and no others."""
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
