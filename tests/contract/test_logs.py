"""Log lines: one each, stable fields, no traceback and no text of an exception."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import logging, structlog
from contract.logs import configure_logging
configure_logging({form!r}, {level!r})
log = structlog.get_logger("x")
log.debug("quiet")
log.info("child_ready", child="ada", generation=3)
try:
    raise ValueError("the client sent: hunter2")
except ValueError:
    log.exception("proxy_failed", request="r1")
try:
    raise KeyError("hunter3")
except KeyError as error:
    log.error("given", exc_info=error)
logging.getLogger("uvicorn.error").info("Started server process")
logging.getLogger("botocore").info("credentials hunter4")
logging.getLogger("elsewhere").warning("from a %s", "library")
"""


def lines(form: str | None, level: str) -> list[str]:
    """What a program of its own writes to stderr: logging is set up once per process."""
    program = PROGRAM.format(form=form, level=level)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_json_lines_hold_name_and_fields_and_no_text_of_an_exception() -> None:
    parsed = [json.loads(line) for line in lines(None, "info")]
    assert [entry["event"] for entry in parsed] == ["child_ready", "proxy_failed", "given", "from a library"]
    assert list(parsed[0]) == ["timestamp", "level", "event", "child", "generation"]
    assert parsed[1]["error"] == "ValueError"
    assert ":" in parsed[1]["at"]
    assert parsed[2]["error"] == "KeyError"
    assert "hunter" not in json.dumps(parsed)


def test_lines_for_people_are_one_each_too() -> None:
    shown = lines("console", "info")
    assert len(shown) == 4
    assert "child_ready" in shown[0]
    assert "child=ada" in shown[0]
    assert not [line for line in shown if "hunter" in line]


def test_a_level_keeps_out_what_is_below_it() -> None:
    assert len(lines("json", "error")) == 2


@pytest.mark.parametrize("form", ["json", "console"])
def test_at_debug_level_the_traceback_is_there(form: str) -> None:
    shown = "\n".join(lines(form, "debug"))
    assert "Traceback" in shown
    assert "quiet" in shown
    assert "hunter4" not in shown


@pytest.mark.parametrize("form", ["json", "console"])
def test_half_a_surrogate_pair_is_logged_and_printed_as_an_escape(form: str) -> None:
    program = f"""
import structlog
from contract.logs import configure_logging, escape_unencodable
escape_unencodable()
configure_logging({form!r}, "info")
structlog.get_logger("x").info("page", text="half " + chr(0xd83d))
print("half", chr(0xd83d))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True, timeout=30)
    assert done.stdout == rb"half \ud83d" + b"\n"
    assert b"ud83d" in done.stderr
    assert b"Traceback" not in done.stderr
    if form == "json":
        assert json.loads(done.stderr)["text"] == "half \ud83d"


def test_fields_of_the_program_are_in_every_line_those_of_libraries_and_threads_too() -> None:
    program = """
import logging, structlog, threading
from contract.logs import configure_logging
configure_logging("json", "info", cell="tabfleet-0")
log = structlog.get_logger("x")
log.info("one")
threading.Thread(target=lambda: log.info("two")).start()
logging.getLogger("elsewhere").warning("three")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    parsed = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(entry["event"], entry["cell"]) for entry in parsed] == [
        (event, "tabfleet-0") for event in ("one", "two", "three")
    ]
