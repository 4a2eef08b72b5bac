"""`python -m tests.chaos`: send requests under constant faults, and check that nothing is lost or leaked."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.chaos import runner
from tests.chaos.browser_scenario import browser_scenario
from tests.chaos.fake_scenario import FakeScenario
from tests.chaos.fleet import ChaosFailed
from tests.chaos.profile_sources import LocalSource, Source, s3_source
from tests.chaos.report import passed, show
from tests.chaos.runner import Outcome, Plan
from tests.chaos.scenario import Scenario


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and return the exit code: 0 if every check passes, 1 if not, 2 for an invalid option."""
    options = _parser().parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(f"seed {options.seed}", highlight=False)
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        try:
            outcome = asyncio.run(_run(options, Path(folder), console))
        except ChaosFailed as error:
            console.print(f"chaos failed: {error}", markup=False)
            return _keep_log(Path(folder), console)
        show(outcome, console)
        return 0 if passed(outcome) else _keep_log(Path(folder), console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--requests", type=int, metavar="N", help="number of requests (5000; 500 with --real; 400 with --short)"
    )
    parser.add_argument("--seconds", type=float, default=0, metavar="S", help="start no more requests after S seconds")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(1 << 32), help="random seed of requests and faults"
    )
    parser.add_argument("--real", action="store_true", help="use Chromium and the demo site instead of fake children")
    parser.add_argument(
        "--logins-per-browser", type=int, default=1, metavar="N", help="with --real: logins that share a browser"
    )
    parser.add_argument("--short", action="store_true", help="the form for `make test`: fewer requests, no S3")
    return parser


async def _run(options: argparse.Namespace, folder: Path, console: Console) -> Outcome:
    short, real = options.short, options.real
    default = (20 if real else 400) if short else (500 if real else 5000)
    plan = Plan(
        requests=options.requests or default,
        seconds=options.seconds,
        seed=options.seed,
        clients=6 if real else 60 if short else 24,
        fault_every_s=3.0 if real else 0.5,
        hang_after_s=180.0 if real else 60.0,
        patient=not short,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with _scenario(options, folder) as scenario:
        with Progress(*columns, console=console, transient=not console.is_terminal) as progress:
            task = progress.add_task("chaos", total=plan.requests)
            return await runner.run(scenario, plan, lambda done: progress.update(task, completed=done))


@contextlib.asynccontextmanager
async def _scenario(options: argparse.Namespace, folder: Path) -> AsyncIterator[Scenario]:
    async with _source(options, folder) as source:
        if options.real:
            shared = options.logins_per_browser
            # Two browsers, and a further one for a login that they have no room for.
            children = 2 if shared == 1 else 2 * shared + 1
            async with browser_scenario(folder, source, children=children, logins_per_browser=shared) as browsers:
                yield browsers
            return
        scenario = FakeScenario(folder, source, children=6 if options.short else 8, short=options.short)
        await scenario.prepare()
        yield scenario


@contextlib.asynccontextmanager
async def _source(options: argparse.Namespace, folder: Path) -> AsyncIterator[Source]:
    if options.short:
        yield LocalSource(folder / "profiles")
        return
    async with s3_source(folder) as source:
        yield source


def _keep_log(folder: Path, console: Console) -> int:
    """Copy the log out of the temporary folder, and return exit code 1."""
    log = folder / "coordinator.log"
    if log.exists():
        kept = Path(tempfile.gettempdir()) / f"{folder.name}.log"
        kept.write_bytes(log.read_bytes())
        console.print(f"the coordinator's log: {kept}", markup=False, highlight=False)
    return 1


if __name__ == "__main__":
    sys.exit(main())
