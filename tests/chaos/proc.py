"""Descriptors, processes, memory and files of the coordinator, read from /proc."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from contract.processes import all_processes, mentions, read_stat
from coordinator.local import processes

PROC = Path("/proc")


@dataclass(frozen=True)
class Descriptors:
    """Open descriptors of one process; connections to children are counted separately."""

    to_children: int
    kinds: Counter[str]  # number by kind, without these

    @property
    def others(self) -> int:
        """Return the number of descriptors that are not connections to children."""
        return self.kinds.total()

    @property
    def total(self) -> int:
        """Return the number of all descriptors."""
        return self.to_children + self.others


def descriptors(pid: int, child_ports: Container[int]) -> Descriptors:
    """Count the open descriptors of a process."""
    remote_ports = _remote_ports()
    to_children, kinds = 0, Counter[str]()
    for link in _links(PROC / str(pid) / "fd"):
        kind, _, number = link.rstrip("]").partition(":[")
        if remote_ports.get(number) in child_ports:
            to_children += 1
        else:
            kinds[f"TCP to {remote_ports[number]}" if number in remote_ports else kind] += 1
    return Descriptors(to_children, kinds)


def _links(folder: Path) -> list[str]:
    found = []
    for entry in folder.iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:
            continue  # closed since the listing
    return found


def _remote_ports() -> dict[str, int]:
    """Return the remote port of each IPv4 TCP socket by inode: fields 2 and 9 of /proc/net/tcp (proc(5))."""
    rows = (line.split() for line in (PROC / "net/tcp").read_text().splitlines()[1:])
    return {row[9]: int(row[2].rpartition(":")[2], 16) for row in rows}


def orphans(mark: str, coordinator: int) -> set[int]:
    """Return the running processes with the mark in their environment that do not descend from the coordinator."""
    family = processes.descendants(coordinator)
    return marked(mark) - family


def marked(mark: str) -> set[int]:
    """Return the running processes whose environment contains the mark, except this one."""
    alive = (process.pid for process in all_processes() if not process.dead)
    return {pid for pid in alive if pid != os.getpid() and mentions(pid, mark)}


def children(pid: int) -> set[int]:
    """Return the pids of the coordinator's running children; some may be several children's."""
    return {process.pid for process in all_processes() if process.parent == pid and not process.dead}


def command_line(pid: int) -> list[str]:
    """Return the command line of a process; an empty list if it has exited."""
    try:
        return (PROC / str(pid) / "cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def describe(pid: int) -> str:
    """Return a line that tells a person which process this is."""
    return f"{pid} {read_stat(pid)} {' '.join(command_line(pid))[:150]}"


def zombies(coordinator: int) -> list[int]:
    """Return the exited processes that the coordinator or its descendants have not waited for."""
    family = processes.descendants(coordinator)
    return [process.pid for process in all_processes() if process.dead and process.parent in family]


def resident_bytes(pid: int) -> int:
    """Return the resident set size of a process."""
    status = (PROC / str(pid) / "status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) << 10


def files(folder: Path) -> list[Path]:
    """Return the entries of a folder, sorted."""
    return sorted(folder.iterdir())
