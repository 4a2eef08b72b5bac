"""`python -m coordinator.main` with fake children: FOLDER takes their evidence, the rest are its own flags."""

from __future__ import annotations

import sys
from pathlib import Path

from coordinator.main import main

FAKE_CHILD = Path(__file__).with_name("fake_child.py")

if __name__ == "__main__":
    evidence, *flags = sys.argv[1:]
    program = ("env", f"FAKE_CHILD_DIR={evidence}", sys.executable, str(FAKE_CHILD))
    sys.exit(main(flags, program=program))
