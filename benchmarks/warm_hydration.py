"""Runs ``python -m coordinator.profiles hydrate``, then prints as JSON how many seconds each part of it took.

BENCHMARK_BEGAN is the time.monotonic() at which whoever starts this did so.
"""

from __future__ import annotations

import time

REACHED = time.monotonic()

import gc  # noqa: E402 - the interpreter's own start is a part of its own
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from contextlib import redirect_stdout  # noqa: E402

from benchmarks.phases import PhaseTimer  # noqa: E402

PARTS = {
    "reading the settings": ("coordinator.profiles.__main__.load_settings",),
    "opening the bucket": ("coordinator.profiles.s3.S3ProfileProvider._connect",),
    "listing the bucket": ("coordinator.profiles.s3.list_bucket",),
    "checking the cached files": ("coordinator.profiles.s3.S3ProfileProvider._obtain",),
}


def main() -> int:
    gc.disable()  # as the program does
    parts = PhaseTimer(began := float(os.environ["BENCHMARK_BEGAN"]))
    parts.took["starting the interpreter"] = REACHED - began
    parts.load("importing structlog", "coordinator")
    parts.load("importing pydantic and the settings", "coordinator.flags")
    program = parts.load("importing the rest", "coordinator.profiles.__main__")
    parts.watch(PARTS)
    with redirect_stdout(sys.stderr):
        code: int = program.main(["hydrate"])
    sys.stdout.write(json.dumps(parts.finish()) + "\n")
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
