"""Start of a container: from exec to the first child, with 20 profiles that are in the cache already.

Compared with a start from a local folder, phase by phase, which shows the cost of S3.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks.hydration import PREFIX, profile
from benchmarks.report import Compared, Result
from tests.support.ports import free_range
from tests.support.s3 import BUCKET, s3_server

ROOT = Path(__file__).resolve().parents[1]
PROFILES = 20
ROUNDS = 9
ONLY_S3 = ("S3 client", "S3 listing")


def run(console: Console) -> Result:
    """Measure both starts in turn, round by round."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "local").mkdir()
        (folder / "server").mkdir()
        for number in range(PROFILES):
            (folder / "local" / f"profile{number:02}.json").write_bytes(profile(number))
        with s3_server(folder / "server") as server:
            server.upload({f"{PREFIX}/active/{path.name}": path.read_bytes() for path in (folder / "local").iterdir()})
            from_s3 = {
                **server.credentials(),
                "PROFILE_BACKEND": "s3",
                "AUTH_PROFILE_S3_BUCKET": BUCKET,
                "AUTH_PROFILE_S3_PREFIX": PREFIX,
                "AUTH_PROFILE_CACHE_DIR": str(folder / "cache"),
            }
            from_folder = {"PROFILE_BACKEND": "local", "LOCAL_PROFILE_DIR": str(folder / "local")}
            _start(from_s3)
            console.print(f"start: {ROUNDS} rounds", style="dim")
            starts = [(_start(from_s3), _start(from_folder)) for _ in range(ROUNDS)]
    ours, local = ([start[side] for start in starts] for side in (0, 1))
    return _result(_medians(ours), _medians(local))


def _result(s3: dict[str, float], local: dict[str, float]) -> Result:
    parts = [part for part in s3 if part not in (*ONLY_S3, "total")]
    rows = [
        Compared(what, "ms", s3[part] * 1e3, "a local folder", local[part] * 1e3)
        for what, part in [("from exec to the first child", "total"), *((f"of which {part}", part) for part in parts)]
    ]
    only = ", ".join(f"{part} {s3[part] * 1e3:.1f} ms" for part in ONLY_S3)
    title = f"Start of a container with {PROFILES} profiles cached (medians of {ROUNDS})"
    return Result(title, rows, [f"only with S3: {only}"])


def _medians(starts: list[dict[str, float]]) -> dict[str, float]:
    return {part: median(start.get(part, 0.0) for start in starts) for part in starts[0]}


def _start(settings: dict[str, str]) -> dict[str, float]:
    first = free_range(2 * PROFILES + 1)
    environment = {
        "PATH": os.environ["PATH"],
        "CHAT_SITE": "demo",
        "BROWSER_ENGINE": "chromium",
        "BROWSER_EXECUTABLE": sys.executable,
        "MAX_CHILDREN": "2",
        "COORDINATOR_PORT": str(first),
        "BASE_API_PORT": str(first + 1),
        "BASE_STREAM_PORT": str(first + 1 + PROFILES),
        **settings,
        "BENCHMARK_BEGAN": str(time.monotonic()),
    }
    command = [sys.executable, "-m", "benchmarks.coordinator_start"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"the coordinator did not start: {done.stderr[-500:]}")
    took: dict[str, float] = json.loads(done.stdout)
    return took
