"""Who a process is, told with real ones."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from contract.processes import ProcessIdentity, group_members, read_stat

MARK = "run-folder-with-a-random-name"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a group of its own."""
    process = subprocess.Popen(["sleep", "100"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def identity(process: subprocess.Popen[bytes]) -> ProcessIdentity:
    found = ProcessIdentity.of(process.pid)
    assert found is not None
    return found


def test_a_process_is_known_until_it_is_dead(sleeper: subprocess.Popen[bytes]) -> None:
    found = identity(sleeper)
    assert found.is_alive()
    stat = read_stat(sleeper.pid)
    assert stat is not None
    assert (stat.parent, stat.group, stat.threads, stat.dead) == (os.getpid(), sleeper.pid, 1, False)
    found.kill()
    # Until it is waited for it is a zombie.
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not found.is_alive()
    assert ProcessIdentity.of(sleeper.pid) is None
    assert sleeper.wait() == -signal.SIGKILL
    assert read_stat(sleeper.pid) is None
    found.kill()
    found.kill_group()


def test_a_process_that_only_has_the_same_id_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    found = identity(sleeper)
    earlier = ProcessIdentity(found.pid, found.start_time - 1)
    assert not earlier.is_alive()
    earlier.kill()
    earlier.kill_group()
    assert sleeper.poll() is None
    assert found.is_alive()


@pytest.fixture
def orphans() -> Iterator[tuple[ProcessIdentity, ProcessIdentity]]:
    """A leader that is gone, and a member of its group that has MARK on its command line."""
    script = (
        "import subprocess, sys, time; print(subprocess.Popen(sys.argv[1:], env={}).pid, flush=True); time.sleep(600)"
    )
    waiting = [sys.executable, "-c", "import time; time.sleep(600)", MARK]
    leader = subprocess.Popen([sys.executable, "-c", script, *waiting], stdout=subprocess.PIPE, start_new_session=True)
    assert leader.stdout is not None
    member = ProcessIdentity.of(int(leader.stdout.readline()))
    found = identity(leader)
    leader.kill()
    leader.wait()
    leader.stdout.close()
    assert member is not None
    yield found, member
    member.kill()


def test_a_group_outlives_its_leader_and_is_known_by_a_members_mark(
    orphans: tuple[ProcessIdentity, ProcessIdentity],
) -> None:
    leader, member = orphans
    assert group_members(leader.pid) == [member.pid]
    ended = os.pidfd_open(member.pid)
    leader.kill_group(MARK)
    assert select.select([ended], [], [], 10)[0] == [ended]
    os.close(ended)
    assert group_members(leader.pid) == []


@pytest.mark.parametrize("mark", [None, "another-run-folder"])
def test_a_group_whose_leader_is_gone_is_left_alone_without_the_mark(
    orphans: tuple[ProcessIdentity, ProcessIdentity], mark: str | None
) -> None:
    """Since the leader's end its id may have been another's, who is gone as well."""
    leader, member = orphans
    leader.kill_group(mark)
    ended = os.pidfd_open(member.pid)
    assert select.select([ended], [], [], 0.2)[0] == []
    os.close(ended)
    assert member.is_alive()


def test_a_name_with_parentheses_and_spaces_is_no_field() -> None:
    name = ") Z 1 (x"
    process = subprocess.Popen(
        ["sh", "-c", f"printf '%s' '{name}' >/proc/$$/comm; echo; read -r _"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    stat = read_stat(process.pid)
    process.communicate(b"\n")
    assert stat is not None
    assert (stat.pid, stat.parent, stat.dead) == (process.pid, os.getpid(), False)
