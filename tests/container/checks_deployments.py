"""Checks of the shipped deployments: the Kubernetes overlay, the single-child image, the Compose trial."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable

from tests.container.checks import check
from tests.container.checks_serving import check_serving
from tests.container.image_build import build
from tests.container.manifests import Pod, rendered
from tests.container.podman import MARK, ROOT, Container, eventually, podman, run, running, say
from tests.container.services import FIREFOX, READY_S, SINGLE, SITE_URL, Fleet, Services, fetch

SECRET_MODE = 0o440  # for the pod's group


@check("the Kubernetes overlay for local profiles, as a kubelet runs it: symlinked mounts, preStop, grace period")
def kubernetes_overlay(services: Services) -> str:
    pod = rendered("local")
    check_labels(pod)
    check_labels(rendered("s3"))
    check_labels(rendered("cells"))
    check_cells(rendered("cells"))
    check_labels(rendered("claims"))
    check_claims(rendered("claims"))
    site = services.folder / "site.toml"
    shutil.copyfile(ROOT / "sites" / "demo.toml", site)
    files = {
        "profiles": sorted((services.profiles / "active").glob("*.json")),
        "keys": [services.profiles / "key.txt"],
        "site": [site],
    }
    options = pod.options(services.folder / "pod", files)
    environment = {**pod.environment(), "SITE_URL": SITE_URL}
    # Firefox, because it works with the default seccomp profile, which the manifest requests.
    with running(FIREFOX, name="pod", options=options, environment=environment) as container:
        fleet = Fleet(container, f"http://127.0.0.1:{container.port(2048)}", services.key)
        check_serving(services, fleet)
        assert "browser_sandbox_reduced" in container.logs()
        probes = [pod.container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")]
        assert probes == ["/live", "/live", "/ready"]
        began = time.monotonic()
        container.exec(*pod.container["lifecycle"]["preStop"]["exec"]["command"])
        container.signal("TERM")
        exit_code = container.wait_exit(pod.spec["terminationGracePeriodSeconds"] - (time.monotonic() - began))
        assert exit_code == 0, exit_code
        return f"preStop and shutdown took {time.monotonic() - began:.1f} s"


def check_labels(pod: Pod) -> None:
    """Check that every selector matches the pod, and that a client needs no label but `client`."""
    assert all(selector.items() <= pod.labels().items() for selector in pod.selectors()), pod.selectors()
    rules = pod.document("NetworkPolicy", "tabfleet")["spec"]["ingress"][0]["from"]
    client = {"matchLabels": {"tabfleet.example/client": "true"}}
    assert rules == [{"namespaceSelector": client}, {"podSelector": client}], rules


def check_cells(pod: Pod) -> None:
    """Check that there is a pod for each share, with a name and a volume of its own."""
    cells = pod.document("StatefulSet", "tabfleet")["spec"]
    (shard,) = [item["value"] for item in pod.container["env"] if item["name"] == "SHARD"]
    assert shard == f"hostname/{cells['replicas']}", (shard, cells["replicas"])
    assert cells["podManagementPolicy"] == "Parallel"
    names = pod.document("Service", cells["serviceName"])["spec"]
    assert (names["clusterIP"], names["publishNotReadyAddresses"]) == ("None", True), names
    volumes = [volume["name"] for volume in pod.spec["volumes"]]
    own = [claim["metadata"]["name"] for claim in cells["volumeClaimTemplates"]]
    mounted = [mount["name"] for mount in pod.container["volumeMounts"]]
    assert sorted(volumes + own) == sorted(mounted), (volumes, own, mounted)
    assert pod.document("PodDisruptionBudget", "tabfleet")["spec"]["maxUnavailable"] == 1
    assert not [doc for doc in pod.documents if doc["kind"] == "PersistentVolumeClaim"]


def check_claims(pod: Pod) -> None:
    """Check that each pod claims by its own name, with secrets that only it can read, and keeps nothing that stays."""
    cells = pod.document("StatefulSet", "tabfleet")["spec"]
    assert pod.container["env"] == [{"name": "CELL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    assert cells["podManagementPolicy"] == "Parallel"
    assert pod.document("Service", cells["serviceName"])["spec"]["clusterIP"] == "None"
    assert pod.document("PodDisruptionBudget", "tabfleet")["spec"]["maxUnavailable"] == 1
    assert "volumeClaimTemplates" not in cells
    assert not [doc for doc in pod.documents if doc["kind"] == "PersistentVolumeClaim"]
    volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
    mounts = {mount["name"]: mount for mount in pod.container["volumeMounts"]}
    assert volumes.keys() == mounts.keys()
    environment = pod.environment()
    folders = {name: mounts[name]["mountPath"] for name in ("claims", "session-key", "sessions")}
    for variable in ("CLAIMS_CA_FILE", "CLAIMS_CERT_FILE", "CLAIMS_KEY_FILE"):
        assert environment[variable].startswith(f"{folders['claims']}/"), variable
    assert environment["SESSION_KEY_FILE"].startswith(f"{folders['session-key']}/")
    assert environment["SESSION_DIR"].startswith(f"{folders['sessions']}/")
    for name in ("claims", "session-key"):
        assert mounts[name]["readOnly"]
        assert volumes[name]["secret"]["defaultMode"] == SECRET_MODE
    assert "emptyDir" in volumes["sessions"]


@check("the single-child image serves through its relay, and restarts its child when it is killed")
def single_serves(services: Services) -> None:
    environment = {
        "CHAT_SITE": "demo",
        "SITE_URL": SITE_URL,
        "ACTIVE_AUTH_JSON": "/app/auth_profiles/active/ada.json",
        "KEY_FILE_PATH": "/app/auth_profiles/key.txt",
    }
    seccomp = f"--security-opt=seccomp={ROOT}/docker/seccomp.json"
    options = [*services.mount, "--publish=127.0.0.1::2048", seccomp]
    with running(SINGLE, name="single", options=options, environment=environment) as container:
        url = f"http://127.0.0.1:{container.port(2048)}"
        child = Fleet(container, url, services.key)
        eventually(lambda: child.ready()[0] == 200, timeout_s=READY_S, what="the single child's /ready")
        assert fetch(f"{url}/v1/models")[0] == 401
        services.assert_in_ledger(child.ask(f"single {uuid.uuid4()}"))
        assert container.healthcheck()
        container.exec("pkill", "-KILL", "-f", "launch_camoufox.py")
        eventually(lambda: child.ready()[0] != 200, timeout_s=30, what="the single child to be gone")
        eventually(lambda: child.ready()[0] == 200, timeout_s=READY_S, what="the single child's restart")
        podman("stop", "--time", "30", "single")
        assert container.state()["ExitCode"] == 0


@check("the trial of docker/compose.yaml starts unchanged: site, S3, seed and fleet; a request is answered")
def compose_trial(services: Services) -> None:
    name, port = f"tabfleettrial{MARK}", free_port()
    compose = compose_project(name, port, "docker/compose.yaml", "--profile", "trial")
    try:
        # One after the other: podman 4.3 cannot start a container whose dependency has exited, as the seed has.
        compose("up", "--no-build", "-d", "trial-site", "trial-s3")
        compose("up", "--no-build", "--no-deps", "trial-seed")
        compose("up", "--no-build", "--no-deps", "-d", "trial")
        fleet = Fleet(services.site, f"http://127.0.0.1:{port}", "sk-trial")
        eventually(lambda: fleet.ready()[0] == 200, timeout_s=READY_S, what="the trial's /ready", now=fleet.ready)
        assert "token:" in fleet.ask("hello from compose")
    except BaseException:
        say(run("logs", f"{name}_trial_1").stderr[-2000:])
        raise
    finally:
        compose("down", "-t", "5")


@check("docker/compose.cells.yaml starts unchanged: etcd, S3, nginx, three cells; one is killed, all logins are served")
def compose_cells(services: Services) -> str:
    build("docker/Dockerfile.cells", "tabfleet-trial-cells")
    name, port = f"tabfleetcells{MARK}", free_port()
    compose = compose_project(name, port, "docker/compose.cells.yaml")
    cells = ("cell-0", "cell-1", "cell-2")

    def served(*by: str) -> list[str]:
        found = []
        for cell in by:
            script = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:2048/health').read().decode())"
            done = run("exec", f"{name}_{cell}_1", "python", "-c", script)
            if done.returncode == 0:
                children = json.loads(done.stdout)["children"]
                found += [child["name"] for child in children if child["state"] == "READY"]
        return sorted(found)

    logins = ["ada", "grace", "user1"]
    try:
        # One after the other: podman 4.3 cannot start a container whose dependency has exited, as two of these have.
        compose("up", "--no-build", "--no-deps", "secrets")
        compose("up", "--no-build", "--no-deps", "-d", "etcd", "site", "s3")
        compose("up", "--no-build", "--no-deps", "seed")
        compose("up", "--no-build", "--no-deps", "-d", *cells)
        # nginx does not start while a name of a cell is unknown.
        compose("up", "--no-build", "--no-deps", "-d", "balancer")
        eventually(lambda: served(*cells) == logins, timeout_s=2 * READY_S, what="each login in one cell")
        for service in ("etcd", "balancer", *cells):
            assert Container(f"{name}_{service}_1").healthcheck(), service
        key = podman("exec", f"{name}_s3_1", "cat", "/run/tabfleet/api-key").strip()
        fleet = Fleet(services.site, f"http://127.0.0.1:{port}", key)
        assert "token:" in fleet.ask("hello from three cells")
        began = time.monotonic()
        podman("kill", "--signal", "KILL", f"{name}_cell-1_1")
        left = [cell for cell in cells if cell != "cell-1"]
        eventually(lambda: served(*left) == logins, timeout_s=2 * READY_S, what="each login in one of two cells")
        for number in range(4):
            assert "token:" in fleet.ask(f"hello from two cells {number}")
        return f"the others had its logins after {time.monotonic() - began:.0f} s"
    except BaseException:
        for service in ("secrets", "etcd", "s3", "seed", *cells, "balancer"):
            done = run("logs", f"{name}_{service}_1")
            say(f"{service}: {(done.stdout + done.stderr)[-1500:]}")
        raise
    finally:
        compose("down", "-v", "-t", "5")


def compose_project(name: str, port: int, file: str, *options: str) -> Callable[..., None]:
    """Return what runs podman-compose for a file of this checkout, with this name and port."""
    program = f"{ROOT}/.cache/container/tools/bin/podman-compose"
    project = [program, "--in-pod=0", "-f", f"{ROOT}/{file}", "-p", name, *options]
    # podman-compose resolves the seccomp path from its working directory, Docker Compose from the file's folder.
    environment = {**os.environ, "TABFLEET_SECCOMP": f"{ROOT}/docker/seccomp.json", "TABFLEET_PORT": str(port)}

    def compose(*arguments: str) -> None:
        done = subprocess.run(
            [*project, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return compose


def free_port() -> int:
    """Return a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
