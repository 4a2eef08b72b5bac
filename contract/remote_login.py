"""HTTP between the coordinator and a child that shows its browser to a person who logs in, and what that person sends.

A child started with `--remote-login` serves these paths to the coordinator, which shows its control token:

GET   PICTURE_PATH?picture=N&state=M  waits until there is a picture or a state newer than these, WAIT_S at most: 200
                                      with a JPEG, or 204 where only the state is new, or nothing; STATE_HEADER has
                                      the state
GET   STATE_PATH?state=M              waits likewise for a newer state: JSON
POST  INPUT_PATH                      a JSON array of what the person did, as in `browser.page.remote_input`; 204
POST  DONE_PATH                       looks whether the page is logged in now; the state says what it found; 204
GET   DOCUMENT_PATH                   the login, a storage_state, as soon as the phase is SAVED; else 404
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final, Self

PICTURE_PATH: Final = "/login/picture"
STATE_PATH: Final = "/login/state"
INPUT_PATH: Final = "/login/input"
DONE_PATH: Final = "/login/done"
DOCUMENT_PATH: Final = "/login/document"
STATE_HEADER: Final = "x-login-state"
PICTURE_HEADER: Final = "x-login-picture"

WAIT_S: Final = 20.0
"""How long a request waits for something new: less than what proxies wait for an answer."""
MAX_INPUT_BYTES: Final = 64 * 1024


class LoginPhase(StrEnum):
    """How far a login is; all but the first three are final."""

    OPENING = "opening"
    OPEN = "open"
    TRYING = "trying"
    SAVED = "saved"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """Whether there is no browser any more that could be used."""
        return self not in (LoginPhase.OPENING, LoginPhase.OPEN, LoginPhase.TRYING)


@dataclass(frozen=True)
class LoginState:
    """What is shown beside the picture.

    `number` grows with each change. `host` and `title` tell which page is shown, `detail` is a line for the person.
    `width` and `height` are the page's, in CSS pixels: positions that are sent count in these, whatever the picture's
    own size.
    """

    phase: LoginPhase = LoginPhase.OPENING
    number: int = 0
    detail: str | None = None
    host: str = ""
    title: str = ""
    width: int = 0
    height: int = 0

    def to_json(self) -> str:
        """Return it as JSON in ASCII, which a header can hold."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what `to_json` gave. Raises ValueError for anything else."""
        try:
            found: Mapping[str, Any] = json.loads(text)
            return cls(**{**found, "phase": LoginPhase(found["phase"])})
        except (TypeError, LookupError, RecursionError) as error:
            raise ValueError("is no state of a login") from error
