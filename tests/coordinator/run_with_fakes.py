"""`python -m coordinator.main` with fake children: FOLDER takes their evidence, the rest are its own flags."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from contract.output import flush_output
from coordinator.main import main

FAKE_CHILD = Path(__file__).with_name("fake_child.py")


def run(evidence: str, flags: Sequence[str]) -> NoReturn:
    """Run the coordinator with fake children that leave their evidence in this folder, and exit as it does."""
    program = ("env", f"FAKE_CHILD_DIR={evidence}", sys.executable, str(FAKE_CHILD))
    code = main(flags, program=program)
    flush_output()
    sys.exit(code)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2:])
