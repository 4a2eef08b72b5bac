"""Who a process is, told with real ones."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator

import pytest

from contract.processes import ProcessIdentity, read_stat


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


def test_a_group_outlives_its_leader_and_is_killed_all_the_same() -> None:
    script = "sleep 100 & echo $!; exec sleep 100"
    leader = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert leader.stdout is not None
    member = ProcessIdentity.of(int(leader.stdout.readline()))
    found = identity(leader)
    leader.kill()
    leader.wait()
    assert member is not None
    assert member.is_alive()
    ended = os.pidfd_open(member.pid)
    found.kill_group()
    assert select.select([ended], [], [], 10)[0] == [ended]
    assert not member.is_alive()
    os.close(ended)
    leader.stdout.close()


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
