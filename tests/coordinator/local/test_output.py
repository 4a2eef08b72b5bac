from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from coordinator.local.output import Logs, Output, as_json, redact
from tests.support.waiting import eventually


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Authorization: Bearer sk-abc", "Authorization: ***"),
        ("> Set-Cookie: a=b; c=d; Path=/", "> Set-Cookie: ***"),
        ("sent Bearer sk-abc to it", "sent Bearer *** to it"),
        ("cookie=abc; path=/", "cookie=***; path=/"),
        ('{"access_token": "abc", "x": 1}', '{"access_token": "***", "x": 1}'),
        ("password: hunter2", "password: ***"),
        ("GET http://ada:lovelace@proxy:8080/", "GET http://***@proxy:8080/"),
        ("id eyJhbGciOiJIUzI1NiIsInR5cCI6 tail", "id *** tail"),
        ("Chromium exited with code 5 in /usr/lib/chromium", "Chromium exited with code 5 in /usr/lib/chromium"),
        ("TimeoutError: waiting for selector #chat-input", "TimeoutError: waiting for selector #chat-input"),
    ],
)
def test_credentials_are_redacted(line: str, shown: str) -> None:
    assert redact(line) == shown


async def run(output: Output, script: str) -> None:
    program = (sys.executable, "-c", script)
    process = await asyncio.create_subprocess_exec(*program, stdout=output.write_end, stderr=output.write_end)
    output.begin()
    await process.wait()
    output.drain()


async def test_lines_arrive_whole_and_the_last_are_kept() -> None:
    lines: list[bytes] = []
    output = Output(lines.append)
    await run(output, "for i in range(100): print('line', i)\nprint('no end', end='')")
    output.close()
    assert lines == [*(f"line {i}\n".encode() for i in range(100)), b"no end\n"]
    assert output.last_lines() == (*(f"line {i}" for i in range(81, 100)), "no end")


async def test_a_line_without_end_is_cut() -> None:
    lines: list[bytes] = []
    output = Output(lines.append)
    await run(output, "print('x' * 1_000_000)")
    output.close()
    assert max(map(len, lines)) <= 3 * (64 << 10)
    assert sum(map(len, lines)) >= 1_000_000
    assert max(map(len, output.last_lines())) <= 400


async def test_a_grandchild_that_holds_the_pipe_open_does_not_delay_the_exit() -> None:
    lines: list[bytes] = []
    output = Output(lines.append)
    holder = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"
    await run(output, holder)
    os.kill(int(lines[0]), 9)
    output.close()


def test_output_goes_to_a_private_file_per_child(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.writer("../evil/ada@x")(b"one\n")
    logs.writer("../evil/ada@x")(b"two\n")
    (path,) = tmp_path.iterdir()
    assert path.name == ".._evil_ada@x.log"
    assert path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    logs.close_all()
    logs = Logs(tmp_path)
    logs.writer("../evil/ada@x")(b"three\n")
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    logs.close("../evil/ada@x")


async def test_without_a_folder_it_goes_to_stderr_with_the_childs_name(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    Logs(None).writer("ada")(b"hello\n")
    assert capfdbinary.readouterr().err == b"[ada] hello\n"


async def test_with_json_logs_output_becomes_json(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write = Logs(None, as_json=True).writer("ada")
    write(b'{"event": "answered", "request": "r1"}\n')
    write(b"chromium says: token=abc\n")
    write(b"[1, 2]\n")
    own, foreign, array = (json.loads(line) for line in capfdbinary.readouterr().err.splitlines())
    assert own == {"event": "answered", "child": "ada", "request": "r1"}
    assert (foreign["event"], foreign["child"], foreign["line"]) == ("child_output", "ada", "chromium says: token=***")
    assert array["line"] == "[1, 2]"


async def test_a_full_disk_does_not_stop_reading() -> None:
    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    output = Output(full)
    await run(output, "print('one'); print('two')")
    await eventually(lambda: output.last_lines() == ("one", "two"))
    output.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit", ["a.", "a-", "a/", "1.", "token", "token-", "word ", "://a:b", "://a", "cookie ", "=", "é."]
)
def test_a_line_made_to_be_slow_is_redacted_all_the_same(unit: str) -> None:
    """In time that grows with its square, one of these took hours."""
    redact(unit * (300_000 // len(unit)))


@pytest.mark.timeout(60)
async def test_a_child_that_prints_without_end_leaves_the_loop_to_others() -> None:
    seen = 0

    def count(line: bytes) -> None:
        nonlocal seen
        seen += len(line)

    output = Output(count)
    process = await asyncio.create_subprocess_exec("yes", stdout=output.write_end)
    output.begin()
    try:
        for _ in range(1000):
            await asyncio.sleep(0)
        await eventually(lambda: seen > 5_000_000)
        output.drain()
    finally:
        process.kill()
        await process.wait()
        output.close()


@pytest.mark.parametrize(
    "line",
    [
        b'{"event": "x", "child": "grace"}',
        b'{"event": "half \\ud83d"}',
        b'{"event": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"event": ' + b"[" * 700 + b"]" * 700 + b"}",
        b'{"event": "\xff"}',
        b"\xed\xa0\xbd",
        b'{"n": 1' + b"0" * 5000 + b"}",
    ],
)
def test_whatever_a_child_prints_is_one_json_line_with_its_own_name(line: bytes) -> None:
    (shown,) = as_json("ada", line + b"\n").splitlines()
    assert json.loads(shown)["child"] == "ada"


def test_a_log_file_that_was_renamed_is_opened_anew(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    write = logs.writer("ada")
    write(b"before\n")
    (tmp_path / "ada.log").rename(tmp_path / "ada.log.1")
    write(b"in between\n")
    logs.reopen()
    write(b"after\n")
    assert (tmp_path / "ada.log.1").read_bytes() == b"before\nin between\n"
    assert (tmp_path / "ada.log").read_bytes() == b"after\n"
    logs.close_all()


def test_a_log_file_that_cannot_be_opened_anew_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    logs = Logs(folder)
    write = logs.writer("ada")
    folder.rename(tmp_path / "moved")
    with capture_logs() as lines:
        logs.reopen()
    write(b"still\n")
    assert (tmp_path / "moved" / "ada.log").read_bytes() == b"still\n"
    assert [line["event"] for line in lines] == ["log_not_reopened"]
    logs.close_all()
