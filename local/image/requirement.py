"""`python requirement.py NAME…`: packages of uv.lock as pip wants to be given them, with their hashes.

For what the build of the image cannot ask uv for: uv itself, and single packages of a group. What they depend on is
not followed. Needs nothing but Python, and uv.lock in the working directory.
"""

import sys
import tomllib
from pathlib import Path


def requirement(name: str, lock: str) -> str:
    """The requirement, pinned and hashed. Raises LookupError where the lock does not have it in one version."""
    found = [package for package in tomllib.loads(lock)["package"] if package["name"] == name]
    if len(found) != 1:
        raise LookupError(f"uv.lock has {name} {len(found)} times, not once")
    (package,) = found
    files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]
    return " ".join((f"{name}=={package['version']}", *(f"--hash={file['hash']}" for file in files)))


if __name__ == "__main__":
    lock = Path("uv.lock").read_text(encoding="utf-8")
    for wanted in sys.argv[1:]:
        print(requirement(wanted, lock))
