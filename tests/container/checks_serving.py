"""Checks that the image serves: from a folder and S3, hardened, with other browsers, mounts and certificates."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from tests.container.checks import check
from tests.container.podman import ROOT, eventually, podman, running
from tests.container.services import (
    BUCKET,
    CHROMIUM,
    FIREFOX,
    READY_S,
    TRIAL,
    Fleet,
    Services,
)
from tests.support.authority import Authority

# For checks that a second browser adds nothing to.
ONE = {"MAX_CHILDREN": "1"}
MODELS = {"demo-small", "demo-large", "demo-echo"}
PROXY = ROOT / "tests" / "container" / "tls_proxy.py"


def check_serving(services: Services, fleet: Fleet, children: int = 2) -> None:
    """Check the health routes, the models, and a streamed answer against the site's ledger."""
    fleet.wait_ready(children)
    assert fleet.get("/live")[0] == 200
    status, ready = fleet.ready()
    assert (status, ready["status"], ready["api_keys"]) == (200, "ready", "enforced"), ready
    assert fleet.get("/v1/models")[0] == 401
    status, models = fleet.get("/v1/models", key=fleet.key)
    assert status == 200
    assert {model["id"] for model in models["data"]} == MODELS
    services.assert_in_ledger(fleet.ask(f"hello {uuid.uuid4()} [[tokens=20]]"))


@check("local backend, hardened: /live, /ready, /v1/models and a streamed answer; the health check passes")
def local_backend(services: Services) -> None:
    with services.fleet(options=services.mount) as fleet:
        check_serving(services, fleet)
        eventually(fleet.container.healthcheck, timeout_s=30, what="a passing health check")
        assert fleet.container.state()["Health"]["Status"] == "healthy"
        assert "backend=local folder=/app/auth_profiles/active" in fleet.container.logs()


@check("S3 backend, hardened: the same; the log names bucket, prefix and folder, and reports the hydration")
def s3_backend(services: Services) -> None:
    with services.fleet(environment=services.reader_environment()) as fleet:
        check_serving(services, fleet)
        log = fleet.container.logs()
        assert "backend=s3 bucket=profiles prefix= folder=/tmp/auth_profiles" in log
        assert "Hydrated profiles from s3://profiles/" in log
        modes = fleet.container.exec("stat", "-L", "-c", "%a %u %n", "/tmp/auth_profiles", "/tmp/.env.runtime")
        assert modes.split("\n")[:2] == ["700 10001 /tmp/auth_profiles", "600 10001 /tmp/.env.runtime"], modes


@check("the guide's commands: profile check and AWS CLI list every profile; SIGHUP loads a new one")
def looking(services: Services) -> None:
    with services.fleet(environment=services.reader_environment()) as fleet:
        fleet.wait_ready(2)
        table = fleet.container.exec("python", "-m", "coordinator.profiles", "check")
        assert {"ada", "grace"} <= set(re.findall(r"\w+", table)), table
        listed = fleet.container.exec("aws", "s3", "ls", f"s3://{BUCKET}/active/")
        assert [line.split()[-1] for line in listed.splitlines()] == ["ada.json", "grace.json"], listed
        try:
            services.seed(options=['--env=USERS={"user1": "demo1"}'])
            fleet.container.signal("HUP")
            fleet.wait_ready(3)
            assert '"added": ["user1"]' in fleet.container.logs()
        finally:
            services.delete_object("active/user1.json")


@check(".env.runtime has the resolved settings (flag over environment over default) and the key file in use")
def runtime_record(services: Services) -> None:
    command = ("./docker/entrypoint.prod.sh", "--max-children", "1", "--coordinator-port", "2048")
    with services.fleet(*command, environment={**services.reader_environment(), "MAX_CHILDREN": "2"}) as fleet:
        fleet.wait_ready()
        record = dict(
            line.split("=", 1)
            for line in fleet.container.exec("cat", "/tmp/.env.runtime").splitlines()
            if not line.startswith("#")
        )
        assert record["MAX_CHILDREN"] == "1"
        assert record["AUTH_PROFILE_S3_BUCKET"] == "profiles"
        assert record["COORDINATOR_HOST"] == "0.0.0.0"
        assert (record["BASE_API_PORT"], record["BASE_STREAM_PORT"]) == ("3100", "3200")
        assert record["AUTH_KEY_FILE_PATH"].startswith("/tmp/auth_profiles/")
        assert not {"HTTPS_PROXY", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"} & set(record)


@check("Chromium's sandbox is on where the seccomp profile allows user namespaces")
def sandbox_on(services: Services) -> None:
    with services.fleet(options=services.mount, environment=ONE) as fleet:
        fleet.wait_ready()
        # A sandboxed renderer runs in its own PID namespace, with a seccomp filter besides the container's.
        look = "cat $(pgrep -f '[t]ype=renderer' | sed 's,.*,/proc/&/status,')"
        status = fleet.container.exec("sh", "-c", look)
        assert re.search(r"^NSpid:\s+\d+\s+\d+", status, re.MULTILINE), f"no process namespace of its own: {status}"
        filters = re.findall(r"^Seccomp_filters:\s+(\d+)", status, re.MULTILINE)
        assert filters, status
        assert min(map(int, filters)) >= 2, f"no seccomp filter of its own: {status}"
        assert "--no-sandbox" not in fleet.container.exec("ps", "axww", "-o", "args")


@check("where it allows none: an error that names the remedy; CHROMIUM_SANDBOX=off works and is logged")
def sandbox_off(services: Services) -> None:
    strict = f"--security-opt=seccomp={services.folder / 'no-userns.json'}"
    (services.folder / "no-userns.json").write_text(json.dumps(without_user_namespaces()), encoding="utf-8")
    with services.fleet(options=[*services.mount, strict], environment=ONE) as fleet:
        eventually(
            lambda: "CHROMIUM_SANDBOX" in fleet.container.logs(), timeout_s=READY_S, what="the remedy in the log"
        )
        assert fleet.ready()[0] == 503
    off = {"MAX_CHILDREN": "1", "CHROMIUM_SANDBOX": "off"}
    with services.fleet(options=[*services.mount, strict], environment=off) as fleet:
        fleet.wait_ready()
        services.assert_in_ledger(fleet.ask(f"without a sandbox {uuid.uuid4()}"))
        assert "browser_sandbox_off" in fleet.container.logs()


def without_user_namespaces() -> dict[str, object]:
    """Return the shipped seccomp profile without user namespaces: unshare and clone with CLONE_NEWUSER fail."""
    profile: dict[str, list[dict[str, object]]] = json.loads((ROOT / "docker" / "seccomp.json").read_text())
    new_user = 0x10000000
    masked = {"index": 0, "value": new_user, "valueTwo": new_user, "op": "SCMP_CMP_MASKED_EQ"}
    profile["syscalls"] += [
        {"names": ["unshare", "clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [masked]},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
    ]
    return dict(profile)


@check("the default /dev/shm of 64 MB is enough, and stays empty")
def shared_memory(services: Services) -> str:
    with services.fleet(options=services.mount, environment=ONE) as fleet:
        fleet.wait_ready()
        fleet.ask(f"shm {uuid.uuid4()} [[tokens=50]]")
        size, used = fleet.container.exec("df", "--output=size,used", "-k", "/dev/shm").split()[-2:]
        assert int(size) <= 65536, size
        assert int(used) <= 1024, used
        return f"/dev/shm: {size} kB, {used} kB used after an answer"


@check("a bind mount of another uid: if unreadable, the error names uid and remedy; else it serves")
def other_owner(services: Services) -> None:
    folder = copied(services, "others", owner=20000, mode=0o600)
    mount = [f"--volume={folder}:/app/auth_profiles:ro"]
    with services.fleet(options=mount) as fleet:
        assert fleet.container.wait_exit(120) != 0
        log = fleet.container.logs()
        assert re.search(r"uid 10001.*uid 20000.*chown", log), log
        assert "Traceback" not in log
    with services.fleet(options=[*mount, "--user=20000:20000"], environment=ONE) as fleet:
        check_serving(services, fleet, 1)
    copied(services, "others", owner=20000, mode=0o644)
    with services.fleet(options=mount, environment=ONE) as fleet:
        check_serving(services, fleet, 1)


def copied(services: Services, name: str, *, owner: int, mode: int) -> Path:
    """Copy the profiles, with this owner and with this mode of the files."""
    folder = services.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(services.profiles, folder)
    for path in [folder, *folder.rglob("*")]:
        shutil.chown(path, owner, owner)
        path.chmod(0o755 if path.is_dir() else mode)
    return folder


@check("a cache on a volume survives a restart, and allows a start without S3")
def warm_cache(services: Services) -> None:
    volume = "tabfleet-cache"
    podman("volume", "rm", "--force", volume)
    options = [f"--volume={volume}:/var/cache/tabfleet"]
    environment = {**services.reader_environment(), **ONE, "AUTH_PROFILE_CACHE_DIR": "/var/cache/tabfleet/profiles"}
    look = ["find", "/var/cache/tabfleet/", "-name", "*.json", "-printf", "%f %i\n"]
    try:
        with services.fleet(environment=environment, options=options) as fleet:
            fleet.wait_ready()
            first = fleet.container.exec(*look)
            podman("stop", "--time", "45", fleet.container.name)
            podman("start", fleet.container.name)
            again = Fleet(fleet.container, f"http://127.0.0.1:{fleet.container.port(2048)}", fleet.key)
            check_serving(services, again, 1)
            assert fleet.container.exec(*look) == first, "files were written again although nothing had changed"
        alone = {**environment, "AWS_ENDPOINT_URL_S3": "http://site:9", "AUTH_PROFILE_ALLOW_STALE": "true"}
        with services.fleet(environment=alone, options=options) as fleet:
            fleet.wait_ready()
    finally:
        podman("volume", "rm", "--force", volume)


@check("a private CA for S3 and the chat site, in both browsers: fails without EXTRA_CA_FILE, works with it")
def private_authority(services: Services) -> None:
    certificates = services.folder / "tls"
    make_certificates(certificates, ["site", "s3tls"])
    mount = f"--volume={certificates}:/tls:ro"
    tls = {"TLS_CERT": "/tls/s3tls.pem", "TLS_KEY": "/tls/s3tls.key"}
    secret = {"ADMIN_SECRET": services.admin_secret, "READER_SECRET": services.reader_secret}
    s3 = running(TRIAL, "./trial/s3.sh", name="s3tls", options=[mount], environment={**secret, **tls})
    relay = running(
        TRIAL,
        *("python", "/tls_proxy.py", "8443", "8800", "/tls/site.pem", "/tls/site.key"),
        name="site-tls",
        options=["--network=container:site", mount, f"--volume={PROXY}:/tls_proxy.py:ro"],
    )
    with s3, relay:
        services.seed(options=[mount, "--env=AWS_CA_BUNDLE=/tls/ca.pem"], endpoint="https://s3tls:8333")
        environment = {**services.reader_environment("https://s3tls:8333"), "SITE_URL": "https://site:8443/chat"}
        with services.fleet(environment=environment, options=[mount]) as fleet:
            assert fleet.container.wait_exit(120) != 0
            assert "certificate of s3tls:8333 is not trusted; name its authority in EXTRA_CA_FILE" in (
                fleet.container.logs()
            )
        trusting = {**environment, **ONE, "EXTRA_CA_FILE": "/tls/ca.pem"}
        for image in (CHROMIUM, FIREFOX):
            with services.fleet(image=image, environment=trusting, options=[mount]) as fleet:
                check_serving(services, fleet, 1)


def make_certificates(folder: Path, names: Sequence[str]) -> None:
    """Write a CA, `ca.pem`, and a certificate with its key for each name, readable for every uid."""
    folder.mkdir()
    authority = Authority(folder)
    for host in names:
        authority.sign(host)
    for path in folder.iterdir():
        path.chmod(0o644)


@check("the image with Firefox serves, hardened")
def firefox_serves(services: Services) -> None:
    with services.fleet(image=FIREFOX, options=services.mount) as fleet:
        check_serving(services, fleet)
