"""Checks of the shipped deployments: the Kubernetes overlays, and the single-child image."""

from __future__ import annotations

import shutil
import time
import uuid

from tests.container.checks import check
from tests.container.checks_serving import check_serving
from tests.container.manifests import Pod, rendered
from tests.container.podman import ROOT, eventually, podman, running
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
