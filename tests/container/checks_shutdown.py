"""Checks of shutdown in every phase, of restarts, and of many killed browsers."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

from openai.types.chat import ChatCompletionChunk

from tests.container.checks import check
from tests.container.podman import Container, eventually, podman
from tests.container.services import MODEL, Fleet, Services
from tests.support.size import size

GRACE_S = 45.0
CHILDREN = 10
# The kills follow one another quickly: the back-off must not grow meanwhile, and a start beside nine others on a busy
# machine must not time out. Eight short runs in a row would be a crash loop: hence ten children.
FAST_RESTARTS = {"BACKOFF_MAX_S": "0.2", "START_TIMEOUT_S": "300"}
WAIT_S = 400.0
KILLS, KILLS_AS_PID_1 = size(20, 50), size(10, 20)


def terminate(container: Container, within_s: float) -> float:
    """Send SIGTERM, and expect exit code 0 within within_s seconds. Return the seconds it took."""
    began = time.monotonic()
    container.signal("TERM")
    exit_code = container.wait_exit(within_s)
    assert exit_code == 0, f"exit code {exit_code}"
    return time.monotonic() - began


@check("SIGTERM during hydration: immediate exit with 0, no child started")
def during_hydration(services: Services) -> str:
    podman("pause", "s3")  # it accepts connections and does not respond
    try:
        with services.fleet(environment=services.reader_environment()) as fleet:
            eventually(lambda: "backend=s3" in fleet.container.logs(), timeout_s=20, what="the start of hydration")
            took_s = terminate(fleet.container, 10)
            assert "child_started" not in fleet.container.logs()
    finally:
        podman("unpause", "s3")
    return f"it took {took_s:.1f} s"


@check("SIGTERM when idle: exit 0 within the grace period")
def when_idle(services: Services) -> str:
    with services.fleet(options=services.mount) as fleet:
        fleet.wait_ready(2)
        return f"it took {terminate(fleet.container, GRACE_S):.1f} s"


@check("SIGTERM during a stream: /ready is 503 while the stream completes; exit 0 within the grace period")
def in_mid_stream(services: Services) -> str:
    with services.fleet(options=services.mount) as fleet:
        fleet.wait_ready(2)
        stream = fleet.client().chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": f"long {uuid.uuid4()} [[tokens=120 delay_ms=50]]"}],
            stream=True,
        )
        chunks = iter(stream)
        text = first_text(chunks)
        began = time.monotonic()
        fleet.container.signal("TERM")
        eventually(lambda: fleet.ready()[0] == 503, timeout_s=5, what="503 while draining")
        rest = list(chunks)
        text += "".join(chunk.choices[0].delta.content or "" for chunk in rest if chunk.choices)
        assert rest[-1].choices[0].finish_reason == "stop", rest[-1]
        services.assert_in_ledger(text)
        assert fleet.container.wait_exit(GRACE_S) == 0
        return f"it took {time.monotonic() - began:.1f} s"


def first_text(chunks: Any) -> str:
    """Read up to the first text of the answer, and return it."""
    for chunk in chunks:
        assert isinstance(chunk, ChatCompletionChunk)
        if chunk.choices and chunk.choices[0].delta.content:
            return chunk.choices[0].delta.content
    raise AssertionError("the stream ended without a text")


@check("`pkill -f launch_camoufox.py` inside: /ready is 503, then 200 again, and requests are answered")
def pkill(services: Services) -> str:
    with services.fleet(options=services.mount) as fleet:
        fleet.wait_ready(2)
        began = time.monotonic()
        fleet.container.exec("pkill", "-f", "launch_camoufox.py")
        eventually(lambda: fleet.ready()[0] == 503, timeout_s=30, what="503 without children")
        fleet.wait_ready(2)
        services.assert_in_ledger(fleet.ask(f"again {uuid.uuid4()}"))
        return f"back after {time.monotonic() - began:.1f} s"


@check(f"{KILLS} browsers killed: no zombie, no growth of /tmp")
def killed_browsers(services: Services) -> str:
    return kill_browsers(services, (), kills=KILLS)


@check(f"{KILLS_AS_PID_1} browsers killed, the entry point overridden so that the coordinator is PID 1: the same")
def killed_browsers_as_pid_1(services: Services) -> str:
    return kill_browsers(services, ("python", "-m", "coordinator.main"), kills=KILLS_AS_PID_1)


def kill_browsers(services: Services, command: Sequence[str], *, kills: int) -> str:
    """Run ten children, and kill all their browsers at once until so many were killed."""
    folder = ten_profiles(services)
    options = [f"--volume={folder}:/app/auth_profiles:ro"]
    if command:
        options.append("--entrypoint=" + json.dumps(list(command)))
    with services.fleet(options=options, environment=FAST_RESTARTS, memory="8g") as fleet:
        fleet.wait_ready(CHILDREN, timeout_s=WAIT_S)
        assert command == () or fleet.container.exec("cat", "/proc/1/cmdline").startswith("python")
        before_kb, killed = temporary_kb(fleet.container), 0
        while killed < kills:
            killed += kill_all_browsers(fleet)
        fleet.wait_ready(CHILDREN, timeout_s=WAIT_S)
        after_kb = eventually(
            lambda: size if (size := temporary_kb(fleet.container)) < before_kb * 1.1 + 1024 else 0,
            timeout_s=WAIT_S,
            what=f"/tmp back at {before_kb} kB, now {temporary_kb(fleet.container)}",
        )
        assert zombies(fleet.container) == [], zombies(fleet.container)
        services.assert_in_ledger(fleet.ask(f"after {killed} kills {uuid.uuid4()}"))
        return f"{killed} kills; /tmp: {before_kb} kB before, {after_kb} kB after"


def kill_all_browsers(fleet: Fleet) -> int:
    """Kill every browser's main process and wait until all children are READY. Return how many were killed."""
    find = "ps axww -o pid=,args= | grep -- --remote-debugging-pipe | grep -v -e --type= -e grep | awk '{print $1}'"
    pids = fleet.container.exec("sh", "-c", find).split()
    assert len(pids) == CHILDREN, pids
    fleet.container.exec("kill", "-KILL", *pids)
    eventually(lambda: fleet.ready()[0] == 503, timeout_s=30, what="503 without browsers")
    fleet.wait_ready(CHILDREN, timeout_s=WAIT_S)
    return len(pids)


def ten_profiles(services: Services) -> object:
    """Return a folder with ten profiles."""
    folder = services.folder / "ten-profiles"
    if not folder.exists():
        folder.mkdir()
        folder.chmod(0o777)
        users = {f"user{number}": f"demo{number}" for number in range(1, CHILDREN + 1)}
        services.seed("/out", options=[f"--volume={folder}:/out", f"--env=USERS={json.dumps(users)}"])
        folder.chmod(0o755)
    return folder


def temporary_kb(container: Container) -> int:
    """Return the size of /tmp in kB."""
    return int(container.exec("du", "-sk", "/tmp", check=False).split()[0])


def zombies(container: Container) -> list[str]:
    """Return the processes that are still zombies after 5 s."""
    deadline = time.monotonic() + 5
    while True:
        lines = container.exec("ps", "axww", "-o", "stat=,pid=,ppid=,comm=").splitlines()
        found = [line for line in lines if line.startswith("Z")]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)
