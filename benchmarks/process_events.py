"""Time the exits and starts of processes from outside, by pidfds and /proc."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from contract.errors import TabfleetError
from contract.processes import group_members

PROCESS_POLL_S = 0.0005
LIMIT_S = 60.0
READY_POLL_S = 0.02


class WaitTimeout(TabfleetError):
    """An event did not happen within LIMIT_S seconds."""


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll every READY_POLL_S until `condition` holds. Raise WaitTimeout, which names `what` was waited for."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise WaitTimeout(f"waited {LIMIT_S:g} s in vain for {what}")
        time.sleep(READY_POLL_S)


@contextlib.contextmanager
def pidfds(pids: list[int]) -> Iterator[list[int]]:
    """Open a pidfd of each process that still exists; it becomes readable when the process exits (pidfd_open(2))."""
    opened: list[int] = []
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                opened.append(os.pidfd_open(pid))
        yield opened
    finally:
        for descriptor in opened:
            os.close(descriptor)


def exit_and_restart(opened: list[int], parent: int) -> tuple[float, float]:
    """Return when the last of these processes exited, and when `parent` had a new child; both time.monotonic().

    Polls every PROCESS_POLL_S. Raise WaitTimeout.
    """
    left, before = set(opened), children_of(parent)
    exited_at = started_at = 0.0
    deadline = time.monotonic() + LIMIT_S
    while not exited_at or not started_at:
        readable, _, _ = select.select(list(left), (), (), PROCESS_POLL_S)
        now = time.monotonic()
        left.difference_update(readable)
        if not left and not exited_at:
            exited_at = now
        if not started_at and children_of(parent) - before:
            started_at = now
        if now > deadline:
            raise WaitTimeout(f"{len(left)} processes still run" if left else "no new process was started")
        if not left:
            time.sleep(PROCESS_POLL_S)
    return exited_at, started_at


def children_of(pid: int) -> set[int]:
    """Return the child processes of this process's main thread (proc(5), task/TID/children)."""
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def api_port(child: int) -> int:
    """Return the port on a child's command line; 0 between its fork and its exec."""
    words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
    return int(words[words.index(b"--server-port") + 1]) if b"--server-port" in words else 0


def browser_group(child: int) -> int:
    """Return the process group of a child's browser, from its run folder; it is also the browser's first pid."""
    words = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    folder = next(word.partition(b"=")[2].decode() for word in words if word.startswith(b"TABFLEET_RUN_DIR="))
    return int(json.loads((Path(folder) / "processes.json").read_text())["browser"]["pgid"])


def members(group: int) -> list[int]:
    """Return the running processes of a group."""
    return group_members(group)


class ReadinessClient:
    """Read one `/ready` repeatedly over one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)

    def get(self) -> tuple[int, Any]:
        """Return status and body; (0, None) while the port does not answer."""
        try:
            self._connection.request("GET", "/ready")
            response = self._connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
