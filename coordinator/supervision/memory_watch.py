"""Children that grow beyond their memory limit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from coordinator.supervision.lifecycle import Event, Reason, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from coordinator.supervision.child import Child
    from coordinator.supervision.policy import Policy


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
