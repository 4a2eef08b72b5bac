"""Health check of the images: exit 0 if /live on the API port returns 200."""
# ruff: noqa: INP001 - a program of the image, not part of a package

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path

TIMEOUT_S = 4.0
RECORD = Path("/tmp/.env.runtime")  # noqa: S108 - the entry point writes it
# Listening there means on every address; connecting needs one of them.
REACHED_AT = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here


def address() -> tuple[str, int]:
    """Return host and port that the entry point resolved, else those of the environment, else 127.0.0.1 and 2048."""
    try:
        lines = RECORD.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    given = {**os.environ, **dict(line.split("=", 1) for line in lines if "=" in line)}
    host, port = given.get("COORDINATOR_HOST", "").strip(), given.get("COORDINATOR_PORT", "").strip()
    return REACHED_AT.get(host, host), int(port or 2048)


def main() -> int:
    """Send one request; return the exit code."""
    connection = http.client.HTTPConnection(*address(), timeout=TIMEOUT_S)
    try:
        # An API without keys refuses the name of another machine, which COORDINATOR_HOST may be.
        connection.request("GET", "/live", headers={"Host": "localhost"})
        status = connection.getresponse().status
    except OSError as error:
        print(f"unhealthy: /live does not answer: {error}")  # noqa: T201 - shown by `docker inspect`
        return 1
    print(f"/live: {status}")  # noqa: T201
    return int(status != http.HTTPStatus.OK)


if __name__ == "__main__":
    sys.exit(main())
