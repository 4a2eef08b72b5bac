"""The real age, of the distribution's package: what Tabfleet writes it must read, and the other way round."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def _run(program: str, *arguments: str | Path, data: bytes = b"") -> bytes:
    found = shutil.which(program)
    assert found, f"{program} is missing: run scripts/age-setup"
    done = subprocess.run([found, *map(str, arguments)], input=data, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def new_key(path: Path) -> Path:
    """Make an identity file by age-keygen, and return its path."""
    _run("age-keygen", "-o", path)
    return path


def decrypt(key: Path, file: Path) -> bytes:
    """Return what `age -d -i KEY FILE` prints."""
    return _run("age", "-d", "-i", key, file)


def encrypt(key: Path, data: bytes, *, armor: bool = False) -> bytes:
    """Return what age makes of the data, for the recipient of this identity file."""
    return _run("age", *(["-a"] if armor else []), "-e", "-i", key, data=data)
