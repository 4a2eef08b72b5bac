"""Find the Chromium of this system, which the demo logs its users in with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from demo.errors import ChromiumMissing

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str:
    """Return the path of Chromium: `BROWSER_EXECUTABLE`, or the first of NAMES on PATH.

    Raise ChromiumMissing if there is none.
    """
    if given := os.environ.get("BROWSER_EXECUTABLE"):
        if not os.access(given, os.X_OK) or not Path(given).is_file():
            raise ChromiumMissing(f"BROWSER_EXECUTABLE is {given!r}, which is not an executable file")
        return given
    for name in NAMES:
        if found := shutil.which(name):
            return found
    raise ChromiumMissing(
        f"no browser: none of {', '.join(NAMES)} is on PATH."
        " Run `make setup`, or set BROWSER_EXECUTABLE to a Chromium executable"
    )


def chromium_arguments() -> list[str]:
    """Return command line flags without GPU, QUIC and background traffic; as root also without the sandbox."""
    quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync"]
    # Chromium refuses to run its sandbox as root.
    return [*quiet, "--no-sandbox"] if os.geteuid() == 0 else quiet
