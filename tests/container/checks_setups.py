"""Proofs about the ways to run it that are shipped: the Kubernetes overlay, the single-child image, Compose's trial."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import uuid

from tests.container.checks_serving import prove_serving
from tests.container.manifests import Pod, rendered
from tests.container.podman import MARK, ROOT, eventually, podman, run, running, say
from tests.container.proofs import proof
from tests.container.world import FIREFOX, READY_S, SINGLE, SITE_URL, Fleet, World, fetch


@proof("the Kubernetes overlay for local profiles, as a kubelet runs it: mounts made of links, preStop, the grace")
def kubernetes_overlay(world: World) -> str:
    pod = rendered("local")
    prove_labels(pod)
    prove_labels(rendered("s3"))
    site = world.folder / "site.toml"
    shutil.copyfile(ROOT / "sites" / "demo.toml", site)
    files = {
        "profiles": sorted((world.profiles / "active").glob("*.json")),
        "keys": [world.profiles / "key.txt"],
        "site": [site],
    }
    options = pod.options(world.folder / "pod", files)
    environment = {**pod.environment(), "SITE_URL": SITE_URL}
    # Firefox, because it gets along with the default seccomp profile, which the manifest asks for.
    with running(FIREFOX, name="pod", options=options, environment=environment) as container:
        fleet = Fleet(container, f"http://127.0.0.1:{container.port(2048)}", world.key)
        prove_serving(world, fleet)
        assert "browser_sandbox_reduced" in container.logs()
        probes = [pod.container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")]
        assert probes == ["/live", "/live", "/ready"]
        began = time.monotonic()
        container.exec(*pod.container["lifecycle"]["preStop"]["exec"]["command"])
        container.signal("TERM")
        exit_code = container.wait_exit(pod.spec["terminationGracePeriodSeconds"] - (time.monotonic() - began))
        assert exit_code == 0, exit_code
        return f"preStop and end took {time.monotonic() - began:.1f} s"


def prove_labels(pod: Pod) -> None:
    """Each selector chooses the pod, and a client needs no label but the one that is for clients."""
    assert all(selector.items() <= pod.labels().items() for selector in pod.selectors()), pod.selectors()
    rules = pod.document("NetworkPolicy", "tabfleet")["spec"]["ingress"][0]["from"]
    client = {"matchLabels": {"tabfleet.example/client": "true"}}
    assert rules == [{"namespaceSelector": client}, {"podSelector": client}], rules


@proof("the single-child image serves, by its relay; its child is restarted when it dies")
def single_serves(world: World) -> None:
    environment = {
        "CHAT_SITE": "demo",
        "SITE_URL": SITE_URL,
        "ACTIVE_AUTH_JSON": "/app/auth_profiles/active/ada.json",
        "KEY_FILE_PATH": "/app/auth_profiles/key.txt",
    }
    seccomp = f"--security-opt=seccomp={ROOT}/docker/seccomp.json"
    options = [*world.local, "--publish=127.0.0.1::2048", seccomp]
    with running(SINGLE, name="single", options=options, environment=environment) as container:
        url = f"http://127.0.0.1:{container.port(2048)}"
        child = Fleet(container, url, world.key)
        eventually(lambda: child.ready()[0] == 200, timeout_s=READY_S, what="the single child's /ready")
        assert fetch(f"{url}/v1/models")[0] == 401
        world.assert_in_ledger(child.ask(f"single {uuid.uuid4()}"))
        assert container.healthcheck()
        container.exec("pkill", "-KILL", "-f", "launch_camoufox.py")
        eventually(lambda: child.ready()[0] != 200, timeout_s=30, what="the single child's end")
        eventually(lambda: child.ready()[0] == 200, timeout_s=READY_S, what="the single child's return")
        podman("stop", "--time", "30", "single")
        assert container.state()["ExitCode"] == 0


@proof("docker/compose.yaml's trial comes up as it stands: site, S3, seed and fleet; a request is answered")
def compose_trial(world: World) -> None:
    program = f"{ROOT}/.cache/container/tools/bin/podman-compose"
    name = f"tabfleettrial{MARK}"
    project = [program, "--in-pod=0", "-f", f"{ROOT}/docker/compose.yaml", "-p", name, "--profile", "trial"]
    # podman-compose takes the profile's path from where it is run, Docker's Compose from where the file is.
    port = free_port()
    environment = {**os.environ, "TABFLEET_SECCOMP": f"{ROOT}/docker/seccomp.json", "TABFLEET_PORT": str(port)}

    def compose(*arguments: str) -> None:
        done = subprocess.run(
            [*project, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        # One after the other: podman 4.3 cannot start a container whose dependency has ended, as the seed has.
        compose("up", "--no-build", "-d", "trial-site", "trial-s3")
        compose("up", "--no-build", "--no-deps", "trial-seed")
        compose("up", "--no-build", "--no-deps", "-d", "trial")
        fleet = Fleet(world.site, f"http://127.0.0.1:{port}", "sk-trial")
        eventually(lambda: fleet.ready()[0] == 200, timeout_s=READY_S, what="the trial's /ready", now=fleet.ready)
        assert "token:" in fleet.ask("hello from compose")
    except BaseException:
        say(run("logs", f"{name}_trial_1").stderr[-2000:])
        raise
    finally:
        compose("down", "-t", "5")


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
