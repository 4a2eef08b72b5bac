"""A supervised fleet without an HTTP application, as a process of its own that tests can kill.

    python -m tests.coordinator.small_coordinator FOLDER LOGINS_PER_BROWSER SPARE_BROWSERS NAME...

Prints one JSON line when all children are READY and the spare browsers up: the children's pids, and the folder of
their run folders.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from coordinator.supervision.lifecycle import State
from tests.coordinator.fleet import running_fleet


async def main(folder: Path, logins_per_browser: int, spare_browsers: int, names: list[str]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    more = {"logins_per_browser": logins_per_browser, "spare_browsers": spare_browsers}
    async with running_fleet(folder, names, **more) as fleet:
        if spare_browsers:
            await fleet.until_spare(spare_browsers)
        pids = {view.name: view.pid for view in fleet.supervisor.snapshot() if view.state is State.READY}
        sys.stdout.write(json.dumps({"pids": pids, "run_root": str(fleet.run_root.path)}) + "\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
