"""Files that exist only as long as this process: for interfaces that take nothing but a path."""

from __future__ import annotations

import os
from pathlib import Path


def memory_file(name: str, data: bytes) -> Path:
    """The path of an anonymous file in memory with this content, which is never on disk (memfd_create(2))."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(data)
    return Path(f"/proc/self/fd/{descriptor}")
