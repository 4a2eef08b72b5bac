"""Run Python modules as child processes that Ctrl-C does not reach and that never outlive the demo."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from demo.errors import DemoError

ROOT = Path(__file__).resolve().parent.parent


@asynccontextmanager
async def run_module(
    module: str,
    *arguments: str,
    end_s: float,
    output: IO[bytes] | int,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Process]:
    """Run `python -m module` while the context lasts, with stdout and stderr written to `output`.

    The process has its own session, so that Ctrl-C reaches only the demo, which then stops it in order: SIGTERM, and
    SIGKILL after `end_s` seconds. The kernel kills it if the demo dies first. Raise DemoError without setpriv.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise DemoError("setpriv is not on PATH; install the package util-linux")
    process = await asyncio.create_subprocess_exec(
        *(setpriv, "--pdeathsig", "KILL", "--", sys.executable, "-m", module, *arguments),
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=DEVNULL,
        stdout=output,
        stderr=STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        await _end(process, end_s)


async def _end(process: Process, end_s: float) -> None:
    """Stop the process; if cancelled meanwhile, as by a second Ctrl-C, send SIGKILL at once."""
    try:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError, TimeoutError):
                process.send_signal(signal.SIGTERM)
                await asyncio.wait_for(process.wait(), end_s)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
