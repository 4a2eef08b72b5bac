"""A coordinator with fake children, as `tests.coordinator.run_with_fakes`: PIDFILE EVIDENCE, then its own flags.

It writes its process id, for what starts it may be its parent. $SCALE_HOLDS_S is for how many seconds it relies on a
renewal, whatever the store does: more than the product would, which shows that the test would see it.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from unittest import mock

from coordinator.claims import setup
from coordinator.claims.keeper import ClaimKeeper
from tests.coordinator import run_with_fakes


def main() -> None:
    pid_file, evidence, *flags = sys.argv[1:]
    Path(pid_file).write_text(f"{os.getpid()}\n")
    holds_s = os.environ.get("SCALE_HOLDS_S")
    if holds_s is not None:
        mock.patch.object(setup, "ClaimKeeper", functools.partial(ClaimKeeper, holds_s=float(holds_s))).start()
    run_with_fakes.run(evidence, flags)


if __name__ == "__main__":
    main()
