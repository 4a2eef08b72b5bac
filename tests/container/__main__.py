"""Build what the proofs need, run them, and end with a line that counts them.

Usage: python -m tests.container [WORDS]. With words only the proofs that have them in their claim or name are run.
The exit code is 0 only if all of them hold.
"""

from __future__ import annotations

import sys
import time

from tests.container import checks_ending, checks_images, checks_refusals, checks_secrets, checks_serving
from tests.container.building import build
from tests.container.podman import say
from tests.container.proofs import PROOFS, failures, holds
from tests.container.world import CHROMIUM, TRIAL, world

ORDER = [part.__name__ for part in (checks_images, checks_serving, checks_refusals, checks_ending, checks_secrets)]
FIRST = (
    ("the trial image builds: demo site, S3 server, seed", lambda: build("docker/Dockerfile.trial", TRIAL)),
    (
        "the production image builds with Chromium",
        lambda: build("docker/Dockerfile.prod", CHROMIUM, arguments=["BROWSER_ENGINE=chromium"]),
    ),
)


def main(words: str) -> int:
    """Run them; returns the exit code."""
    began = time.monotonic()
    ordered = sorted(PROOFS, key=lambda item: ORDER.index(item.check.__module__))
    wanted = [item for item in ordered if item.is_wanted(words)]
    failed = sum(not holds(claim, check) for claim, check in FIRST)
    if not failed:
        with world() as made:
            failed += failures(made, wanted)
    else:
        say("without these two images nothing else can be proven")
        failed += len(wanted)
    say(f"all of it took {time.monotonic() - began:.0f} s")
    say(f"container-test: {len(FIRST) + len(wanted) - failed} passed, {failed} failed")
    return 1 if failed or not wanted else 0


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
