"""Run the coordinator up to the start of its first child, print the seconds of each phase as JSON, and exit.

The caller sets BENCHMARK_BEGAN to the time.monotonic() at which it starts this program.
"""

from __future__ import annotations

import time

REACHED = time.monotonic()

import importlib  # noqa: E402 - the start of the interpreter is a phase of its own
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from typing import Any, NoReturn  # noqa: E402

from benchmarks.phases import PhaseTimer  # noqa: E402

PHASES = {
    "settings": ("coordinator.main.load_settings",),
    "S3 client": ("coordinator.profiles.s3.S3ProfileProvider._begin_listing",),
    "S3 listing": ("concurrent.futures.Future.result",),
    "validation": (
        "coordinator.profiles.s3_update.Update.__init__",
        "coordinator.profiles.s3.S3ProfileProvider._examine",
        "coordinator.profiles.s3.S3ProfileProvider._examine_kept",
        "coordinator.profiles.s3.select_profiles",
        "coordinator.profiles.hydration.discover_profiles",
    ),
    "ports": ("coordinator.supervision.ports.PortPlan.check", "coordinator.fleet.check_ports_free"),
    "memory plan": ("coordinator.fleet.plan_memory",),
}


def main() -> int:
    """Run the coordinator; return its exit code if it ends before its first child."""
    timer = PhaseTimer(began := float(os.environ["BENCHMARK_BEGAN"]))
    timer.took["interpreter"] = REACHED - began
    program = timer.load("imports", "coordinator.main")
    timer.watch(PHASES)

    async def stop(*_: Any) -> NoReturn:
        sys.stdout.write(json.dumps(timer.finish()) + "\n")
        sys.stdout.flush()
        os._exit(0)

    importlib.import_module("coordinator.local.launcher").LocalLauncher._spawn = stop  # noqa: SLF001 - the call that would start a child
    code: int = program.main([])
    return code


if __name__ == "__main__":
    sys.exit(main())
