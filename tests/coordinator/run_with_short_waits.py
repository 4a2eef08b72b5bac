"""As run_with_fakes, but site files are looked at, and what is found in a page is confirmed, ten times as soon."""

from __future__ import annotations

import sys

from coordinator.supervision import canary, site_reload
from tests.coordinator.run_with_fakes import run

if __name__ == "__main__":
    site_reload.LOOK_S /= 10  # type: ignore[misc]
    canary.CONFIRM_AFTER_S /= 10  # type: ignore[misc]
    run(sys.argv[1], sys.argv[2:])
