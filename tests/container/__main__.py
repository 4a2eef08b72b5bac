"""Build what the proofs need, run them, and end with a line that counts them.

Usage: python -m tests.container [WORDS]. With words only the proofs that have them in their claim or name are run.
The exit code is 0 only if all of them hold, 1 if one fails, 2 if there is none with these words.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from tests.container import (
    checks_ending,
    checks_images,
    checks_refusals,
    checks_secrets,
    checks_serving,
    checks_setups,
)
from tests.container.building import build
from tests.container.podman import say
from tests.container.proofs import PROOFS, Proof, explain, failures, holds
from tests.container.world import CHROMIUM, TRIAL, world

PARTS = (checks_images, checks_serving, checks_setups, checks_refusals, checks_ending, checks_secrets)
ORDER = [part.__name__ for part in PARTS]
FIRST = (
    ("the trial image builds: demo site, S3 server, seed", lambda: build("docker/Dockerfile.trial", TRIAL)),
    (
        "the production image builds with Chromium",
        lambda: build("docker/Dockerfile.prod", CHROMIUM, arguments=["BROWSER_ENGINE=chromium"]),
    ),
)


def main(words: str) -> int:
    """Run them; returns the exit code. The last line counts them, and nothing else stands on it."""
    began = time.monotonic()
    wanted = [item for item in in_order() if item.is_wanted(words)]
    if not wanted:
        say(f"no proof has {words!r} in its claim or its name")
        return 2
    failed = run(wanted)
    say(f"all of it took {time.monotonic() - began:.0f} s")
    say(f"{len(FIRST) + len(wanted) - failed} passed, {failed} failed")
    return 1 if failed else 0


def in_order() -> list[Proof]:
    """All proofs: those about the images first, because the others need them."""
    return sorted(PROOFS, key=lambda item: ORDER.index(item.check.__module__))


def run(wanted: Sequence[Proof]) -> int:
    """Build, then prove; returns how many failed, those that could not be tried among them."""
    failed = sum(not holds(claim, check) for claim, check in FIRST)
    if failed:
        say("without these two images nothing else can be proven")
        return failed + len(wanted)
    try:
        with world() as made:
            return failures(made, wanted)
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        explain(error)
        say("without the demo site and the S3 server nothing else can be proven")
        return len(wanted)


def leave(*_: object) -> NoReturn:
    """End in good order: every `with` takes away what it has made."""
    sys.exit(143)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, leave)
    sys.exit(main(" ".join(sys.argv[1:])))
