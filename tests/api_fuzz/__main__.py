"""`python -m tests.api_fuzz`: at least 3,000 random requests over the OpenAPI document, and what may not happen."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
from pathlib import Path

from tests.api_fuzz.run import Plan, run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.api_fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=300, metavar="N", help="random requests of an operation (300)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32), help="of the random requests")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="api-fuzz-", ignore_cleanup_errors=True) as folder:
        outcome = asyncio.run(run(Path(folder), Plan(options.examples, options.seed)))
        sys.stdout.write(
            f"{outcome.report}\nseed {options.seed}: {outcome.cases} cases, {outcome.answered} answers of the page\n"
        )
        sys.stdout.write("".join(f"{problem}\n" for problem in outcome.problems))
    sys.exit(bool(outcome.problems))
