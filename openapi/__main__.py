"""Write the document to where the coordinator serves it from, or to the file that is named."""

from __future__ import annotations

import sys
from pathlib import Path

from openapi.document import FILE, text

if __name__ == "__main__":
    (Path(sys.argv[1]) if sys.argv[1:] else FILE).write_text(text(), encoding="utf-8")
