"""Run one real child without a coordinator."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process_events import ReadinessClient, wait_until
from browser.settings import EngineName
from tests.e2e.fleet import ROOT, end
from tests.support.ports import free_range


@dataclass(frozen=True)
class StandaloneChild:
    """A ready child: its process, and the seconds from the start of the process until its `/ready` returned 200."""

    pid: int
    took_s: float


@contextlib.contextmanager
def standalone_child(
    site: str,
    url: str,
    login: Path,
    engine: EngineName = "chromium",
    *,
    program: Sequence[str] = ("launch_camoufox.py",),
    **more: str,
) -> Iterator[StandaloneChild]:
    """Run a child on the site at `url` while the context lasts, with `more` environment variables.

    `program` is what Python runs for it.

    Raise WaitTimeout if it does not become ready.
    """
    port = free_range(2)
    command = [sys.executable, *program, "--headless", "--site", site, "--engine", engine]
    command += ["--server-port", str(port), "--stream-port", str(port + 1), "--active-auth-json", str(login)]
    environment = {**os.environ, "SITE_URL": url, "LOG_LEVEL": "error", **more}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    began = time.monotonic()
    try:
        with contextlib.closing(ReadinessClient(port)) as child:
            wait_until(lambda: child.get()[0] == 200, "the child's /ready to return 200")
            took_s = time.monotonic() - began
        yield StandaloneChild(process.pid, took_s)
    finally:
        end(process)
