"""Run the real coordinator, as a process of its own, with stub children."""

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
from benchmarks.tiny_stub_child import PROGRAM

START_S = 30.0
STOP_S = 30.0


@contextlib.contextmanager
def stub_fleet(  # noqa: PLR0913 - all by keyword
    folder: Path,
    *,
    port: int,
    child_port: int,
    children: int,
    tiny: bool = False,
    probe_interval_s: float = 1.0,
    start_s: float = START_S,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a coordinator on `port` while the context lasts; yield its process once all children are READY.

    The children use 2 * `children` ports from `child_port` on. `tiny` selects benchmarks/tiny_stub_child.py, with one
    process that answers for all. Raise RuntimeError if they are not READY within start_s seconds.
    """
    write_logins(folder, children)
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
    served_by = folder / "stub.sock"
    kind = ["--tiny", "--served-by", str(served_by)] if tiny else []
    arguments = [*kind, *(str(word) for item in flags.items() for word in item)]
    environment = {"PATH": search_path(), "AUTH_KEY_FILE_PATH": str(folder / "key.txt"), "TMPDIR": str(folder)}
    log = folder / "coordinator.log"
    command = [sys.executable, "-m", "benchmarks.coordinator_with_stub_children", *arguments]
    with contextlib.ExitStack() as stack:
        if tiny:
            stub_log = folder / "stub.log"
            stub = stack.enter_context(run_process([*PROGRAM, "--serve", str(served_by)], stub_log, None))
            wait_for(served_by.exists, stub, stub_log)
        running = stack.enter_context(run_process(command, log, environment))
        wait_for(lambda: _ready_children(port) == children, running, log, timeout_s=start_s)
        yield running


def write_logins(folder: Path, count: int) -> None:
    """Write so many profiles to active/ in this folder, and the key of `benchmarks.load` to key.txt."""
    (folder / "active").mkdir(parents=True)
    for number in range(count):
        cookie = {"name": "sid", "value": f"login {number}", "domain": "localhost", "path": "/"}
        (folder / f"active/{number:04}.json").write_text(json.dumps({"cookies": [cookie], "origins": []}))
    (folder / "key.txt").write_text(f"{KEY}\n")


@contextlib.contextmanager
def run_process(command: list[str], log: Path, environment: dict[str, str] | None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program while the context lasts, its output in `log`; stop it by SIGTERM, after STOP_S by SIGKILL.

    Raise TimeoutExpired if SIGKILL was needed.
    """
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
    """Return a PATH with this environment's programs first, and with the sbin folders."""
    return f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def wait_for(
    condition: Callable[[], bool], running: subprocess.Popen[bytes], log: Path, *, timeout_s: float = START_S
) -> None:
    """Poll until `condition` holds. Raise RuntimeError with the end of the log if the process exits or time is up."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if running.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"process {running.pid} did not become ready: {log.read_text()[-2000:]}")
        time.sleep(0.05)


def _ready_children(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as response:
            return sum(child["state"] == "READY" for child in json.load(response)["children"])
    except OSError:
        return 0
