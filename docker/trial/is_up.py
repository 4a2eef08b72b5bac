"""Health check of the trial: exit 0 if one of the URLs given answers 200. Usage: is_up.py URL..."""
# ruff: noqa: INP001 - a program of the trial image, not part of a package

from __future__ import annotations

import sys
import urllib.request
from http import HTTPStatus

TIMEOUT_S = 2.0


def is_up(url: str) -> bool:
    """Return whether the URL answers 200."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT_S) as response:
            return bool(response.status == HTTPStatus.OK)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(not any(map(is_up, sys.argv[1:])))
