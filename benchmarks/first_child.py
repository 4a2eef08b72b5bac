"""Runs the coordinator up to its first child, then prints as JSON how many seconds each part took, and ends.

BENCHMARK_BEGAN is the time.monotonic() at which whoever starts this did so.
"""

from __future__ import annotations

import time

REACHED = time.monotonic()

import importlib  # noqa: E402 - the interpreter's own start is a part of its own
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from typing import Any, NoReturn  # noqa: E402

from benchmarks.parts import Parts  # noqa: E402

PARTS = {
    "settings": ("coordinator.main.load_settings",),
    "S3 client": ("coordinator.profiles.s3.S3ProfileProvider._connect",),
    "S3 listing": ("coordinator.profiles.s3.list_bucket",),
    "validation": (
        "coordinator.profiles.s3_update.Update.unchanged",
        "coordinator.profiles.s3.S3ProfileProvider._examine",
        "coordinator.profiles.s3.S3ProfileProvider._examine_kept",
        "coordinator.profiles.s3.select_profiles",
        "coordinator.profiles.hydration.discover_profiles",
    ),
    "ports": ("coordinator.supervision.ports.PortPlan.check", "coordinator.fleet.check_ports_free"),
    "memory plan": ("coordinator.fleet.plan_memory",),
}


def main() -> int:
    parts = Parts(began := float(os.environ["BENCHMARK_BEGAN"]))
    parts.took["interpreter"] = REACHED - began
    program = parts.load("imports", "coordinator.main")
    parts.watch(PARTS)

    async def stop(*_: Any) -> NoReturn:
        sys.stdout.write(json.dumps(parts.finish()) + "\n")
        sys.stdout.flush()
        os._exit(0)

    importlib.import_module("coordinator.local.launcher").LocalLauncher._spawn = stop  # noqa: SLF001 - the instant before a child
    code: int = program.main([])
    return code


if __name__ == "__main__":
    sys.exit(main())
