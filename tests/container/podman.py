"""Podman, as far as these tests need it. How it is configured is scripts/container-lib.sh's business."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
# Names of networks are the machine's, not the checkout's: they are file names of its DNS server.
MARK = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
NETWORK = f"tabfleet-{MARK}"
TIMEOUT_S = 120.0
FAILED_LOG = ROOT / ".cache" / "container" / "failed.log"
# Without systemd podman cannot schedule health checks; they are run one by one.
UNSCHEDULED = ("--health-interval", "disable")


class PodmanFailed(AssertionError):
    """A podman command ended with another exit code than 0; the message has its output."""


def podman(*arguments: str, check: bool = True, timeout_s: float = TIMEOUT_S, stdin: str = "") -> str:
    """Run podman and return its output. Raises PodmanFailed."""
    done = run(*arguments, timeout_s=timeout_s, stdin=stdin)
    if check and done.returncode != 0:
        raise PodmanFailed(f"podman {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def run(*arguments: str, timeout_s: float = TIMEOUT_S, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run podman and return what became of it."""
    command = ["podman", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)


def say(line: str) -> None:
    """Show a line of progress at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def eventually(look: Callable[[], T], *, timeout_s: float, what: str, now: Callable[[], object] = str) -> T:
    """Look again and again until something true is seen; fails after timeout_s seconds and says what is seen `now`."""
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s; {now()}"
        time.sleep(0.05)
    return seen


@dataclass(frozen=True)
class Container:
    """A container by its name."""

    name: str

    def exec(self, *command: str, check: bool = True, timeout_s: float = TIMEOUT_S) -> str:
        return podman("exec", self.name, *command, check=check, timeout_s=timeout_s)

    def logs(self) -> str:
        """Everything it has printed, both streams."""
        done = run("logs", self.name)
        return done.stdout + done.stderr

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(podman("inspect", self.name))[0]["State"]
        return found

    def port(self, inside: int) -> int:
        """The port on loopback that leads to this one inside; 0 when the container has ended."""
        return int(podman("port", self.name, f"{inside}/tcp", check=False).strip().rpartition(":")[2] or 0)

    def signal(self, name: str) -> None:
        podman("kill", "--signal", name, self.name)

    def wait_exit(self, timeout_s: float) -> int:
        """Wait for its end and return the exit code."""
        eventually(lambda: self.state()["Status"] == "exited", timeout_s=timeout_s, what=f"end of {self.name}")
        return int(self.state()["ExitCode"])

    def healthcheck(self) -> bool:
        """Run the image's health check once; whether it passes."""
        return run("healthcheck", "run", self.name).returncode == 0


@contextlib.contextmanager
def running(
    image: str,
    *command: str,
    name: str,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Container]:
    """A container, until the end of the block. The end of what it printed is shown when the block fails."""
    variables = [f"--env={key}={value}" for key, value in (environment or {}).items()]
    network = () if any(option.startswith("--network=") for option in options) else (f"--network={NETWORK}",)
    start = ("run", "--detach", "--name", name, *network, *UNSCHEDULED)
    podman("rm", "--force", "--ignore", "--time", "0", name)
    podman(*start, *variables, *options, image, *command)
    container = Container(name)
    try:
        yield container
    except BaseException:
        whole = container.logs()
        FAILED_LOG.write_text(whole, encoding="utf-8")
        for line in whole.splitlines()[-25:]:
            say(f"    | {line[:300]}")
        say(f"    (all of it: {FAILED_LOG})")
        raise
    finally:
        podman("rm", "--force", "--time", "0", name, check=False)
