"""docker/compose.cells.yaml run as processes of this machine: its commands and variables, but for addresses and paths.

S3 has keys of the tests' own, and what the image's entry point does with a secret in a file is done here.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.cells.balancers import with_addresses
from tests.e2e.fleet import demo_site, end, eventually, fetch
from tests.support import DIES_WITH_PARENT
from tests.support.ports import free_range
from tests.support.s3 import S3Server, s3_server, secret_of

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker" / "compose.cells.yaml"
CELLS = ("cell-0", "cell-1", "cell-2")
START_S = 120.0


class Compose:
    """The services of the file, with the addresses and paths of this machine in place of theirs."""

    def __init__(self, folder: Path) -> None:
        self.services: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
        self.folder = folder
        self._here = {"./trial/": f"{ROOT}/docker/trial/"}

    def replace(self, text: str, by: str) -> None:
        """Have this text in commands and variables replaced from now on."""
        self._here[text] = by

    def command(self, name: str) -> list[str]:
        """Return what a service runs."""
        return [self._local(name, word) for word in self.services[name]["command"]]

    def variables(self, name: str) -> dict[str, str]:
        """Return the variables of a service, with nothing but PATH and HOME of this machine besides."""
        given: Mapping[str, Any] = self.services[name]["environment"]
        assert all(isinstance(value, str) for value in given.values()), given
        here = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(self.folder)}
        found = {key: self._local(name, value) for key, value in given.items()}
        for key in ("AWS_SECRET_ACCESS_KEY",):  # docker/entrypoint.prod.sh
            if file := found.get(f"{key}_FILE"):
                found[key] = Path(file).read_text().strip()
                del found[f"{key}_FILE"]
        return {**here, **found}

    def secrets(self, name: str) -> Path:
        """Return the folder of what the service `secrets` has made for this one."""
        (mounted,) = [volume for volume in self.services[name]["volumes"] if volume.endswith(":/run/tabfleet:ro")]
        volume = mounted.partition(":")[0]
        made = self.services["secrets"]["volumes"]
        (place,) = [one.partition(":")[2] for one in made if one.partition(":")[0] == volume]
        return self.folder / "secrets" / Path(place).name

    def _local(self, name: str, text: str) -> str:
        text = re.sub(r"\$\{\w+:-(.*)\}", r"\1", text)
        if "/run/tabfleet" in text:
            made = self.folder / "secrets" if name == "secrets" else self.secrets(name)
            text = text.replace("/run/tabfleet", str(made))
        text = re.sub(r"/var/lib/tabfleet(-etcd)?", str(self.folder / name), text)
        for theirs, ours in self._here.items():
            text = text.replace(theirs, ours)
        return text


@dataclass
class Cell:
    """One coordinator that runs."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def ready(self) -> Any:
        """Return the body of its `/ready`."""
        return fetch(f"http://127.0.0.1:{self.port}/ready")[1]

    def logins(self) -> list[str]:
        """Return the logins that are READY here; none where it has ended."""
        try:
            return [child["name"] for child in self.ready()["children"] if child["state"] == "READY"]
        except OSError:
            return []


@dataclass
class Running:
    """All services."""

    compose: Compose
    cells: list[Cell]
    url: str
    api_key: str

    def served(self) -> list[str]:
        """Return the logins that are READY in some cell, each as often as it is."""
        return sorted(login for cell in self.cells for login in cell.logins())

    def tail(self) -> str:
        """Return the ends of the logs."""
        return "\n".join(f"{cell.name}:\n{cell.log.read_text()[-2000:]}" for cell in self.cells)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Running]:
    """Run everything, in the order of the file's `depends_on`."""
    compose = Compose(folder)
    (folder / "secrets").mkdir()
    subprocess.run(compose.command("secrets"), check=True, capture_output=True, timeout=60)
    with contextlib.ExitStack() as stack:
        _start_etcd(compose, stack)
        site = stack.enter_context(demo_site())
        compose.replace("http://site:8800", site.url)
        (folder / "s3").mkdir()
        _use_s3(compose, stack.enter_context(s3_server(folder / "s3")))
        environment = {**compose.variables("seed"), "PYTHONPATH": str(ROOT)}
        seed = [sys.executable, str(ROOT / "docker" / "trial" / "seed.py")]
        assert compose.command("seed") == ["python", "trial/seed.py"]
        subprocess.run(seed, env=environment, check=True, capture_output=True, timeout=60)
        cells = [_start_cell(compose, name, stack) for name in CELLS]
        eventually(lambda: all(map(_live, cells)), timeout_s=START_S, what="/live of all cells")
        url = _start_balancer(compose, cells, stack)
        yield Running(compose, cells, url, (compose.secrets("seed") / "api-key").read_text().strip())


def _spawn(
    command: list[str], log: Path, stack: contextlib.ExitStack, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*DIES_WITH_PARENT, *command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    stack.callback(end, process, timeout_s=60)
    return process


def _start_etcd(compose: Compose, stack: contextlib.ExitStack) -> None:
    first = free_range(3)
    for number, (theirs, host) in enumerate({"2379": "etcd", "2380": "127.0.0.1", "2381": "127.0.0.1"}.items()):
        for name in (host, "0.0.0.0"):
            compose.replace(f"//{name}:{theirs}", f"//127.0.0.1:{first + number}")
    process = _spawn(compose.command("etcd"), compose.folder / "etcd.log", stack)
    check = compose.services["etcd"]["healthcheck"]["test"]
    assert check[:3] == ["CMD", "python", "trial/is_up.py"]
    url = check[3].replace(":2381", f":{first + 2}")

    def healthy() -> bool:
        assert process.poll() is None, (compose.folder / "etcd.log").read_text()
        command = [sys.executable, str(ROOT / "docker" / "trial" / "is_up.py"), url]
        return subprocess.run(command, check=False, timeout=60).returncode == 0

    eventually(healthy, timeout_s=START_S, what="etcd")


def _use_s3(compose: Compose, server: S3Server) -> None:
    compose.replace("http://s3:8333", server.url)
    for identity in ("reader", "admin"):
        compose.replace(identity.upper(), server.credentials(identity)["AWS_ACCESS_KEY_ID"])
    (compose.secrets("seed") / "s3-admin").write_text(secret_of("admin"))
    (compose.secrets("cell-0") / "s3-reader").write_text(secret_of("reader"))


def _start_cell(compose: Compose, name: str, stack: contextlib.ExitStack) -> Cell:
    # Short as operators have it, for sockets of browsers.
    base, own = free_range(21), stack.enter_context(tempfile.TemporaryDirectory(prefix="e2e-", dir="/tmp"))
    environment = {
        **compose.variables(name),
        "AWS_EC2_METADATA_DISABLED": "true",
        "BROWSER_ENGINE": "chromium",
        "TMPDIR": own,
        "AUTH_PROFILE_CACHE_DIR": f"{own}/profiles",
        "COORDINATOR_PORT": str(base),
        "BASE_API_PORT": str(base + 1),
        "BASE_STREAM_PORT": str(base + 11),
        "LOG_FORMAT": "json",
    }
    if "BROWSER_EXECUTABLE" in os.environ:
        environment["BROWSER_EXECUTABLE"] = os.environ["BROWSER_EXECUTABLE"]
    if os.environ.get("CHROMIUM_SANDBOX"):
        environment["CHROMIUM_SANDBOX"] = os.environ["CHROMIUM_SANDBOX"]
    log = compose.folder / f"{name}.log"
    return Cell(name, base, _spawn([sys.executable, "-m", "coordinator.main"], log, stack, environment), log)


def _live(cell: Cell) -> bool:
    assert cell.process.poll() is None, cell.log.read_text()[-4000:]
    try:
        return fetch(f"http://127.0.0.1:{cell.port}/live")[0] == 200
    except OSError:
        return False


def _start_balancer(compose: Compose, cells: list[Cell], stack: contextlib.ExitStack) -> str:
    """Run nginx with the files that its service mounts; return its address."""
    folder, port = compose.folder / "nginx", free_range(1)
    (folder / "conf.d").mkdir(parents=True)
    mounted = dict(volume.removesuffix(":ro").split(":") for volume in compose.services["balancer"]["volumes"])
    sources = {place: source for source, place in mounted.items()}
    for source, place in mounted.items():
        text = (FILE.parent / source).read_text()
        if place == "/etc/nginx/nginx.conf":
            text = text.replace("/tmp/", f"{folder}/").replace("/etc/nginx/conf.d", f"{folder}/conf.d")
            (folder / "nginx.conf").write_text(f"user root;\n{text}" if os.geteuid() == 0 else text)
        elif place.startswith("/etc/nginx/conf.d/"):
            ports = [cell.port for cell in cells]
            (folder / "conf.d" / Path(place).name).write_text(with_addresses(text, ports, port))
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert program, "nginx is not installed; scripts/balancers-setup installs it"
    script, names, name, *options = compose.command("balancer")
    assert names.split() == [f"{cell.name}.example" for cell in cells]
    assert name == "nginx"
    options = [word.replace("/etc/nginx/", f"{folder}/") for word in options]
    # Here these names are unknown, so that nothing is followed.
    command = [str(FILE.parent / sources[script]), names, program, *options]
    process = _spawn(command, compose.folder / "nginx.log", stack)
    url = f"http://127.0.0.1:{port}"

    def listens() -> bool:
        assert process.poll() is None, (compose.folder / "nginx.log").read_text()
        with contextlib.suppress(OSError):
            return fetch(f"{url}/v1/models")[0] == 401
        return False

    eventually(listens, timeout_s=START_S, what=f"nginx; {compose.folder / 'nginx.log'}")
    return url


def kill(cell: Cell) -> None:
    """End a cell as the loss of its machine would."""
    cell.process.send_signal(signal.SIGKILL)
    cell.process.wait()
