"""`python -m tests.chaos`: thousands of requests, a fault every moment, and a table that has to hold."""

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

from tests.chaos import course
from tests.chaos.course import Outcome, Plan
from tests.chaos.fake_world import FakeWorld
from tests.chaos.fleet import ChaosFailed
from tests.chaos.real_world import real_world
from tests.chaos.report import is_good, show
from tests.chaos.sources import LocalSource, Source, s3_source
from tests.chaos.world import World


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0 if the table is good, 1 if not, 2 for a wrong option."""
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
        return 0 if is_good(outcome) else _keep_log(Path(folder), console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--requests", type=int, metavar="N", help="how many requests (5,000; real 500; short 400)")
    parser.add_argument("--seconds", type=float, default=0, metavar="S", help="make no more of them after S seconds")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32), help="of requests and faults")
    parser.add_argument("--real", action="store_true", help="Chromium and the demo site in place of fake children")
    parser.add_argument("--short", action="store_true", help="the form for `make test`: fewer, and no S3")
    return parser


async def _run(options: argparse.Namespace, folder: Path, console: Console) -> Outcome:
    plan = _plan(options)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with _world(options, folder) as world:
        with Progress(*columns, console=console, transient=not console.is_terminal) as progress:
            task = progress.add_task("chaos", total=plan.requests)
            return await course.run(world, plan, lambda done: progress.update(task, completed=done))


def _plan(options: argparse.Namespace) -> Plan:
    short, real = options.short, options.real
    return Plan(
        requests=options.requests or (20 if real else 400) if short else options.requests or (500 if real else 5000),
        seconds=options.seconds,
        seed=options.seed,
        clients=6 if real else 60 if short else 24,
        fault_every_s=3.0 if real else 0.5,
        hang_after_s=180.0 if real else 60.0,
        patient=not short,
    )


@contextlib.asynccontextmanager
async def _world(options: argparse.Namespace, folder: Path) -> AsyncIterator[World]:
    async with _source(options, folder) as source:
        if options.real:
            async with real_world(folder, source, children=2) as browsers:
                yield browsers
            return
        world = FakeWorld(folder, source, children=6 if options.short else 8, hasty=options.short)
        await world.prepare()
        yield world


@contextlib.asynccontextmanager
async def _source(options: argparse.Namespace, folder: Path) -> AsyncIterator[Source]:
    if options.short:
        yield LocalSource(folder / "profiles")
        return
    async with s3_source(folder) as source:
        yield source


def _keep_log(folder: Path, console: Console) -> int:
    """Save what explains a failure from being deleted."""
    log = folder / "coordinator.log"
    if log.exists():
        kept = Path(tempfile.gettempdir()) / f"{folder.name}.log"
        kept.write_bytes(log.read_bytes())
        console.print(f"the coordinator's log: {kept}", markup=False, highlight=False)
    return 1


if __name__ == "__main__":
    sys.exit(main())
