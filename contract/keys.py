"""API keys: read from a file, compared in constant time.

A key file has one key a line; blank lines and lines that start with ``#`` are skipped. A line
``sha256:<64 hex digits>`` accepts the key with that SHA-256, so that the file need not hold the key. After either
may stand its role, ``role=view`` or ``role=operate``; without one it is ``role=call``.

For the coordinator the first of these that applies counts:

1. ``AUTH_KEY_FILE_PATH``, set by the operator;
2. the copy that hydration made;
3. ``auth_profiles/key.txt`` under the working directory, if there is one.

It writes the digests of the keys in force to a file of its own and hands that on to its children as
``KEY_FILE_PATH``. A child that is started without a coordinator goes by the ``KEY_FILE_PATH`` it is given, else by
the default file. A child follows its file: one that is replaced counts from the next request on.

A path that is given but cannot be read is an error, never an empty new file. A file without keys is
valid and means that no key is asked for; one that loses its keys while a process runs does not open the API.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Final

import structlog

from contract.api_error import ApiError, ErrorCode
from contract.errors import TabfleetError

log = structlog.get_logger(__name__)

DEFAULT_KEY_FILE: Final = Path("auth_profiles/key.txt")
MAX_KEY_FILE_BYTES: Final = 1024 * 1024
_CHALLENGE: Final = {"www-authenticate": "Bearer"}  # RFC 9110, section 11.6.1: every 401 has one
_DIGEST: Final = re.compile(r"sha256:(?P<digest>[0-9a-f]{64})\Z", re.ASCII | re.IGNORECASE)


class Role(Enum):
    """What a key may be used for; each role includes those before it.

    `CALL` is the API under ``/v1``, `VIEW` also what pages show and what children log, `OPERATE` also actions on them.
    """

    CALL = "call"
    VIEW = "view"
    OPERATE = "operate"

    def includes(self, other: Role) -> bool:
        """Return whether a key of this role may do what needs the other one."""
        return _ORDER[self] >= _ORDER[other]


_ORDER: Final = {role: place for place, role in enumerate(Role)}
_ROLES: Final = {f"role={role.value}": role for role in Role}
_ROLE_WORDS: Final = ", ".join(_ROLES)


class KeyFileError(TabfleetError):
    """A key file cannot be used; the message names the file, the cause and the cure, never a key."""


class KeyStore:
    """An immutable set of accepted keys, each with its role; they are kept as SHA-256 digests only."""

    def __init__(self, roles: Mapping[bytes, Role] | None = None) -> None:
        """`roles` gives each key's role by its digest."""
        self._roles = dict(roles or {})

    @classmethod
    def from_file(cls, path: Path) -> KeyStore:
        """Read a key file. Raises KeyFileError when it is missing, unreadable or malformed."""
        roles: dict[bytes, Role] = {}
        for number, line in enumerate(map(str.strip, _read(path).replace("\r\n", "\n").split("\n")), start=1):
            if not line or line.startswith("#"):
                continue
            where = f"key file {path.name}, line {number}"
            # No message repeats a word of the line: it may be a part of a key.
            key, *words = re.split("[ \t]+", line)
            role_word = words[0] if words else f"role={Role.CALL.value}"
            if key.startswith("role="):
                raise KeyFileError(f"{where}: there is no key before the role")
            if len(words) > 1 or not role_word.startswith("role=") or not key.isprintable():
                raise KeyFileError(
                    f"{where}: a key has no spaces or control characters, and only its role may follow it"
                    f" ({_ROLE_WORDS})"
                )
            role = _ROLES.get(role_word)
            if role is None:
                raise KeyFileError(f"{where}: there is no such role; a key has one of {_ROLE_WORDS}")
            digest = _digest_of(key, where)
            if roles.setdefault(digest, role) is not role:
                raise KeyFileError(f"{where}: this key stands further up with another role; delete one of the two")
        return cls(roles)

    def __bool__(self) -> bool:
        return bool(self._roles)

    def __len__(self) -> int:
        return len(self._roles)

    def to_text(self) -> str:
        """Return a key file that accepts the same keys, all as ``role=call``, and does not hold them.

        A coordinator's children get this: what needs more than `Role.CALL` is asked of the coordinator.
        """
        return "".join(sorted(f"sha256:{digest.hex()}\n" for digest in self._roles))

    def has(self, needed: Role) -> bool:
        """Return whether there is any key whose role includes `needed`."""
        return any(role.includes(needed) for role in self._roles.values())

    def role_of(self, presented: str) -> Role | None:
        """Return the role of this key, None if it is not accepted. Takes the same time whichever matches, or none."""
        # HTTP's headers are bytes, which servers hand over as Latin-1; a key that is not ASCII is sent as UTF-8.
        sent = {presented.encode("utf-8", "surrogatepass")}
        if not presented.isascii():
            with contextlib.suppress(UnicodeEncodeError):
                sent.add(presented.encode("latin-1"))
        digests = [hashlib.sha256(key).digest() for key in sent]
        # Every digest is compared: stopping at a match would tell how far down the file it stands.
        matches = [
            role for known, role in self._roles.items() if sum(hmac.compare_digest(digest, known) for digest in digests)
        ]
        return matches[0] if matches else None

    def verify(self, presented: str) -> bool:
        """Return whether this key is accepted, whatever its role."""
        return self.role_of(presented) is not None


class FollowedKeys:
    """The keys of a file that may be replaced while this process runs; without a file there are none."""

    def __init__(self, path: Path | None) -> None:
        """Read the file. Raises KeyFileError."""
        self._path = path
        self._version = self._version_now()
        self._keys = KeyStore() if path is None else KeyStore.from_file(path)

    def current(self) -> KeyStore:
        """Return the keys in force. A file that has become unusable, or lost all its keys, leaves them as they are."""
        version = self._version_now()
        if self._path is None or version == self._version:
            return self._keys
        self._version = version
        try:
            keys = KeyStore.from_file(self._path)
        except KeyFileError as error:
            log.warning("keys_kept", reason=str(error))
            return self._keys
        if self._keys and not keys:
            log.warning("keys_kept", reason=f"key file {self._path.name} has no keys any more")
            return self._keys
        log.info("keys_read", keys=len(keys))
        self._keys = keys
        return keys

    def _version_now(self) -> tuple[int, ...] | None:
        """Return what differs after the file was replaced or rewritten; None if there is none to be seen."""
        try:
            status = self._path.stat() if self._path is not None else None
        except OSError:
            return None
        return status and (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


def presented_key(authorization: str | None, x_api_key: str | None) -> str | None:
    """Return the key a request carries, if any: ``Authorization: Bearer KEY`` (RFC 6750) or ``X-API-Key: KEY``."""
    scheme, _, credentials = (authorization or "").strip().partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    return (x_api_key or "").strip() or None


def check_key(keys: KeyStore, key: str | None, needed: Role | None) -> None:
    """Raise ApiError unless this key may do what is asked: 401 without an accepted one, 403 without the role.

    `needed` is the role for what is not everybody's where no keys are set; None is for what is.
    """
    if not keys:
        if needed is not None:
            raise lacks_role(keys, needed)
        return
    if key is None:
        message = "No API key: send Authorization: Bearer KEY, or X-API-Key."
        raise ApiError(ErrorCode.MISSING_API_KEY, message, headers=_CHALLENGE)
    role = keys.role_of(key)
    if role is None:
        raise ApiError(ErrorCode.INVALID_API_KEY, "This API key is not accepted here.", headers=_CHALLENGE)
    if needed is not None and not role.includes(needed):
        raise lacks_role(keys, needed)


def lacks_role(keys: KeyStore, needed: Role) -> ApiError:
    """Return the error for a caller without a key of this role; where nobody can have one, it says so."""
    if keys.has(needed):
        return ApiError(ErrorCode.ROLE_MISSING, f"This route takes an API key with role={needed.value}.")
    message = (
        f"This route is off: no API key has role={needed.value}. Whoever runs the server can put that after a key."
    )
    return ApiError(ErrorCode.ADMIN_OFF, message)


def default_key_file() -> Path | None:
    """Return the default key file, None if there is none. Raises KeyFileError if we may not know."""
    try:
        return DEFAULT_KEY_FILE if DEFAULT_KEY_FILE.exists() else None
    except OSError as error:
        raise KeyFileError(
            f"whether there is a key file {DEFAULT_KEY_FILE} cannot be seen by uid {os.getuid()}: {error.strerror};"
            " check the folders on the way, or name another file"
        ) from None


def _digest_of(key: str, where: str) -> bytes:
    """Return the SHA-256 of a line's key. Raises KeyFileError for a digest that is none."""
    if not key.lower().startswith("sha256:"):
        return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
    match = _DIGEST.match(key)
    if match is None:
        raise KeyFileError(f"{where}: sha256: takes exactly 64 hex digits")
    return bytes.fromhex(match["digest"])


def _read(path: Path) -> str:
    try:
        if not path.is_file():
            raise KeyFileError(
                f"key file {path} is missing or not a file; create it or unset the variable that names it"
            )
        if path.stat().st_size > MAX_KEY_FILE_BYTES:
            raise KeyFileError(f"key file {path.name} is larger than {MAX_KEY_FILE_BYTES} bytes; is it the right file?")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise KeyFileError(f"key file {path.name} is not UTF-8 text; save it as UTF-8, one key a line") from None
    except OSError as error:
        cause = error.strerror or type(error).__name__
        raise KeyFileError(
            f"key file {path} cannot be read by uid {os.getuid()}: {cause}; check its mode and owner"
        ) from None
