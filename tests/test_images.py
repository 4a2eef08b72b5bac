"""Files of the images that need no image to be tried: the health check and supervisord's configuration."""

from __future__ import annotations

import configparser
import importlib.util
import itertools
import json
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

DOCKER = Path(__file__).resolve().parent.parent / "docker"


class Live(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        # As an API without keys: only for localhost and addresses.
        self.send_response(200 if (self.path, self.headers["Host"]) == ("/live", "localhost") else 421)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def listening(host: str) -> Iterator[int]:
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    server = Server((host, 0), Live)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def healthcheck(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The health check's program, with the entry point's record in tmp_path."""
    spec = importlib.util.spec_from_file_location("healthcheck", DOCKER / "healthcheck.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RECORD", tmp_path / "record")
    for name in ("COORDINATOR_HOST", "COORDINATOR_PORT"):
        monkeypatch.delenv(name, raising=False)
    return module


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::", "localhost", ""])
def test_the_health_check_asks_where_the_coordinator_listens(
    monkeypatch: pytest.MonkeyPatch, healthcheck: ModuleType, host: str
) -> None:
    with listening(host or "127.0.0.1") as port:
        monkeypatch.setenv("COORDINATOR_HOST", host)
        monkeypatch.setenv("COORDINATOR_PORT", str(port))
        assert healthcheck.main() == 0
    assert healthcheck.main() == 1


def test_the_record_of_the_entry_point_counts_before_the_environment(
    monkeypatch: pytest.MonkeyPatch, healthcheck: ModuleType, tmp_path: Path
) -> None:
    monkeypatch.setenv("COORDINATOR_HOST", "127.0.0.2")
    monkeypatch.setenv("COORDINATOR_PORT", "9")
    assert healthcheck.address() == ("127.0.0.2", 9)
    (tmp_path / "record").write_text("# The settings\nCOORDINATOR_HOST=::\nCOORDINATOR_PORT=2049\n")
    assert healthcheck.address() == ("::1", 2049)


def child_command() -> str:
    # As supervisord reads it (its options.py).
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read(DOCKER / "supervisord.conf")
    return parser["program:child"]["command"]


def run_child(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the child's command as supervisord does, with a program in Python's place that prints its arguments."""
    show = folder / "show"
    show.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    show.chmod(0o755)
    command = shlex.split(child_command().replace("/app/.venv/bin/python", str(show)))
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_supervisord_hands_on_each_value_as_one_argument(tmp_path: Path) -> None:
    values = {
        "ACTIVE_AUTH_JSON": "/p/a%20 b.json",
        "CHAT_SITE": '/etc/my site ;$(id) "x" \'.toml',
        "BROWSER_ENGINE": "chromium",
    }
    arguments = json.loads(run_child(tmp_path, **values).stdout)
    given = dict(itertools.pairwise(arguments))
    assert arguments[0] == "launch_camoufox.py"
    assert given["--active-auth-json"] == values["ACTIVE_AUTH_JSON"]
    assert given["--site"] == values["CHAT_SITE"]
    assert given["--engine"] == "chromium"


def test_a_single_child_without_a_site_says_what_to_set(tmp_path: Path) -> None:
    done = run_child(tmp_path, ACTIVE_AUTH_JSON="/p/a.json", BROWSER_ENGINE="chromium")
    assert done.returncode != 0
    assert "CHAT_SITE: set it to the name of a site" in done.stderr
    # supervisord replaces what is between %( and ), and refuses to start where that is not set.
    assert "%(" not in child_command()
