"""Files that people put in place of a profile, recognised so that the reason can say what happened."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final

_BINARY: Final = (
    (b"\x1f\x8b", "is compressed with gzip; unpack it"),
    (b"PK\x03\x04", "is a zip archive; unpack it"),
    (b"SQLite format 3\x00", "is a browser's cookie database (SQLite), not a storage_state"),
    (b"\xff\xfe\x00\x00", "is UTF-32 text; save it as UTF-8"),
    (b"\x00\x00\xfe\xff", "is UTF-32 text; save it as UTF-8"),
    (b"\xff\xfe", "is UTF-16 text; save it as UTF-8"),
    (b"\xfe\xff", "is UTF-16 text; save it as UTF-8"),
)
_TEXT: Final = (
    (r"# (Netscape )?HTTP Cookie File", "is a Netscape cookies.txt, not a storage_state"),
    (r"version https://git-lfs\.github\.com/", "is a Git LFS pointer; fetch the file itself"),
    (r"\$ANSIBLE_VAULT;", "is encrypted with Ansible Vault; decrypt it"),
    (r"-----BEGIN AGE ENCRYPTED FILE-----|age-encryption\.org/", "is encrypted with age; decrypt it"),
    (r"-----BEGIN PGP MESSAGE-----", "is encrypted with PGP; decrypt it"),
    (r"<\?xml|<Error>", "is an XML document, perhaps a storage service's error"),
    (r"<", "is an HTML page, not a storage_state"),
)
_BASE64_JSON: Final = re.compile(r"(ey|ew|W3)[A-Za-z0-9+/=\s]*\Z")


def binary_lookalike(data: bytes) -> str | None:
    """Return what the bytes are, if they are a known format that is not UTF-8 text."""
    return next((reason for magic, reason in _BINARY if data.startswith(magic)), None)


def text_lookalike(text: str) -> str | None:
    """Return what the text is, if it is a known format that is not JSON."""
    start = text.lstrip()
    for pattern, reason in _TEXT:
        if re.match(pattern, start, re.IGNORECASE):
            return reason
    return "is base64; decode it" if _is_base64_json(start) else None


def json_lookalike(document: Any) -> str | None:
    """Return what the JSON document is, if it is a known format that is not a storage_state."""
    if (
        isinstance(document, list)
        and document
        and all(isinstance(item, dict) and {"name", "value"} <= item.keys() for item in document)
    ):
        return "is a bare list of cookies, as browser extensions export them; save it with Playwright's storage_state"
    if isinstance(document, dict) and "sops" in document:
        return "is encrypted with SOPS; decrypt it"
    if isinstance(document, dict) and isinstance(document.get("log"), dict) and "entries" in document["log"]:
        return "is a HAR recording, not a storage_state"
    return None


def _is_base64_json(text: str) -> bool:
    if not _BASE64_JSON.match(text):
        return False
    try:
        return base64.b64decode("".join(text.split()), validate=True).lstrip()[:1] in {b"{", b"["}
    except binascii.Error:
        return False
