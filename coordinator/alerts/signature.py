"""Signatures of webhooks by the symmetric scheme of Standard Webhooks, and the file of their secrets.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from coordinator.errors import SettingsError

_PREFIX: Final = "whsec_"
_KEY_BYTES: Final = range(24, 65)  # the lengths that the specification recommends
_MOST_BYTES: Final = 64 * 1024


def read_secrets(path: Path) -> tuple[bytes, ...]:
    """Return the keys of a file of secrets, `whsec_` and base64, one a line.

    Every alert is signed with each of them, so that a receiver can go over from one to the next. Blank lines and lines
    that begin with ``#`` are skipped. Raises SettingsError, which says nothing of the content.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise SettingsError(f"ALERT_SECRET_FILE: the file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"ALERT_SECRET_FILE: {_WANTED}") from None
    lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), start=1))
    keys = tuple(_key(line, number) for number, line in lines if line and not line.startswith("#"))
    if not keys:
        raise SettingsError(f"ALERT_SECRET_FILE: the file is empty; {_WANTED}")
    return keys


_WANTED: Final = (
    "it takes whsec_ and the base64 of 24 to 64 random bytes, as from: echo whsec_$(head -c 32 /dev/urandom | base64)"
)


def _key(line: str, number: int) -> bytes:
    encoded = line.removeprefix(_PREFIX)
    try:
        # Some tools leave out what fills up the last group.
        key = base64.b64decode(encoded.rstrip("=") + "=" * (-len(encoded.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not line.startswith(_PREFIX) or len(key) not in _KEY_BYTES:
        raise SettingsError(f"ALERT_SECRET_FILE: line {number} is no secret; {_WANTED}")
    return key


def sign(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that go with this body, sent at `timestamp` in Unix seconds."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    digests = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }
