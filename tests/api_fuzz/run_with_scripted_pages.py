"""`python -m coordinator.main` whose children are the real child's program without a browser; takes its flags."""

from __future__ import annotations

import sys
from pathlib import Path

from contract.output import flush_output
from coordinator.main import main

SCRIPTED_CHILD = Path(__file__).with_name("scripted_child.py")

if __name__ == "__main__":
    # The first argument is the folder for evidence of other fakes; these leave none.
    code = main(sys.argv[2:], program=(sys.executable, str(SCRIPTED_CHILD)))
    flush_output()
    sys.exit(code)
