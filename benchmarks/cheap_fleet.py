"""The real coordinator before children that cost next to nothing, as a process of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.load import KEY

START_S = 30.0
STOP_S = 30.0


@contextlib.contextmanager
def cheap_fleet(  # noqa: PLR0913 - all by keyword
    folder: Path,
    *,
    port: int,
    child_port: int,
    children: int,
    frugal: bool = False,
    probe_interval_s: float = 1.0,
    start_s: float = START_S,
) -> Iterator[subprocess.Popen[bytes]]:
    """A coordinator on `port` whose children are all READY; they take 2 * `children` ports from `child_port` on.

    Raises RuntimeError if they are not within start_s seconds. `frugal`: children of which a thousand fit.
    """
    (folder / "active").mkdir(parents=True)
    for number in range(children):
        cookie = {"name": "sid", "value": f"login {number}", "domain": "localhost", "path": "/"}
        (folder / f"active/{number:04}.json").write_text(json.dumps({"cookies": [cookie], "origins": []}))
    (folder / "key.txt").write_text(f"{KEY}\n")
    flags = {
        "--profiles": folder / "active",
        "--site": "demo",
        "--engine": "chromium",
        "--browser-executable": sys.executable,
        "--coordinator-port": port,
        "--base-api-port": child_port,
        "--base-stream-port": child_port + children,
        "--probe-interval-s": probe_interval_s,
    }
    words = [*(["--frugal"] if frugal else []), *(str(word) for item in flags.items() for word in item)]
    environment = {"PATH": search_path(), "AUTH_KEY_FILE_PATH": str(folder / "key.txt"), "TMPDIR": str(folder)}
    log = folder / "coordinator.log"
    with process([sys.executable, "-m", "benchmarks.run_coordinator", *words], log, environment) as running:
        wait_for(lambda: _ready_children(port) == children, running, log, timeout_s=start_s)
        yield running


@contextlib.contextmanager
def process(command: list[str], log: Path, environment: dict[str, str] | None) -> Iterator[subprocess.Popen[bytes]]:
    """A program with its output in a file; ended with TERM, and with KILL where that does not do."""
    with log.open("wb") as output:
        running = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(STOP_S)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            raise


def search_path() -> str:
    """PATH with our own programs first, and with those that only root needs."""
    return f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def wait_for(
    seen: Callable[[], bool], running: subprocess.Popen[bytes], log: Path, *, timeout_s: float = START_S
) -> None:
    """Look until something is seen. Raises RuntimeError, with the log's end, if the process ends or takes too long."""
    deadline = time.monotonic() + timeout_s
    while not seen():
        if running.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"process {running.pid} did not come up: {log.read_text()[-2000:]}")
        time.sleep(0.05)


def _ready_children(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as response:
            return sum(child["state"] == "READY" for child in json.load(response)["children"])
    except OSError:
        return 0
