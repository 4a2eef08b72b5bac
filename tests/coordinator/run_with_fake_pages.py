"""`python -m coordinator.main`, real children over pages without a browser: FOLDER is theirs, the rest are flags."""

from __future__ import annotations

import sys

from contract.output import flush_output
from coordinator.main import main

if __name__ == "__main__":
    folder, flags = sys.argv[1], sys.argv[2:]
    code = main(flags, program=("env", f"FAKE_PAGES_DIR={folder}", sys.executable, "-m", "tests.api.fake_pages"))
    flush_output()
    sys.exit(code)
