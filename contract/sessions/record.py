"""The format of a saved session: a JSON document, as it is or inside an age file.

1   {"source_sha256", "storage_state"}, without "format" and "version"; as run folders have it
2   "format", "version", "login", "token", "holder" and "saved_at" besides
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from contract.errors import BadProfile, reasons_only
from contract.sessions.errors import BadSession
from contract.sessions.key import SessionKey, is_encrypted
from contract.storage_state.document import MAX_PROFILE_BYTES, parse_document

FORMAT: Final = "tabfleet-session"
VERSION: Final = 2
MAX_FILE_BYTES: Final = 2 * MAX_PROFILE_BYTES
"""Armor and encryption add a third to what they hold, which is limited like a profile."""


@dataclass(frozen=True, order=True)
class Token:
    """What a start was granted: a higher number is a later one. `holder` tells two coordinators with one number apart.

    (0, "") is below all that are granted.
    """

    number: int = 0
    holder: str = ""


@dataclass(frozen=True)
class SavedSession:
    """A browser's storage_state of a login, and the version of the profile that it came of (SHA-256 of its file).

    `saved_at` is in Unix seconds; `login` is the profile's name, "" in format 1.
    """

    login: str
    source_sha256: str
    state: dict[str, Any] = field(repr=False)
    token: Token = Token()
    saved_at: float = 0.0

    def to_bytes(self, key: SessionKey | None) -> bytes:
        """Return the file's content, encrypted if there is a key."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "login": self.login,
            "token": self.token.number,
            "holder": self.token.holder,
            "saved_at": self.saved_at,
            "source_sha256": self.source_sha256,
            "storage_state": self.state,
        }
        data = json.dumps(document).encode()
        return data if key is None else key.encrypt(data)

    @classmethod
    def from_bytes(cls, data: bytes, key: SessionKey | None) -> SavedSession:
        """Read a file's content, of this format or the older one. Raises BadSession.

        What is not encrypted is read with a key too: it was saved before there was one.
        """
        if len(data) > MAX_FILE_BYTES:
            raise BadSession(f"is larger than the {MAX_FILE_BYTES} bytes a saved session may have; remove it")
        if is_encrypted(data):
            if key is None:
                raise BadSession("is encrypted; set SESSION_KEY_FILE")
            data = key.decrypt(data)
        try:
            with reasons_only():
                document = parse_document(data)
        except BadProfile as error:
            raise BadSession(f"{error.reason}; remove it") from None
        return _from_document(document)


class _Fields(TypedDict):
    login: str
    source_sha256: str
    storage_state: dict[str, Any]
    token: Annotated[int, Field(ge=0, lt=10**18)]
    holder: Annotated[str, Field(pattern=r"^[0-9a-f]{0,32}$")]
    saved_at: Annotated[float, Field(allow_inf_nan=False)]


_FIELDS: Final = TypeAdapter(_Fields)


def _from_document(document: Any) -> SavedSession:
    if not isinstance(document, dict) or not {"source_sha256", "storage_state"} <= document.keys():
        newer = isinstance(document, dict) and document.get("format") == FORMAT
        raise BadSession(_newer(document) if newer else "is no saved session; remove it")
    if document.get("format", FORMAT) != FORMAT:
        raise BadSession("is no saved session; remove it")
    version = document.get("version", 1)
    if version not in (1, VERSION) or isinstance(version, bool):
        raise BadSession(_newer(document))
    fields: dict[str, Any] = {"login": "", "token": 0, "holder": "", "saved_at": 0.0} if version == 1 else {}
    fields |= document
    try:
        read = _FIELDS.validate_python(fields, strict=True)
    except ValidationError:  # its text may hold a cookie
        raise BadSession("has a field of the wrong kind; remove it") from None
    token = Token(read["token"], read["holder"])
    return SavedSession(read["login"], read["source_sha256"], read["storage_state"], token, read["saved_at"])


def _newer(document: dict[str, Any]) -> str:
    version = document.get("version")
    known = f"this version of Tabfleet knows up to {VERSION}"
    return f"has format {version if type(version) is int else 'unknown'}, {known}; go back to the newer, or remove it"
