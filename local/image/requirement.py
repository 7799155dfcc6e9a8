"""`python requirement.py NAME…` prints packages of uv.lock as pip requirements with hashes.

For packages that the build of the image cannot install with uv: uv itself, and single packages of a group. Their
dependencies are not included. Needs nothing but Python, and uv.lock in the working directory.
"""

import sys
import tomllib
from pathlib import Path


def build_requirement(name: str, lock: str) -> str:
    """Return a package as one line for pip: its version and the hashes of its wheels and source distribution.

    `lock`: the text of uv.lock. Raises LookupError unless the lock has the package in exactly one version.
    """
    found = [package for package in tomllib.loads(lock)["package"] if package["name"] == name]
    if len(found) != 1:
        raise LookupError(f"uv.lock has {name} {len(found)} times, not once")
    (package,) = found
    files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]
    return " ".join((f"{name}=={package['version']}", *(f"--hash={file['hash']}" for file in files)))


if __name__ == "__main__":
    lock = Path("uv.lock").read_text(encoding="utf-8")
    for name in sys.argv[1:]:
        print(build_requirement(name, lock))
