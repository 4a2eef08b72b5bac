"""Build the images, run the checks, and print a summary as the last line.

Usage: python -m tests.container [WORDS]. Words select the checks whose claim or function name contains them. The exit
code is 0 if all pass, 1 if one fails, 2 if no check matches.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from tests.container import (
    checks_compose,
    checks_deployments,
    checks_images,
    checks_secrets,
    checks_serving,
    checks_shutdown,
    checks_startup_errors,
)
from tests.container.checks import CHECKS, Check, passes, print_failure, run_checks
from tests.container.image_build import build
from tests.container.podman import say
from tests.container.services import CHROMIUM, TRIAL, run_services

PARTS = (
    checks_images,
    checks_serving,
    checks_deployments,
    checks_compose,
    checks_startup_errors,
    checks_shutdown,
    checks_secrets,
)
ORDER = [part.__name__ for part in PARTS]
FIRST = (
    ("the trial image builds: demo site, S3 server, seed", lambda: build("docker/Dockerfile.trial", TRIAL)),
    (
        "the production image builds with Chromium",
        lambda: build("docker/Dockerfile.prod", CHROMIUM, arguments=["BROWSER_ENGINE=chromium"]),
    ),
)


def main(words: str) -> int:
    """Run the matching checks and return the exit code. The last line holds the counts and nothing else."""
    began = time.monotonic()
    wanted = [item for item in in_order() if item.matches(words)]
    if not wanted:
        say(f"no check has {words!r} in its claim or its name")
        return 2
    failed = run(wanted)
    say(f"total: {time.monotonic() - began:.0f} s")
    say(f"{len(FIRST) + len(wanted) - failed} passed, {failed} failed")
    return 1 if failed else 0


def in_order() -> list[Check]:
    """Return all checks, those of the images first, because the others need the images."""
    return sorted(CHECKS, key=lambda item: ORDER.index(item.function.__module__))


def run(wanted: Sequence[Check]) -> int:
    """Build, then run the checks. Return how many failed; those that could not be run count as failed."""
    failed = sum(not passes(claim, function) for claim, function in FIRST)
    if failed:
        say("the other checks need these two images")
        return failed + len(wanted)
    try:
        with run_services() as services:
            return run_checks(services, wanted)
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        print_failure(error)
        say("the checks need the demo site and the S3 server")
        return len(wanted)


def handle_sigterm(*_: object) -> NoReturn:
    """Exit by SystemExit, so that every `with` cleans up."""
    sys.exit(143)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, handle_sigterm)
    sys.exit(main(" ".join(sys.argv[1:])))
