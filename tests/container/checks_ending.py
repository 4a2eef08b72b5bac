"""Proofs about ends: of the container in every phase, of children, and of browsers, fifty of them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

from openai.types.chat import ChatCompletionChunk

from tests.container.podman import Container, eventually, podman
from tests.container.proofs import proof
from tests.container.world import MODEL, Fleet, World

GRACE_S = 45.0
KILLS = 50
CROWD = 10
# Kills follow one another quickly here: the delay before a restart must not grow meanwhile, and a start among nine
# others on a busy machine must not be given up. Eight short lives in a row would be a crash loop: hence ten children.
QUICK = {"BACKOFF_MAX_S": "0.2", "START_TIMEOUT_S": "300"}
HANG_S = 400.0


def ends_well(container: Container, within_s: float) -> float:
    """SIGTERM, and exit code 0 within the time; returns how long it took."""
    began = time.monotonic()
    container.signal("TERM")
    exit_code = container.wait_exit(within_s)
    assert exit_code == 0, f"exit code {exit_code}"
    return time.monotonic() - began


@proof("SIGTERM during hydration ends it at once: exit 0, no child")
def during_hydration(world: World) -> str:
    podman("pause", "s3")  # takes the connection and says nothing
    try:
        with world.fleet(environment=world.reader()) as fleet:
            eventually(lambda: "backend=s3" in fleet.container.logs(), timeout_s=20, what="the begin of hydration")
            took_s = ends_well(fleet.container, 10)
            assert "child_started" not in fleet.container.logs()
    finally:
        podman("unpause", "s3")
    return f"it took {took_s:.1f} s"


@proof("SIGTERM when idle: exit 0 within the grace")
def when_idle(world: World) -> str:
    with world.fleet(options=world.local) as fleet:
        fleet.wait_ready(2)
        return f"it took {ends_well(fleet.container, GRACE_S):.1f} s"


@proof("SIGTERM in mid-stream: /ready turns 503 while the stream goes on to its end; exit 0 within the grace")
def in_mid_stream(world: World) -> str:
    with world.fleet(options=world.local) as fleet:
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
        world.assert_in_ledger(text)
        assert fleet.container.wait_exit(GRACE_S) == 0
        return f"it took {time.monotonic() - began:.1f} s"


def first_text(chunks: Any) -> str:
    """Read up to the first piece of the answer."""
    for chunk in chunks:
        assert isinstance(chunk, ChatCompletionChunk)
        if chunk.choices and chunk.choices[0].delta.content:
            return chunk.choices[0].delta.content
    raise AssertionError("the stream ended without a text")


@proof("`pkill -f launch_camoufox.py` inside: /ready turns 503, then 200 again; answers come as before")
def pkill(world: World) -> str:
    with world.fleet(options=world.local) as fleet:
        fleet.wait_ready(2)
        began = time.monotonic()
        fleet.container.exec("pkill", "-f", "launch_camoufox.py")
        eventually(lambda: fleet.ready()[0] == 503, timeout_s=30, what="503 without children")
        fleet.wait_ready(2)
        world.assert_in_ledger(fleet.ask(f"again {uuid.uuid4()}"))
        return f"back after {time.monotonic() - began:.1f} s"


@proof("50 browser kills: no zombie, no growth of /tmp")
def fifty_kills(world: World) -> str:
    return kill_browsers(world, ())


@proof("the same with the entry point overridden, so that the coordinator itself is process 1")
def fifty_kills_as_process_1(world: World) -> str:
    return kill_browsers(world, ("python", "-m", "coordinator.main"))


def kill_browsers(world: World, command: Sequence[str]) -> str:
    """Ten children; all browsers at a time are killed until it is fifty."""
    folder = crowd(world)
    options = [f"--volume={folder}:/app/auth_profiles:ro"]
    if command:
        options.append("--entrypoint=" + json.dumps(list(command)))
    with world.fleet(options=options, environment=QUICK, memory="8g") as fleet:
        fleet.wait_ready(CROWD, timeout_s=HANG_S)
        assert command == () or fleet.container.exec("cat", "/proc/1/cmdline").startswith("python")
        before_kb, kills = temporary_kb(fleet.container), 0
        while kills < KILLS:
            kills += kill_all_browsers(fleet)
        fleet.wait_ready(CROWD, timeout_s=HANG_S)
        after_kb = eventually(
            lambda: size if (size := temporary_kb(fleet.container)) < before_kb * 1.1 + 1024 else 0,
            timeout_s=20,
            what=f"/tmp back at {before_kb} kB, now {temporary_kb(fleet.container)}",
        )
        assert zombies(fleet.container) == [], zombies(fleet.container)
        world.assert_in_ledger(fleet.ask(f"after {kills} kills {uuid.uuid4()}"))
        return f"{kills} kills; /tmp: {before_kb} kB before, {after_kb} kB after"


def kill_all_browsers(fleet: Fleet) -> int:
    """Kill every browser's main process and wait until all children are back; returns how many there were."""
    find = "ps axww -o pid=,args= | grep -- --remote-debugging-pipe | grep -v -e --type= -e grep | awk '{print $1}'"
    pids = fleet.container.exec("sh", "-c", find).split()
    assert len(pids) == CROWD, pids
    fleet.container.exec("kill", "-KILL", *pids)
    eventually(lambda: fleet.ready()[0] == 503, timeout_s=30, what="503 without browsers")
    fleet.wait_ready(CROWD, timeout_s=HANG_S)
    return len(pids)


def crowd(world: World) -> object:
    """A folder with ten logins."""
    folder = world.folder / "crowd"
    if not folder.exists():
        folder.mkdir()
        folder.chmod(0o777)
        users = {f"user{number}": f"demo{number}" for number in range(1, CROWD + 1)}
        world.seed("/out", options=[f"--volume={folder}:/out", f"--env=USERS={json.dumps(users)}"])
        folder.chmod(0o755)
    return folder


def temporary_kb(container: Container) -> int:
    """How much there is in /tmp."""
    return int(container.exec("du", "-sk", "/tmp", check=False).split()[0])


def zombies(container: Container) -> list[str]:
    """Processes that nobody has reaped; a moment is given to those that have just ended."""
    deadline = time.monotonic() + 5
    while True:
        lines = container.exec("ps", "axww", "-o", "stat=,pid=,ppid=,comm=").splitlines()
        found = [line for line in lines if line.startswith("Z")]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)
