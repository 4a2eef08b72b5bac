"""The coordinator with cheap children, otherwise as `python -m coordinator.main` runs it."""

from __future__ import annotations

import sys
from pathlib import Path

from coordinator.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], program=(sys.executable, str(Path(__file__).with_name("cheap_child.py")))))
