from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable

from coordinator.local.reaper import install_if_process_1

# A process that adopts orphans, as process 1 does, and starts children of its own beside them.
ADOPTER = """
import asyncio, ctypes, json, os
from coordinator.local.reaper import Reaper

PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

class Owner:
    def __init__(self):
        self.own_pids, self.spawning, self.on_reaped = set(), 0, lambda: None

async def own(owner, code):
    owner.spawning += 1
    try:
        shell = f"(sleep 0.0{code % 5}; exit 7) & (sh -c 'sleep 0.02 &' &) ; exit {code}"
        process = await asyncio.create_subprocess_exec("sh", "-c", shell, start_new_session=True)
        owner.own_pids.add(process.pid)
    finally:
        owner.spawning -= 1
    owner.on_reaped()
    exit_code = await process.wait()
    owner.own_pids.discard(process.pid)
    owner.on_reaped()
    return exit_code == code

def has_children():
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True

async def main():
    owner = Owner()
    reaper = Reaper(owner)
    reaper.install()
    right = []
    for first in range(0, 50, 10):
        right += await asyncio.gather(*(own(owner, first + i) for i in range(10)))
    for _ in range(4000):
        if not has_children():
            break
        await asyncio.sleep(0.005)
    print(json.dumps({"own": len(right), "right": sum(right), "reaped": reaper.reaped, "left": has_children()}))

asyncio.run(main())
"""


async def test_orphans_are_reaped_and_no_exit_code_is_taken() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ADOPTER, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    told = json.loads(out)
    assert (told["own"], told["right"], told["left"]) == (50, 50, False)
    assert told["reaped"] >= 100


class NobodysOwner:
    own_pids: frozenset[int] = frozenset()
    spawning = 0
    on_reaped: Callable[[], None] = print


def test_only_process_1_reaps() -> None:
    assert install_if_process_1(NobodysOwner()) is None
