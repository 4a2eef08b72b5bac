"""A child's deadline passes, with a real browser: nothing of it is left and nothing more is sent."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import IO, Any

import pytest

from contract.claim_deadline import ClaimDeadlineFile, boottime
from contract.exit_codes import ExitCode
from contract.processes import all_processes, mentions
from contract.run_folder import PROCESSES, read_processes, read_submitted
from tests.e2e.fleet import MODEL, ROOT, Site, end, eventually, new_login
from tests.e2e.host import Host, running_host
from tests.support import DIES_WITH_PARENT
from tests.support.ports import free_range
from tests.support.processes import group_members
from tests.support.size import size
from tests.support.waiting import HANG_LIMIT_S

pytestmark = pytest.mark.slow

STOPPED_AFTER_S = (0.02, 0.03, 0.01, 0.015, 0.025, 0.035, 0.04, 0.045, 0.05, 0.06, 0.08, 0.1)[: size(2, 12)]


@dataclass
class Child:
    """A child alone, and where it answers."""

    process: subprocess.Popen[bytes]
    run_dir: Path
    port: int

    def readiness(self, timeout_s: float = HANG_LIMIT_S) -> dict[str, Any]:
        """Return the body of its `/ready`, empty while nobody listens. Raises TimeoutError."""
        with contextlib.closing(HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)) as connection:
            try:
                connection.request("GET", "/ready")
                body = json.loads(connection.getresponse().read())
            except ConnectionError:
                assert self.process.poll() is None
                return {}
        assert isinstance(body, dict)
        return body

    def wait_ready(self) -> None:
        eventually(lambda: self.readiness().get("status") == "ready", timeout_s=60, what="its readiness")

    @property
    def hangs(self) -> bool:
        """Whether it does not answer at all for a second."""
        try:
            self.readiness(timeout_s=1.0)
        except TimeoutError:
            return True
        return False

    def stop(self) -> None:
        """Stop it, but neither its driver nor its browser, and wait until it stands still."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def ask(self, prompt: str) -> HTTPConnection:
        """Send a request, and return the connection that its answer is to come over."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=HANG_LIMIT_S)
        body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}
        headers = {"content-type": "application/json", "x-request-id": "request-1"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        return connection

    def wait_over(self) -> int:
        """Wait for its end; return its exit code once nothing of it is left."""
        code = self.process.wait(HANG_LIMIT_S)
        wait_nothing_left(self.run_dir)
        return code


def wait_nothing_left(run_dir: Path) -> None:
    """Wait until no process is left of those that were started for this run folder."""
    noted = read_processes(run_dir)

    def left() -> list[int]:
        found = [process.pid for process in all_processes() if not process.dead and mentions(process.pid, str(run_dir))]
        return found + group_members(noted["browser"].pid)

    eventually(lambda: not left(), timeout_s=HANG_LIMIT_S, what=f"the end of all processes of {run_dir}")
    assert not noted["driver"].is_alive()


@contextlib.contextmanager
def running_child(site: Site, folder: Path, deadline_file: Path, output: IO[Any] | int) -> Iterator[Child]:
    run_dir = folder / "run"
    (run_dir / "tmp").mkdir(mode=0o700, parents=True)
    (run_dir / "submitted").touch(mode=0o600)
    profile = folder / "ada.json"
    profile.write_text(json.dumps(new_login(site, "ada", "cookie")))
    port = free_range(2)
    options = {"--site": "demo", "--engine": "chromium", "--active-auth-json": profile, "--server-port": port}
    words = [str(word) for option in {**options, "--stream-port": port + 1}.items() for word in option]
    given = {
        "SITE_URL": f"{site.url}/any/chat",
        "TABFLEET_RUN_DIR": str(run_dir),
        "TABFLEET_CLAIM_DEADLINE_FILE": str(deadline_file),
        "TMPDIR": str(run_dir / "tmp"),
    }
    process = subprocess.Popen(
        [*DIES_WITH_PARENT, sys.executable, "launch_camoufox.py", *words],
        cwd=ROOT,
        env={**os.environ, **given},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
    )
    try:
        yield Child(process, run_dir, port)
    finally:
        process.send_signal(signal.SIGCONT)
        end(process)


@pytest.fixture
def deadline(empty_tmp: Path) -> ClaimDeadlineFile:
    """The deadline of claims that hold, and will for an hour."""
    writer = ClaimDeadlineFile(empty_tmp / "deadline")
    writer.extend(boottime() + 3600)
    return writer


def test_a_child_ends_with_its_browser_when_the_deadline_passes(
    site: Site, empty_tmp: Path, deadline: ClaimDeadlineFile
) -> None:
    log = empty_tmp / "log"
    with log.open("wb") as output, running_child(site, empty_tmp, empty_tmp / "deadline", output) as child:
        child.wait_ready()
        connection = child.ask("[[stall=middle]]")
        eventually(lambda: site.ledger(account="ada") and read_submitted(child.run_dir), timeout_s=HANG_LIMIT_S)
        assert child.process.poll() is None
        deadline.end()
        assert child.wait_over() == ExitCode.CLAIM_OVER
        with pytest.raises(OSError, match=r".*"):
            connection.getresponse()
    assert log.read_text().count("claim") == 0, "nothing is logged"


def test_a_deadline_that_is_not_put_off_passes_by_itself(site: Site, empty_tmp: Path) -> None:
    writer = ClaimDeadlineFile(empty_tmp / "deadline")
    writer.extend(boottime() + 3600)
    with running_child(site, empty_tmp, empty_tmp / "deadline", subprocess.DEVNULL) as child:
        child.wait_ready()
        writer.end()  # a deadline is only put off; so it begins anew, perhaps before the child has looked
        writer.extend(boottime() + 0.3)
        assert child.wait_over() == ExitCode.CLAIM_OVER


def test_the_children_of_a_host_end_together(site: Site, empty_tmp: Path, deadline: ClaimDeadlineFile) -> None:
    given = {"TABFLEET_CLAIM_DEADLINE_FILE": str(empty_tmp / "deadline")}
    with running_host(site, empty_tmp / "h", **given) as host:
        host.serve(site, "ada", "grace")
        answers = stalled_answers(host)
        deadline.end()
        assert host.process.wait(HANG_LIMIT_S) == ExitCode.CLAIM_OVER
        wait_nothing_left(host.run_dir)
        answers.join(HANG_LIMIT_S)
        host.read_news()
        assert host.closed
        assert [child.code for child in host.children.values()] == [None, None]


def stalled_answers(host: Host) -> threading.Thread:
    """Have one child answer, without an end; return who reads it, and ends with the connection."""
    begun = threading.Event()

    def read() -> None:
        with contextlib.suppress(OSError, AssertionError):
            for _ in host.children["grace"].ask("[[stall=middle]]"):
                begun.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert begun.wait(HANG_LIMIT_S)
    return reader


def test_a_child_whose_output_nobody_reads_ends_all_the_same(
    site: Site, empty_tmp: Path, deadline: ClaimDeadlineFile
) -> None:
    """As that of a coordinator that is stopped: the child's main thread waits for room in the pipe."""
    read_end, write_end = os.pipe()
    try:
        with running_child(site, empty_tmp, empty_tmp / "deadline", write_end) as child:
            child.wait_ready()
            os.set_blocking(write_end, False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(write_end, b"." * 512)
            os.set_blocking(write_end, True)  # the child's end is the same open file
            child.process.terminate()  # which it logs first
            eventually(lambda: child.hangs, timeout_s=HANG_LIMIT_S, what="its wait for a reader")
            assert group_members(read_processes(child.run_dir)["browser"].pid)
            deadline.end()
            assert child.wait_over() == ExitCode.CLAIM_OVER
    finally:
        os.close(read_end)
        os.close(write_end)


@pytest.mark.parametrize("stopped_after_s", STOPPED_AFTER_S)
def test_a_child_that_was_stopped_over_its_deadline_sends_nothing(
    site: Site, empty_tmp: Path, deadline: ClaimDeadlineFile, stopped_after_s: float
) -> None:
    """Its browser goes on meanwhile. Whether the prompt was marked before the stop depends on the machine."""
    prompt = f"stopped after {stopped_after_s} s in {empty_tmp.name}"
    with running_child(site, empty_tmp, empty_tmp / "deadline", subprocess.DEVNULL) as child:
        child.wait_ready()
        connection = child.ask(prompt)
        threading.Event().wait(stopped_after_s)
        child.stop()
        marked = read_submitted(child.run_dir)
        deadline.end()
        child.process.send_signal(signal.SIGCONT)
        assert child.wait_over() == ExitCode.CLAIM_OVER
        connection.close()
        sent = [entry for entry in site.ledger() if entry["prompt"] == prompt]
        assert not sent or marked == frozenset({"request-1"}), "it was sent after the deadline"


def test_a_child_that_was_stopped_before_its_request_came_sends_nothing(
    site: Site, empty_tmp: Path, deadline: ClaimDeadlineFile
) -> None:
    with running_child(site, empty_tmp, empty_tmp / "deadline", subprocess.DEVNULL) as child:
        child.wait_ready()
        child.stop()
        connection = child.ask(f"before it came in {empty_tmp.name}")
        deadline.end()
        child.process.send_signal(signal.SIGCONT)
        assert child.wait_over() == ExitCode.CLAIM_OVER
        connection.close()
        assert not [entry for entry in site.ledger() if empty_tmp.name in entry["prompt"]]


def test_a_child_that_was_stopped_in_the_middle_of_a_request_sends_nothing(
    site: Site, empty_tmp: Path, deadline: ClaimDeadlineFile
) -> None:
    """What it waits for of its driver is there when it goes on, so that it would send the prompt next."""
    with running_child(site, empty_tmp, empty_tmp / "deadline", subprocess.DEVNULL) as child:
        child.wait_ready()
        driver = read_processes(child.run_dir)["driver"].pid
        os.kill(driver, signal.SIGSTOP)
        connection = child.ask(f"in the middle in {empty_tmp.name}")
        eventually(lambda: child.readiness()["busy"], timeout_s=HANG_LIMIT_S, what="its work on the request")
        child.stop()
        os.kill(driver, signal.SIGCONT)
        deadline.end()
        child.process.send_signal(signal.SIGCONT)
        assert child.wait_over() == ExitCode.CLAIM_OVER
        connection.close()
        assert not read_submitted(child.run_dir)
        assert not [entry for entry in site.ledger() if empty_tmp.name in entry["prompt"]]


@pytest.mark.parametrize("content", [None, b"", b"\xff" * 7, bytes(8)])
def test_without_a_claim_no_browser_is_started(site: Site, empty_tmp: Path, content: bytes | None) -> None:
    file, log = empty_tmp / "deadline", empty_tmp / "log"
    if content is not None:
        file.write_bytes(content)
    with log.open("wb") as output, running_child(site, empty_tmp, file, output) as child:
        assert child.process.wait(HANG_LIMIT_S) == ExitCode.CLAIM_OVER
    (line,) = log.read_text().splitlines()
    assert line.startswith("launch_camoufox.py: the claim of the login is over")
    assert not (child.run_dir / PROCESSES).exists()


def test_a_host_needs_a_claim_for_its_first_child(site: Site, empty_tmp: Path) -> None:
    file = empty_tmp / "deadline"
    with running_host(site, empty_tmp / "h", TABFLEET_CLAIM_DEADLINE_FILE=str(file)) as host:
        with contextlib.closing(ClaimDeadlineFile(file)):  # not until now: before, the host has no login
            child = host.start(site, "ada")
            assert host.wait_ended("ada") == [ExitCode.CLAIM_OVER]
        assert host.process.poll() is None
        assert "the claim of the login is over" in child.log.read_text()
