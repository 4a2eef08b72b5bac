"""The key of the session store: age identities, in a file as `age-keygen` writes it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from contract.files import NotRegular, read_regular
from contract.sessions.errors import BadSession, SessionKeyError

BINARY: Final = b"age-encryption.org/v1\n"
"""How an age file begins: https://age-encryption.org/v1"""
ARMORED: Final = b"-----BEGIN AGE ENCRYPTED FILE-----"

_MOST_BYTES: Final = 64 * 1024
_PREFIX: Final = "AGE-SECRET-KEY-1"


def _pyrage() -> Any:
    """Import it for those who have a key: it takes 1 MB, of each child, and few have encrypted sessions."""
    import pyrage  # type: ignore[import-untyped]  # noqa: PLC0415

    return pyrage


def is_encrypted(data: bytes) -> bool:
    """Return whether these bytes are an age file, binary or armored."""
    return data.startswith((BINARY, ARMORED))


@dataclass(frozen=True)
class SessionKey:
    """X25519 identities: the first encrypts, each decrypts, so that a key is changed by putting a new one in front."""

    identities: tuple[Any, ...] = field(repr=False)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read an identity file: an identity a line, comments with #. Raises SessionKeyError."""
        try:
            text, _ = read_regular(path, _MOST_BYTES)
        except NotRegular as error:
            raise SessionKeyError(str(error)) from None
        except OSError as error:
            raise SessionKeyError(f"cannot be read: {error.strerror}") from None
        if len(text) > _MOST_BYTES:
            raise SessionKeyError(f"is larger than the {_MOST_BYTES} bytes a file of age identities may have")
        return cls.from_text(text.decode("utf-8-sig", "replace"))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the identities of such a file. Raises SessionKeyError, which names lines and never shows one."""
        pyrage, identities = _pyrage(), []
        for number, line in enumerate(map(str.strip, text.splitlines()), 1):
            if not line or line.startswith("#"):
                continue
            if not line.startswith(_PREFIX):
                raise SessionKeyError(f"line {number} is no age identity {_PREFIX}...; make one with age-keygen")
            try:
                identities.append(pyrage.x25519.Identity.from_str(line))
            except pyrage.IdentityError:
                raise SessionKeyError(f"line {number} is a damaged age identity; copy the file again") from None
        if not identities:
            raise SessionKeyError("holds no age identity; make one with age-keygen")
        return cls(tuple(identities))

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The beginnings of SHA-256 of the public keys, in the order of the identities: no secret."""
        return tuple(
            hashlib.sha256(str(identity.to_public()).encode()).hexdigest()[:16] for identity in self.identities
        )

    def encrypt(self, data: bytes) -> bytes:
        """Return an age file that these identities can read."""
        encrypted: bytes = _pyrage().encrypt(data, [self.identities[0].to_public()])
        return encrypted

    def is_newest(self, data: bytes) -> bool:
        """Return whether these bytes are encrypted, and for the identity that encrypts now."""
        if not is_encrypted(data):
            return False
        pyrage = _pyrage()
        try:
            pyrage.decrypt(data, [self.identities[0]])
        except pyrage.DecryptError:
            return False
        return True

    def decrypt(self, data: bytes) -> bytes:
        """Return what an age file holds. Raises BadSession if it is damaged, or for another key."""
        pyrage = _pyrage()
        try:
            decrypted: bytes = pyrage.decrypt(data, list(self.identities))
        except pyrage.DecryptError as error:
            if "No matching keys" in str(error):
                raise BadSession("is encrypted for another key; add that one to the file of SESSION_KEY_FILE") from None
            raise BadSession("is a damaged age file; remove it") from None
        return decrypted
