"""The browser people log in with in the demo: the system's own Chromium."""

import os
import shutil
from pathlib import Path

from demo.errors import ChromiumMissing

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str:
    """Return the path of Chromium: `BROWSER_EXECUTABLE`, or the first of the usual names on PATH.

    Raises ChromiumMissing.
    """
    if given := os.environ.get("BROWSER_EXECUTABLE"):
        if not os.access(given, os.X_OK) or not Path(given).is_file():
            raise ChromiumMissing(f"BROWSER_EXECUTABLE is {given!r}, which is not a program that may be run")
        return given
    for name in NAMES:
        if found := shutil.which(name):
            return found
    raise ChromiumMissing(
        f"no browser: none of {', '.join(NAMES)} is on PATH. Run `make setup`, or name one in BROWSER_EXECUTABLE"
    )


def chromium_arguments() -> list[str]:
    """Return the flags for a quiet Chromium; as root it runs only without its sandbox."""
    quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync"]
    return [*quiet, "--no-sandbox"] if os.geteuid() == 0 else quiet
