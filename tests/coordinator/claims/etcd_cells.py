"""Connections of cells to etcd, with the files that settings name."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.claims.etcd import EtcdClaims
from tests.support.waiting import HANG_LIMIT_S

CANARY = "CANARY-7f3a"
"""Stands in what no message may hold."""


@dataclass(frozen=True)
class Files:
    """What the settings name."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


def connect(urls: Sequence[str], files: Files, *, timeout_s: float) -> EtcdClaims:
    return EtcdClaims(urls, timeout_s=timeout_s, ca_file=files.ca, cert_file=files.cert, key_file=files.key)


@contextlib.asynccontextmanager
async def store(
    urls: Sequence[str],
    files: Files | None = None,
    *,
    timeout_s: float = HANG_LIMIT_S,
) -> AsyncIterator[EtcdClaims]:
    made = connect(urls, files or Files(), timeout_s=timeout_s)
    try:
        yield made
    finally:
        await made.close()
