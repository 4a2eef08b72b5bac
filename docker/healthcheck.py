"""Health check of the images: exit 0 if /live on the API port returns 200."""
# ruff: noqa: INP001 - a program of the image, not part of a package

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path

TIMEOUT_S = 4.0


def port() -> int:
    """Return the port that the entry point resolved, else that of the environment, else 2048."""
    try:
        lines = Path("/tmp/.env.runtime").read_text(encoding="utf-8").splitlines()  # noqa: S108 - the entry point writes it
    except OSError:
        lines = []
    resolved = [line.partition("=")[2] for line in lines if line.startswith("COORDINATOR_PORT=")]
    return int((resolved or [os.environ.get("COORDINATOR_PORT", "")])[0] or 2048)


def main() -> int:
    """Send one request; return the exit code."""
    connection = http.client.HTTPConnection("127.0.0.1", port(), timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/live")
        status = connection.getresponse().status
    except OSError as error:
        print(f"unhealthy: /live does not answer: {error}")  # noqa: T201 - shown by `docker inspect`
        return 1
    print(f"/live: {status}")  # noqa: T201
    return int(status != http.HTTPStatus.OK)


if __name__ == "__main__":
    sys.exit(main())
