"""Fetches the collections that the figures compare with, out of the package that carries them all."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WANTED = ("ansible_collections/community/general/", "ansible_collections/ansible/posix/")


def main(requirements, target):
    with tempfile.TemporaryDirectory() as place:
        download = ["pip", "download", "--quiet", "--no-deps", "--dest", place, "-r", requirements]
        subprocess.run([sys.executable, "-m", *download], check=True)
        (wheel,) = Path(place).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = [n for n in archive.namelist() if n.startswith(WANTED) and "/tests/" not in n]
            archive.extractall(target, names)
    (Path(target) / "fetched").touch()


if __name__ == "__main__":
    main(*sys.argv[1:])
