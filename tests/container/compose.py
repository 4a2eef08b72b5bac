"""Run a Compose file of this checkout with podman-compose, in the order and under the conditions that it gives.

Only the order is kept here: podman 4.3 cannot start a container whose dependency has exited, and without systemd it
runs no health checks by itself. Commands, mounts, users and networks are as podman-compose reads them from the file.

The fields: https://github.com/compose-spec/compose-spec/blob/main/05-services.md
"""

from __future__ import annotations

import contextlib
import graphlib
import os
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.container.podman import MARK, ROOT, Container, eventually, podman, run, say
from tests.container.services import READY_S

PROGRAM = ROOT / ".cache" / "container" / "tools" / "bin" / "podman-compose"
COMPLETED, HEALTHY, STARTED = "service_completed_successfully", "service_healthy", "service_started"


class Project:
    """The services of a Compose file: all that have no profile, or those of one profile."""

    def __init__(self, file: str, name: str, profile: str = "") -> None:
        self.name = f"{name}{MARK}"
        self.port = free_port()
        services: dict[str, Any] = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["services"]
        self.services = {key: value for key, value in services.items() if profile in value.get("profiles", [""])}
        chosen = [f"--profile={profile}"] if profile else []
        self._command = [str(PROGRAM), "--in-pod=0", "-f", str(ROOT / file), "-p", self.name, *chosen]
        # podman-compose resolves the seccomp path from its working directory, Docker Compose from the file's folder.
        seccomp = f"{ROOT}/docker/seccomp.json"
        self._environment = {**os.environ, "TABFLEET_SECCOMP": seccomp, "TABFLEET_PORT": str(self.port)}

    @property
    def url(self) -> str:
        """Return the address that the file publishes."""
        return f"http://127.0.0.1:{self.port}"

    def compose(self, *arguments: str) -> None:
        """Run podman-compose. Raise AssertionError with its output if it fails."""
        command = [*self._command, *arguments]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=READY_S, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def container(self, service: str) -> Container:
        """Return the container of a service."""
        return Container(f"{self.name}_{service}_1")

    def start(self) -> None:
        """Start all services, each once the conditions of its `depends_on` hold."""
        needs = {name: conditions(service) for name, service in self.services.items()}
        order = graphlib.TopologicalSorter({name: list(need) for name, need in needs.items()})
        order.prepare()
        while order.is_active():
            ready = order.get_ready()
            for name in ready:
                for other, condition in needs[name].items():
                    self._wait(other, condition)
            self.compose("up", "--no-build", "--no-deps", "-d", *ready)
            order.done(*ready)

    def _wait(self, service: str, condition: str) -> None:
        container = self.container(service)
        if condition == COMPLETED:
            assert container.wait_exit(READY_S) == 0, f"{service}: {container.logs()[-2000:]}"
        elif condition == HEALTHY:
            eventually(container.healthcheck, timeout_s=READY_S, what=f"health of {service}", now=container.logs)
        else:
            assert condition == STARTED, condition

    def stop(self) -> None:
        """Stop all services, each within its own grace period, and check that they have ended with exit code 0.

        The S3 server is left out: while it waits for its clients it is sometimes killed.
        """
        self.compose("stop")
        asked = [service for service in self.services if not service.endswith("s3")]
        codes = {service: self.container(service).state()["ExitCode"] for service in asked}
        assert codes == dict.fromkeys(asked, 0), codes


def existing() -> set[str]:
    """Return the names of all containers, networks and volumes."""
    names = podman("ps", "--all", "--format={{.Names}}")
    names += podman("network", "ls", "--format={{.Name}}")
    return set((names + podman("volume", "ls", "--format={{.Name}}")).split())


def conditions(service: dict[str, Any]) -> dict[str, str]:
    """Return the services that this one depends on, with the condition of each."""
    given = service.get("depends_on", {})
    if isinstance(given, list):
        return dict.fromkeys(given, STARTED)
    return {name: entry["condition"] for name, entry in given.items()}


@contextlib.contextmanager
def started(file: str, name: str, profile: str = "") -> Iterator[Project]:
    """Run the services while the context lasts. If the block fails, print the ends of their logs.

    After a block that passes, all must stop in order, and `down -v` must leave nothing.
    """
    before = existing()
    project = Project(file, name, profile)
    try:
        project.start()
        yield project
        project.stop()
    except BaseException:
        for service in project.services:
            done = run("logs", project.container(service).name)
            say(f"{service}: {(done.stdout + done.stderr)[-1500:]}")
        raise
    finally:
        project.compose("down", "-v", "-t", "5")
    assert existing() == before, existing() ^ before


def free_port() -> int:
    """Return a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
