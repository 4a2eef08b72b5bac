"""`python -m tests.api_fuzz`: at least 3,000 random requests over the OpenAPI document, and what may not happen."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
from pathlib import Path

from tests.api_fuzz.run import Plan, fleet, fuzz, served_document


async def _main(plan: Plan) -> int:
    with tempfile.TemporaryDirectory(prefix="api-fuzz-", ignore_cleanup_errors=True) as folder:
        async with fleet(Path(folder)) as running:
            outcome = await fuzz(running, await served_document(running), plan)
    sys.stdout.write(
        f"{outcome.report}\nseed {plan.seed}: {outcome.cases} cases, {outcome.answered} answers of a page\n"
    )
    sys.stdout.write("".join(f"{problem}\n" for problem in outcome.problems))
    return bool(outcome.problems)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.api_fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=100, metavar="N", help="random requests of an operation (100)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32), help="of the random requests")
    options = parser.parse_args()
    sys.exit(asyncio.run(_main(Plan(options.examples, options.seed))))
