"""How much memory there is, whether the planned children fit it, and which child takes too much of it."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coordinator.errors import MemoryPlanError
from coordinator.fleet_file.login import Login
from coordinator.supervision.child import Child
from coordinator.supervision.lifecycle import Event, Reason, State
from coordinator.supervision.policy import Policy

_CGROUPS: Final = "sys/fs/cgroup"

_CHILD_MIB: Final = 126 + 64
"""Playwright's driver and the child's own Python, proportional set size as measured."""

_BROWSER_MIB: Final[Mapping[str, int]] = {"chromium": 386, "firefox": 513, "camoufox": 513}
"""A browser with one light page, proportional set size as measured; Camoufox counts as the Firefox it is."""

_FURTHER_LOGIN_MIB: Final[Mapping[str, int]] = {"chromium": 35, "firefox": 69, "camoufox": 69}
"""Each login after the first one in a browser, with one light page: a sizing constant, as measured."""

_COORDINATOR_MIB: Final = 100
_TIGHT, _HOPELESS = 0.9, 1.3


@dataclass(frozen=True)
class MemoryLimit:
    """The tightest limit on our memory, and whose it is."""

    limit_bytes: int
    source: str


def memory_limit(root: Path = Path("/")) -> MemoryLimit | None:
    """Return the tightest of our cgroups' limits (v1 and v2, ancestors too) and the machine's memory.

    `root` is where proc and sys are found. A limit of "max", or one beyond the machine's memory, is none.
    """
    limits = [
        MemoryLimit(int(line.split()[1]) << 10, "the machine's memory")
        for line in _read(root / "proc/meminfo").splitlines()
        if line.startswith("MemTotal:")
    ]
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            limits += _walk(root / _CGROUPS, path, "memory.max", "cgroup v2 memory.max")
        elif "memory" in controllers.split(","):
            mount = root / _CGROUPS / "memory"
            limits += _walk(mount, path, "memory.limit_in_bytes", "cgroup v1 memory.limit_in_bytes")
    return min(limits, key=lambda limit: limit.limit_bytes, default=None)


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


def browsers_needed(logins: Iterable[Login], logins_per_browser: int) -> int:
    """Return how many browsers these logins take when each shares one with others of its site, as far as it may."""
    alone, sharing = 0, Counter[str | None]()
    for login in logins:
        if logins_per_browser == 1 or login.has_own_browser:
            alone += 1
        else:
            sharing[login.site] += 1
    return alone + sum(math.ceil(count / logins_per_browser) for count in sharing.values())


def plan_memory(
    children: int,
    engine: str,
    limit: MemoryLimit | None,
    browsers: Callable[[int], int] = lambda children: children,
    *,
    spares: int = 0,
) -> str | None:
    """Compare the planned children with the memory there is; return a warning for the operator, or None.

    `browsers` returns how many browsers the first so many of the children take. Each of the `spares` counts as much as
    a browser with a page: it becomes one, and another takes its place.

    Raises MemoryPlanError where the plan exceeds the limit by more than 30 %. The figures are medians for
    a light page: a heavy page takes more, while idle pages can be swapped and share more than
    measured. So a plan near the limit deserves a warning and the operator's judgement; one far beyond it
    can only end with the kernel killing browsers, again and again, and is refused.
    """
    if limit is None:
        return None
    per_child = _CHILD_MIB + _BROWSER_MIB[engine]
    further = _FURTHER_LOGIN_MIB[engine]

    def needs(count: int, spares: int = spares) -> int:
        first = browsers(count)
        return _COORDINATOR_MIB + (first + spares) * per_child + (count - first) * further

    needed, used = needs(children), browsers(children)
    available = limit.limit_bytes >> 20
    if needed <= _TIGHT * available:
        return None
    fewer = next((left for left in range(spares - 1, -1, -1) if needs(children, left) <= _TIGHT * available), None)
    fits = next((count for count in range(children - 1, 0, -1) if needs(count, 0) <= _TIGHT * available), 0)
    if fewer is not None:
        cure = f"set SPARE_BROWSERS={fewer}, or give it more memory"
    elif fits > 0:
        none_spare = "SPARE_BROWSERS=0 and " if spares else ""
        cure = f"set {none_spare}MAX_CHILDREN={fits}, or give it more memory"
    else:
        cure = "give it more memory"
    kept = f" and {spares} spare {'browser' if spares == 1 else 'browsers'}" if spares else ""
    shared = f" in {used} {'browser' if used == 1 else 'browsers'}" if used < children else ""
    each = f"{per_child} MiB a browser and {further} MiB each further login" if shared else f"{per_child} MiB each"
    line = (
        f"{children} {'child' if children == 1 else 'children'}{shared}{kept} "
        f"{'needs' if children == 1 and not spares else 'need'} "
        f"about {needed} MiB ({each} with {engine}), but {limit.source} allows {available} MiB; {cure}."
    )
    if needed > _HOPELESS * available:
        raise MemoryPlanError(line)
    return line


async def watch_memory(children: Callable[[], Iterable[Child]], policy: Policy) -> None:
    """Replace each child that takes more than `memory_limit_bytes`, after its answer; never returns."""
    limit_bytes = policy.memory_limit_bytes
    while True:
        await asyncio.sleep(policy.memory_check_s)
        for child in children():
            run = child.run
            if run is None or run.process is None or child.phase.state not in (State.READY, State.UNHEALTHY):
                continue
            try:
                used = await asyncio.to_thread(run.process.memory_bytes)
            except (OSError, RuntimeError):  # no descriptor or no thread to look with: the next look may have them
                continue
            if used is not None and used > limit_bytes:
                detail = f"{used >> 20} MiB in use, the limit is {limit_bytes >> 20} MiB"
                run.process.retire_browser()  # else those that leave it would come back to it
                child.fire(Event.MEMORY_LIMIT, Reason.MEMORY_LIMIT, detail, generation=run.spec.generation)
