"""Proofs that the image serves: from a folder and from S3, hardened, with other browsers, mounts and certificates."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from tests.container.podman import ROOT, eventually, podman, running
from tests.container.proofs import proof
from tests.container.world import (
    BUCKET,
    CHROMIUM,
    FIREFOX,
    READY_S,
    TRIAL,
    Fleet,
    World,
)
from tests.support.authority import Authority

# Where a second browser would prove nothing more.
ONE = {"MAX_CHILDREN": "1"}
MODELS = {"demo-small", "demo-large", "demo-echo"}
PROXY = ROOT / "tests" / "container" / "tls_proxy.py"


def prove_serving(world: World, fleet: Fleet, children: int = 2) -> None:
    """The health routes, the models, and a streamed answer that the site really gave."""
    fleet.wait_ready(children)
    assert fleet.get("/live")[0] == 200
    status, ready = fleet.ready()
    assert (status, ready["status"], ready["api_keys"]) == (200, "ready", "enforced"), ready
    assert fleet.get("/v1/models")[0] == 401
    status, models = fleet.get("/v1/models", key=fleet.key)
    assert status == 200
    assert {model["id"] for model in models["data"]} == MODELS
    world.assert_in_ledger(fleet.ask(f"hello {uuid.uuid4()} [[tokens=20]]"))


@proof("local backend, hardened: /live, /ready, /v1/models, a streamed answer from the page; the health check passes")
def local_backend(world: World) -> None:
    with world.fleet(options=world.local) as fleet:
        prove_serving(world, fleet)
        eventually(fleet.container.healthcheck, timeout_s=30, what="a passing health check")
        assert fleet.container.state()["Health"]["Status"] == "healthy"
        assert "backend=local folder=/app/auth_profiles/active" in fleet.container.logs()


@proof("S3 backend, hardened: the same; the log names bucket, prefix and folder and ends hydration with its sentence")
def s3_backend(world: World) -> None:
    with world.fleet(environment=world.reader()) as fleet:
        prove_serving(world, fleet)
        log = fleet.container.logs()
        assert "backend=s3 bucket=profiles prefix= folder=/tmp/auth_profiles" in log
        assert "Hydrated profiles from s3://profiles/" in log
        modes = fleet.container.exec("stat", "-L", "-c", "%a %u %n", "/tmp/auth_profiles", "/tmp/.env.runtime")
        assert modes.split("\n")[:2] == ["700 10001 /tmp/auth_profiles", "600 10001 /tmp/.env.runtime"], modes


@proof("the guide's ways of looking: the check and the AWS CLI name every profile; SIGHUP takes a new one in")
def looking(world: World) -> None:
    with world.fleet(environment=world.reader()) as fleet:
        fleet.wait_ready(2)
        table = fleet.container.exec("python", "-m", "coordinator.profiles", "check")
        assert {"ada", "grace"} <= set(re.findall(r"\w+", table)), table
        listed = fleet.container.exec("aws", "s3", "ls", f"s3://{BUCKET}/active/")
        assert [line.split()[-1] for line in listed.splitlines()] == ["ada.json", "grace.json"], listed
        try:
            world.seed(options=['--env=USERS={"user1": "demo1"}'])
            fleet.container.signal("HUP")
            fleet.wait_ready(3)
            assert '"added": ["user1"]' in fleet.container.logs()
        finally:
            world.forget("active/user1.json")


@proof(".env.runtime has the resolved settings: a flag over the environment over the default, and the key file in use")
def runtime_record(world: World) -> None:
    command = ("./docker/entrypoint.prod.sh", "--max-children", "1", "--coordinator-port", "2048")
    with world.fleet(*command, environment={**world.reader(), "MAX_CHILDREN": "2"}) as fleet:
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


@proof("Chromium's sandbox is on where the seccomp profile allows user namespaces")
def sandbox_on(world: World) -> None:
    with world.fleet(options=world.local, environment=ONE) as fleet:
        fleet.wait_ready()
        # A sandboxed page is process 1 or so of a namespace of its own, and has a seccomp filter of Chromium's own.
        look = "cat $(pgrep -f '[t]ype=renderer' | sed 's,.*,/proc/&/status,')"
        status = fleet.container.exec("sh", "-c", look)
        assert re.search(r"^NSpid:\s+\d+\s+\d+", status, re.MULTILINE), f"no process namespace of its own: {status}"
        filters = re.findall(r"^Seccomp_filters:\s+(\d+)", status, re.MULTILINE)
        assert filters, status
        assert min(map(int, filters)) >= 2, f"no seccomp filter of its own: {status}"
        assert "--no-sandbox" not in fleet.container.exec("ps", "axww", "-o", "args")


@proof("where it does not: an error that names the cure; CHROMIUM_SANDBOX=off runs without it and says so in the log")
def sandbox_off(world: World) -> None:
    strict = f"--security-opt=seccomp={world.folder / 'no-userns.json'}"
    (world.folder / "no-userns.json").write_text(json.dumps(without_user_namespaces()), encoding="utf-8")
    with world.fleet(options=[*world.local, strict], environment=ONE) as fleet:
        eventually(lambda: "CHROMIUM_SANDBOX" in fleet.container.logs(), timeout_s=READY_S, what="the cure in the log")
        assert fleet.ready()[0] == 503
    off = {"MAX_CHILDREN": "1", "CHROMIUM_SANDBOX": "off"}
    with world.fleet(options=[*world.local, strict], environment=off) as fleet:
        fleet.wait_ready()
        world.assert_in_ledger(fleet.ask(f"without a sandbox {uuid.uuid4()}"))
        assert "browser_sandbox_off" in fleet.container.logs()


def without_user_namespaces() -> dict[str, object]:
    """The shipped seccomp profile, but a new user namespace is refused: by unshare, and by clone's flag."""
    profile: dict[str, list[dict[str, object]]] = json.loads((ROOT / "docker" / "seccomp.json").read_text())
    new_user = 0x10000000
    masked = {"index": 0, "value": new_user, "valueTwo": new_user, "op": "SCMP_CMP_MASKED_EQ"}
    profile["syscalls"] += [
        {"names": ["unshare", "clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [masked]},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
    ]
    return dict(profile)


@proof("it runs with the default 64 MB /dev/shm, and leaves it empty")
def shared_memory(world: World) -> str:
    with world.fleet(options=world.local, environment=ONE) as fleet:
        fleet.wait_ready()
        fleet.ask(f"shm {uuid.uuid4()} [[tokens=50]]")
        size, used = fleet.container.exec("df", "--output=size,used", "-k", "/dev/shm").split()[-2:]
        assert int(size) <= 65536, size
        assert int(used) <= 1024, used
        return f"/dev/shm: {size} kB, {used} kB of it used while the page has answered"


@proof("a bind mount of another uid: unreadable -> its uid and the cure; run as that uid, or readable -> served")
def other_owner(world: World) -> None:
    folder = copied(world, "others", owner=20000, mode=0o600)
    mount = [f"--volume={folder}:/app/auth_profiles:ro"]
    with world.fleet(options=mount) as fleet:
        assert fleet.container.wait_exit(120) != 0
        log = fleet.container.logs()
        assert re.search(r"uid 10001.*uid 20000.*chown", log), log
        assert "Traceback" not in log
    with world.fleet(options=[*mount, "--user=20000:20000"], environment=ONE) as fleet:
        prove_serving(world, fleet, 1)
    copied(world, "others", owner=20000, mode=0o644)
    with world.fleet(options=mount, environment=ONE) as fleet:
        prove_serving(world, fleet, 1)


def copied(world: World, name: str, *, owner: int, mode: int) -> Path:
    """A copy of the profiles' folder; folders are open to all, files as asked for."""
    folder = world.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(world.profiles, folder)
    for path in [folder, *folder.rglob("*")]:
        shutil.chown(path, owner, owner)
        path.chmod(0o755 if path.is_dir() else mode)
    return folder


@proof("the cache on a volume: stopped and started again, everything is there, and a start without S3 is possible")
def warm_cache(world: World) -> None:
    volume = "tabfleet-cache"
    podman("volume", "rm", "--force", volume)
    options = [f"--volume={volume}:/var/cache/tabfleet"]
    environment = {**world.reader(), **ONE, "AUTH_PROFILE_CACHE_DIR": "/var/cache/tabfleet/profiles"}
    look = ["find", "/var/cache/tabfleet/", "-name", "*.json", "-printf", "%f %i\n"]
    try:
        with world.fleet(environment=environment, options=options) as fleet:
            fleet.wait_ready()
            first = fleet.container.exec(*look)
            podman("stop", "--time", "45", fleet.container.name)
            podman("start", fleet.container.name)
            again = Fleet(fleet.container, f"http://127.0.0.1:{fleet.container.port(2048)}", fleet.key)
            prove_serving(world, again, 1)
            assert fleet.container.exec(*look) == first, "files were written anew though nothing had changed"
        alone = {**environment, "AWS_ENDPOINT_URL_S3": "http://site:9", "AUTH_PROFILE_ALLOW_STALE": "true"}
        with world.fleet(environment=alone, options=options) as fleet:
            fleet.wait_ready()
    finally:
        podman("volume", "rm", "--force", volume)


@proof("a private CA, for S3 and for the chat site in both browsers: refused without EXTRA_CA_FILE, served with it")
def private_authority(world: World) -> None:
    certificates = world.folder / "tls"
    make_certificates(certificates, ["site", "s3tls"])
    mount = f"--volume={certificates}:/tls:ro"
    tls = {"TLS_CERT": "/tls/s3tls.pem", "TLS_KEY": "/tls/s3tls.key"}
    secret = {"ADMIN_SECRET": world.admin_secret, "READER_SECRET": world.reader_secret}
    s3 = running(TRIAL, "./trial/s3.sh", name="s3tls", options=[mount], environment={**secret, **tls})
    relay = running(
        TRIAL,
        *("python", "/tls_proxy.py", "8443", "8800", "/tls/site.pem", "/tls/site.key"),
        name="site-tls",
        options=["--network=container:site", mount, f"--volume={PROXY}:/tls_proxy.py:ro"],
    )
    with s3, relay:
        world.seed(options=[mount, "--env=AWS_CA_BUNDLE=/tls/ca.pem"], endpoint="https://s3tls:8333")
        environment = {**world.reader("https://s3tls:8333"), "SITE_URL": "https://site:8443/chat"}
        with world.fleet(environment=environment, options=[mount]) as fleet:
            assert fleet.container.wait_exit(120) != 0
            assert "certificate of s3tls:8333 is not trusted; name its authority in EXTRA_CA_FILE" in (
                fleet.container.logs()
            )
        trusting = {**environment, **ONE, "EXTRA_CA_FILE": "/tls/ca.pem"}
        for image in (CHROMIUM, FIREFOX):
            with world.fleet(image=image, environment=trusting, options=[mount]) as fleet:
                prove_serving(world, fleet, 1)


def make_certificates(folder: Path, names: Sequence[str]) -> None:
    """An authority `ca.pem` and a certificate with its key for each name, which every uid may read."""
    folder.mkdir()
    authority = Authority(folder)
    for host in names:
        authority.sign(host)
    for path in folder.iterdir():
        path.chmod(0o644)


@proof("the image with Firefox serves, hardened")
def firefox_serves(world: World) -> None:
    with world.fleet(image=FIREFOX, options=world.local) as fleet:
        prove_serving(world, fleet)
