"""The processes of a browser, as /proc tells of them."""

from __future__ import annotations

import os
from pathlib import Path


def group_members(leader: int) -> list[int]:
    """Return the ids of the processes in the group that `leader` leads."""
    return [pid for pid in (int(path.name) for path in Path("/proc").glob("[0-9]*")) if _group(pid) == leader]


def command_line(pid: int) -> list[str]:
    """Return the words of a process's command line, none of one that is gone.

    A process that was forked, as a page's is, keeps its own in one argument.
    """
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").split()
    except OSError:
        return []


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
