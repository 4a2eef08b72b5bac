"""What the system itself knows of the coordinator: descriptors, processes, memory, files. Read from /proc."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from contract.processes import read_stat
from coordinator.local import processes

PROC = Path("/proc")


@dataclass(frozen=True)
class Descriptors:
    """Open descriptors of one process; those of connections to children are counted apart."""

    to_children: int
    kinds: Counter[str]  # of the others

    @property
    def others(self) -> int:
        return self.kinds.total()

    @property
    def total(self) -> int:
        return self.to_children + self.others


def descriptors(pid: int, child_ports: Container[int]) -> Descriptors:
    """Count the descriptors of a process."""
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
            continue  # closed meanwhile
    return found


def _remote_ports() -> dict[str, int]:
    """The remote port of each IPv4 TCP socket by its inode: fields 2 and 9 of /proc/net/tcp (proc(5))."""
    rows = (line.split() for line in (PROC / "net/tcp").read_text().splitlines()[1:])
    return {row[9]: int(row[2].rpartition(":")[2], 16) for row in rows}


def orphans(mark: str, coordinator: int) -> set[int]:
    """Living processes that have the mark in their environment and do not descend from the coordinator."""
    family = processes.descendants(coordinator)
    return marked(mark) - family


def marked(mark: str) -> set[int]:
    """Living processes whose environment contains the mark; not this one."""
    alive = (process.pid for process in processes.all_processes() if not process.dead)
    return {pid for pid in alive if pid != os.getpid() and processes.mentions(pid, mark)}


def children(pid: int) -> dict[str, int]:
    """The coordinator's children that live, by the name of their profile."""
    direct = (process for process in processes.all_processes() if process.parent == pid and not process.dead)
    return {_profile(process.pid): process.pid for process in direct}


def _profile(pid: int) -> str:
    words = command_line(pid)
    named = [Path(after).stem for word, after in itertools.pairwise(words) if word == "--active-auth-json"]
    return named[0] if named else f"pid {pid}"


def command_line(pid: int) -> list[str]:
    """A process's words; none when it is gone."""
    try:
        return (PROC / str(pid) / "cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def describe(pid: int) -> str:
    """A process for a person who wonders where it comes from."""
    return f"{pid} {read_stat(pid)} {' '.join(command_line(pid))[:150]}"


def zombies(coordinator: int) -> list[int]:
    """The dead processes that the coordinator or its children have not waited for."""
    family = processes.descendants(coordinator)
    return [process.pid for process in processes.all_processes() if process.dead and process.parent in family]


def resident_bytes(pid: int) -> int:
    """Memory of the process that is in RAM."""
    status = (PROC / str(pid) / "status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) << 10


def files(folder: Path) -> list[Path]:
    """What lies in a folder for temporary files, whole trees as one."""
    return sorted(folder.iterdir())
