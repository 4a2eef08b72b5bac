"""Run podman, which scripts/container-lib.sh configures."""

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
# Network names are shared by the whole machine: the DNS server uses them as file names.
MARK = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
NETWORK = f"tabfleet-{MARK}"
TIMEOUT_S = 120.0
FAILED_LOG = ROOT / ".cache" / "container" / "failed.log"
# Without systemd, podman cannot schedule health checks; the checks run them one by one.
UNSCHEDULED = ("--health-interval", "disable")


class PodmanFailed(AssertionError):
    """A podman command failed; the message has its output."""


def podman(*arguments: str, check: bool = True, timeout_s: float = TIMEOUT_S, stdin: str = "") -> str:
    """Run podman and return its stdout. Raise PodmanFailed if it fails."""
    done = run(*arguments, timeout_s=timeout_s, stdin=stdin)
    if check and done.returncode != 0:
        raise PodmanFailed(f"podman {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def run(*arguments: str, timeout_s: float = TIMEOUT_S, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run podman and return the completed process."""
    command = ["podman", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)


def say(line: str) -> None:
    """Print a line and flush."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def eventually(look: Callable[[], T], *, timeout_s: float, what: str, now: Callable[[], object] = str) -> T:
    """Poll `look` until it returns something true; fail after timeout_s seconds, with the result of `now`."""
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s; {now()}"
        time.sleep(0.05)
    return seen


@dataclass(frozen=True)
class Container:
    """A container, by name."""

    name: str

    def exec(self, *command: str, check: bool = True, timeout_s: float = TIMEOUT_S) -> str:
        """Run a command in the container and return its stdout. Raise PodmanFailed if it fails."""
        return podman("exec", self.name, *command, check=check, timeout_s=timeout_s)

    def logs(self) -> str:
        """Return stdout and stderr of the container."""
        done = run("logs", self.name)
        return done.stdout + done.stderr

    def state(self) -> dict[str, Any]:
        """Return `State` of `podman inspect`."""
        found: dict[str, Any] = json.loads(podman("inspect", self.name))[0]["State"]
        return found

    def port(self, inside: int) -> int:
        """Return the loopback port published for a container port; 0 if the container has exited."""
        return int(podman("port", self.name, f"{inside}/tcp", check=False).strip().rpartition(":")[2] or 0)

    def signal(self, name: str) -> None:
        """Send a signal to the container's PID 1."""
        podman("kill", "--signal", name, self.name)

    def wait_exit(self, timeout_s: float) -> int:
        """Wait for the container to exit, and return the exit code."""
        eventually(lambda: self.state()["Status"] == "exited", timeout_s=timeout_s, what=f"end of {self.name}")
        return int(self.state()["ExitCode"])

    def healthcheck(self) -> bool:
        """Run the health check once, and return whether it passes."""
        return run("healthcheck", "run", self.name).returncode == 0


@contextlib.contextmanager
def running(
    image: str,
    *command: str,
    name: str,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Container]:
    """Run a container while the context lasts. If the block fails, print the end of the container's log."""
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
        say(f"    (full log: {FAILED_LOG})")
        raise
    finally:
        podman("rm", "--force", "--time", "0", name, check=False)
