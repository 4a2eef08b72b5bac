"""How much memory there is for us."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_CGROUPS: Final = "sys/fs/cgroup"


@dataclass(frozen=True)
class MemoryLimit:
    """The tightest limit on our memory, and whose it is."""

    limit_bytes: int
    source: str


def memory_limit(root: Path = Path("/")) -> MemoryLimit | None:
    """Return the tightest of our cgroups' limits (v1 and v2, ancestors too) and the machine's memory.

    `root` is where proc and sys are found. A limit of "max", or one beyond the machine's memory, is none.
    """
    return min(_limits(root), key=lambda limit: limit.limit_bytes, default=None)


def _limits(root: Path) -> Iterator[MemoryLimit]:
    yield from _machine(root)
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield from _walk(root / _CGROUPS, path, "memory.max", "cgroup v2 memory.max")
        elif "memory" in controllers.split(","):
            mount = root / _CGROUPS / "memory"
            yield from _walk(mount, path, "memory.limit_in_bytes", "cgroup v1 memory.limit_in_bytes")


def _machine(root: Path) -> Iterator[MemoryLimit]:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            yield MemoryLimit(int(line.split()[1]) << 10, "the machine's memory")


def _walk(mount: Path, path: str, file: str, source: str) -> Iterator[MemoryLimit]:
    # In a container the path may be the host's, of which the mount shows only our own part as its root.
    below = Path(path.lstrip("/"))
    for folder in (mount / below, *(mount / parent for parent in below.parents), mount):
        text = _read(folder / file).strip()
        if text.isdecimal():
            yield MemoryLimit(int(text), source)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
