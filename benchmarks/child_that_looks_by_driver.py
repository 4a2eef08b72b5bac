"""`launch_camoufox.py`, but every look at the page goes through Playwright's driver: the peer of `benchmarks.looks`."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from browser.capture.capture import Capture

if __name__ == "__main__":
    capture: Any = Capture
    capture.has_look_channels = False
    launch: Any = importlib.import_module("launch_camoufox")
    sys.exit(launch.main())
