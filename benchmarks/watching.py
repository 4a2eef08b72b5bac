"""Deaths and births of processes on this machine, timed from outside by the kernel's own word."""

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

from coordinator.local import processes

LOOK_S = 0.0005
LIMIT_S = 60.0
ASK_S = 0.02


class Timeout(Exception):
    """What a benchmark waited for did not happen within LIMIT_S seconds."""


def until(seen: Callable[[], bool], what: str) -> None:
    """Look every ASK_S until something is seen. Raises Timeout."""
    deadline = time.monotonic() + LIMIT_S
    while not seen():
        if time.monotonic() > deadline:
            raise Timeout(f"not within {LIMIT_S:g} s: {what}")
        time.sleep(ASK_S)


@contextlib.contextmanager
def descriptors(pids: list[int]) -> Iterator[list[int]]:
    """A pidfd of each process; it is readable once the process is dead (pidfd_open(2))."""
    opened: list[int] = []
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                opened.append(os.pidfd_open(pid))
        yield opened
    finally:
        for descriptor in opened:
            os.close(descriptor)


def death_and_successor(watched: list[int], parent: int) -> tuple[float, float]:
    """When the last of these pidfds was seen dead, and when `parent` had a new child: both time.monotonic().

    Looks every LOOK_S. Raises Timeout.
    """
    left, before = set(watched), children_of(parent)
    dead_at = born_at = 0.0
    deadline = time.monotonic() + LIMIT_S
    while not dead_at or not born_at:
        readable, _, _ = select.select(list(left), (), (), LOOK_S)
        now = time.monotonic()
        left.difference_update(readable)
        if not left and not dead_at:
            dead_at = now
        if not born_at and children_of(parent) - before:
            born_at = now
        if now > deadline:
            raise Timeout(f"{len(left)} processes still live" if left else "there is no new process")
        if not left:
            time.sleep(LOOK_S)
    return dead_at, born_at


def children_of(pid: int) -> set[int]:
    """The processes whose parent this process's main thread is (proc(5), task/TID/children)."""
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def api_port(child: int) -> int:
    """The port on a child's command line; 0 for a moment, between its fork and its exec."""
    words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
    return int(words[words.index(b"--server-port") + 1]) if b"--server-port" in words else 0


def browser_group(child: int) -> int:
    """The process group of a child's browser, which is also its first process's id, as the child noted it."""
    words = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    folder = next(word.partition(b"=")[2].decode() for word in words if word.startswith(b"TABFLEET_RUN_DIR="))
    return int(json.loads((Path(folder) / "processes.json").read_text())["browser"]["pgid"])


def members(group: int) -> list[int]:
    """The living processes of a group."""
    return processes.group_members(group)


class Asker:
    """Asks one `/ready` again and again, over one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)

    def ask(self) -> tuple[int, Any]:
        """Status and body; (0, None) while nobody listens."""
        try:
            self._connection.request("GET", "/ready")
            response = self._connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, None

    def close(self) -> None:
        self._connection.close()
