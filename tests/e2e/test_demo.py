"""`make demo`, with `--check` and with Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.fleet import ROOT, alive, descendants, eventually


@pytest.mark.long  # as the test below, without a person
def test_the_demo_answers_a_question_and_leaves_nothing_behind(empty_tmp: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--check"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(empty_tmp)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert list(empty_tmp.iterdir()) == []


def test_the_printed_curl_command_works_and_ctrl_c_stops_everything(empty_tmp: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(empty_tmp), "COLUMNS": "300"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        printed = ""
        while "curl" not in printed or not printed.rstrip().endswith(("'", '"', "]}")):
            line = process.stdout.readline()
            assert line, printed
            printed += line
        command = re.search(r"curl .*", printed.replace("\\\n", " "), re.DOTALL)
        assert command, printed
        answer = subprocess.run(["sh", "-c", command[0]], capture_output=True, text=True, timeout=60, check=True)
        assert '"content"' in answer.stdout, answer.stdout + answer.stderr
        family = descendants(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)
    assert process.returncode in (0, 130)
    eventually(lambda: not alive(family), timeout_s=10, what="the exit of all processes")
    assert list(empty_tmp.iterdir()) == []
