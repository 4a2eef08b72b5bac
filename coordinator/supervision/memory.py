"""Memory: how much there is for us, and children that grow beyond their limit."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from coordinator.lifecycle import Event, Reason, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from coordinator.child import Child
    from coordinator.supervision.policy import Policy

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


async def watch_memory(children: Callable[[], Iterable[Child]], policy: Policy) -> None:
    """For ever: replace each child that takes more than `memory_limit_bytes`, after its answer."""
    while True:
        await asyncio.sleep(policy.memory_check_s)
        for child in children():
            await _check(child, policy.memory_limit_bytes)


async def _check(child: Child, limit_bytes: int) -> None:
    life = child.life
    if life is None or life.process is None or child.phase.state not in (State.READY, State.UNHEALTHY):
        return
    used = await asyncio.to_thread(life.process.memory_bytes)
    if used is not None and used > limit_bytes:
        detail = f"{used >> 20} MiB in use, the limit is {limit_bytes >> 20} MiB"
        child.fire(Event.MEMORY_LIMIT, Reason.MEMORY_LIMIT, detail, generation=life.spec.generation)
