"""Checks of the shipped Compose files: all services as they stand there, requests, a killed cell, and what is left."""

from __future__ import annotations

import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
from openai import APIStatusError
from openai.types.chat import ChatCompletionMessageParam

from tests.container.checks import check
from tests.container.compose import started
from tests.container.image_build import build
from tests.container.podman import Container, eventually, podman
from tests.container.services import MODEL, READY_S, Fleet, Services

# Those that the seed of docker/compose.cells.yaml stores: as many as there are cells.
LOGINS = ["ada", "grace", "user1"]
FETCH = """
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers={"authorization": sys.argv[2]}))
except urllib.error.HTTPError as error:
    answer = error
print(answer.read().decode())
"""
ASK_ETCD = """
import os, ssl, urllib.request
context = ssl.create_default_context(cafile=os.environ["CLAIMS_CA_FILE"])
for certificate in (False, True):
    if certificate:
        context.load_cert_chain(os.environ["CLAIMS_CERT_FILE"], os.environ["CLAIMS_KEY_FILE"])
    try:
        print(urllib.request.urlopen(os.environ["CLAIMS_URL"] + "/version", context=context, timeout=10).status)
    except OSError:
        print("refused")
"""


@check("the trial of docker/compose.yaml starts unchanged: site, S3, seed and fleet; a request is answered")
def compose_trial(_: Services) -> None:
    with started("docker/compose.yaml", "tabfleettrial", "trial") as project:
        fleet = Fleet(project.container("trial"), project.url, "sk-trial")
        fleet.wait_ready(2)
        ask(fleet, "hello from compose")


@check(
    "docker/compose.cells.yaml starts unchanged; a cell is killed at work, others serve its logins, and it comes back"
)
def compose_cells(_: Services) -> str:
    build("docker/Dockerfile.cells", "tabfleet-trial-cells")
    with started("docker/compose.cells.yaml", "tabfleetcells") as project:
        cells = [Cell(project.container(name)) for name in project.services if name.startswith("cell-")]
        wait_until_spread(cells)
        for service in (name for name, given in project.services.items() if "healthcheck" in given):
            assert project.container(service).healthcheck(), service
        found = {path: status(project.url + path) for path in ("/", "/ready", "/metrics", "/v1/models")}
        assert found == {"/": 404, "/ready": 404, "/metrics": 404, "/v1/models": 401}
        check_certificates(cells[0].container)
        key = project.container("s3").exec("cat", "/run/tabfleet/api-key").strip()
        fleet = Fleet(project.container("balancer"), project.url, key)
        ask(fleet, "hello from three cells")
        dead = kill_at_work(fleet, cells)
        began = time.monotonic()
        left = [cell for cell in cells if cell is not dead]
        eventually(
            lambda: logins_of(left) == LOGINS,
            timeout_s=READY_S,
            what="all logins in two cells",
            now=lambda: shown(left),
        )
        took_s = time.monotonic() - began
        assert dead.container.state()["Status"] == "exited"
        for number in range(2 * len(LOGINS)):
            ask(fleet, f"hello from two cells {number}")
        bring_back(dead, fleet, cells)
        return f"the others had its login after {took_s:.0f} s"


def kill_at_work(fleet: Fleet, cells: Sequence[Cell]) -> Cell:
    """Kill the cell that answers a prompt, and return it. Check that the caller is told not to repeat the request."""
    with ThreadPoolExecutor(1) as pool:
        broken = pool.submit(ask, fleet, "its cell is killed [[tokens=600 delay_ms=1000]]")
        (dead,) = eventually(
            lambda: [cell for cell in cells if cell.at_work(fleet.key)], timeout_s=READY_S, what="a cell at work"
        )
        dead.container.signal("KILL")
        error = broken.exception(timeout=READY_S)
    assert isinstance(error, APIStatusError), error
    assert (error.status_code, error.response.headers["x-should-retry"]) == (502, "false")
    return dead


def bring_back(dead: Cell, fleet: Fleet, cells: Sequence[Cell]) -> None:
    """Start a killed cell again, and check that it gets a login, and requests by the balancer.

    It has another address now: nginx has to learn it, without breaking an answer off.
    """

    def reached() -> bool:
        ask(fleet, f"hello again {uuid.uuid4()}")
        return dead.answered(fleet.key)

    with ThreadPoolExecutor(1) as pool:
        whole = pool.submit(ask, fleet, "nginx reads its configuration meanwhile [[tokens=24 delay_ms=500]]")
        podman("start", dead.container.name)
        wait_until_spread(cells)
        eventually(reached, timeout_s=READY_S, what="a request in the cell that came back")
        whole.result(timeout=READY_S)


@dataclass(frozen=True)
class Cell:
    """A cell of docker/compose.cells.yaml, asked from inside its container, because no port of it is published."""

    container: Container

    def fetch(self, path: str, key: str = "") -> str:
        """Return the body of a route, whatever its status; "" if nothing answers."""
        url, header = f"http://127.0.0.1:2048{path}", f"Bearer {key}"
        return self.container.exec("python", "-c", FETCH, url, header, check=False)

    def ready(self) -> dict[str, Any]:
        """Return the body of `/ready`; {} if nothing answers."""
        found: dict[str, Any] = json.loads(self.fetch("/ready") or "{}")
        return found

    def logins(self) -> list[str]:
        """Return the logins that are READY here."""
        return [child["name"] for child in self.ready().get("children", []) if child["state"] == "READY"]

    def at_work(self, key: str) -> bool:
        """Return whether a page of this cell answers a request."""
        return self._sum("tabfleet_leases_held", key) > 0

    def answered(self, key: str) -> bool:
        """Return whether this cell has answered a request since its start."""
        return self._sum("tabfleet_requests_total", key) > 0

    def _sum(self, metric: str, key: str) -> float:
        lines = [line for line in self.fetch("/metrics", key).splitlines() if re.match(rf"{metric}[ {{]", line)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


def logins_of(cells: Iterable[Cell]) -> list[str]:
    """Return the logins that are READY, each as often as it is."""
    return sorted(login for cell in cells for login in cell.logins())


def wait_until_spread(cells: Sequence[Cell]) -> None:
    """Wait until each of as many cells as there are logins serves one of them."""

    def spread() -> bool:
        found = [cell.logins() for cell in cells]
        return all(len(logins) == 1 for logins in found) and sorted(login for (login,) in found) == LOGINS

    eventually(spread, timeout_s=READY_S, what="a login in each cell", now=lambda: shown(cells))


def shown(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Return what the cells say about themselves, for the message of a failure."""
    return [cell.ready() for cell in cells]


def check_certificates(cell: Container) -> None:
    """Check that etcd answers those who have the cells' certificate, and nobody else."""
    assert cell.exec("python", "-c", ASK_ETCD).split() == ["refused", "200"]


def ask(fleet: Fleet, prompt: str) -> None:
    """Send a prompt, and check that the answer is the site's to this prompt. The answer is not streamed."""
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": prompt}]
    answer = fleet.client().chat.completions.create(model=MODEL, messages=messages, timeout=READY_S)
    text = answer.choices[0].message.content or ""
    assert hashlib.sha256(prompt.encode()).hexdigest() in text, text


def status(url: str) -> int:
    """Return the status of a GET request."""
    return httpx.get(url, timeout=10, trust_env=False).status_code
