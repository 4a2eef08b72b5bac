"""Servers that a client's own environment brings along, run by its process for the rows."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

START_S = 240.0
DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")


class NotStarted(Exception):
    """The server did not begin to serve."""


def start_server(
    program: str, arguments: Callable[[int], list[str]], *, health: str, folder: str, environment: Mapping[str, str]
) -> str:
    """Start a program of this environment on a free port and return its base URL. It ends with this process.

    `arguments` are made of the port, `health` is the path that answers once it serves. Raises NotStarted after START_S
    seconds.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*DIES_WITH_PARENT, str(Path(sys.executable).with_name(program)), *arguments(port)]
    process = subprocess.Popen(command, stdout=2, cwd=folder, env={**os.environ, **environment})
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{health}", timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return f"http://127.0.0.1:{port}"
    raise NotStarted
