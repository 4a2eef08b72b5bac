"""Run ``python -m coordinator.profiles hydrate``, then print as JSON the seconds of CPU and of wall of each phase.

BENCHMARK_BEGAN is the time.monotonic() at which whoever starts this did so.
"""

from __future__ import annotations

import time

REACHED = time.monotonic(), time.process_time()

import gc  # noqa: E402 - the interpreter's own start is a phase of its own
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from contextlib import redirect_stdout  # noqa: E402

from benchmarks.phases import PhaseTimer  # noqa: E402

PHASES = {
    "reading the settings": ("coordinator.profiles.__main__.load_settings",),
    "loading obstore": ("coordinator.profiles.s3.S3ProfileProvider._begin_listing",),
    "reading the cache's index": ("coordinator.profiles.cache.Cache.current",),
    "hashing the cached files": ("coordinator.profiles.s3_update.Update.__init__",),
    "waiting for the listing": ("concurrent.futures.Future.result",),
    "checking profiles": ("coordinator.profiles.s3.S3ProfileProvider._examine",),
    "writing files": ("coordinator.profiles.s3_update.Update.store",),
    "selecting profiles": ("coordinator.profiles.s3.S3ProfileProvider._select",),
    "writing the index, and the switch": ("coordinator.profiles.s3_update.Update.finish",),
}


def main() -> int:
    gc.disable()  # as the program does
    timer = PhaseTimer(began := float(os.environ["BENCHMARK_BEGAN"]))
    timer.took["starting the interpreter"], timer.cpu["starting the interpreter"] = REACHED[0] - began, REACHED[1]
    timer.load("importing structlog", "coordinator")
    timer.load("importing pydantic and the settings", "coordinator.settings")
    program = timer.load("importing the rest", "coordinator.profiles.__main__")
    timer.watch(PHASES)
    with redirect_stdout(sys.stderr):
        code: int = program.main(["hydrate"])
    sys.stdout.write(json.dumps({"cpu": timer.finish_cpu(), "wall": timer.finish()}) + "\n")
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
