"""One child as the coordinator starts it, but by hand."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.watching import Asker, until
from browser.settings import EngineName
from tests.e2e.fleet import ROOT, end
from tests.support.ports import free_range


@dataclass(frozen=True)
class Alone:
    """A child that is ready: its process, and the seconds from that to its `/ready`."""

    pid: int
    took_s: float


@contextlib.contextmanager
def child_alone(site: str, url: str, login: Path, engine: EngineName = "chromium", **more: str) -> Iterator[Alone]:
    """Run `launch_camoufox.py` on a site at this address until the context ends; `more` environment. Raises Timeout."""
    port = free_range(2)
    command = [sys.executable, "launch_camoufox.py", "--headless", "--site", site, "--engine", engine]
    command += ["--server-port", str(port), "--stream-port", str(port + 1), "--active-auth-json", str(login)]
    environment = {**os.environ, "SITE_URL": url, "LOG_LEVEL": "error", **more}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    began = time.monotonic()
    try:
        with contextlib.closing(Asker(port)) as child:
            until(lambda: child.ask()[0] == 200, "a child alone ready")
            took_s = time.monotonic() - began
        yield Alone(process.pid, took_s)
    finally:
        end(process)
