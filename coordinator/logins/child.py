"""What the coordinator asks a child that shows its browser to a person; see `contract.remote_login`."""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp

from contract.child_api import TOKEN_HEADER
from contract.errors import TabfleetError
from contract.remote_login import (
    DOCUMENT_PATH,
    DONE_PATH,
    INPUT_PATH,
    PICTURE_HEADER,
    PICTURE_PATH,
    STATE_HEADER,
    STATE_PATH,
    WAIT_S,
    LoginState,
)
from contract.storage_state.document import MAX_PROFILE_BYTES

_ANSWER_S = WAIT_S + 10.0
_ACT_S = 60.0  # what is typed into a page that hangs
_LARGEST_PICTURE_BYTES = 16 * 1024 * 1024


class ChildSilent(TabfleetError):
    """The child does not listen yet, or no more, or says what is none of ours."""


@dataclass(frozen=True)
class Picture:
    """A JPEG with its number; without data there is no newer one than was asked for."""

    state: LoginState
    number: int = 0
    jpeg: bytes = b""


class LoginChild:
    """HTTP to one child. Every call raises ChildSilent where the child gives no such answer."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._headers = url, {TOKEN_HEADER: token}
        self._session: aiohttp.ClientSession | None = None

    async def picture(self, newer_than: int, state: int) -> Picture:
        """Wait for a picture or a state newer than these; return what there is after WAIT_S seconds at most."""
        path = f"{PICTURE_PATH}?picture={newer_than}&state={state}"
        _, headers, body = await self._ask("GET", path, largest_bytes=_LARGEST_PICTURE_BYTES)
        try:
            number = int(headers[PICTURE_HEADER]) if body else 0
            return Picture(LoginState.from_json(headers[STATE_HEADER]), number, body)
        except (ValueError, KeyError):
            raise ChildSilent from None

    async def state(self, newer_than: int) -> LoginState:
        """Wait for a state newer than this; return the present one after WAIT_S seconds at most."""
        _, _, body = await self._ask("GET", f"{STATE_PATH}?state={newer_than}")
        try:
            return LoginState.from_json(body.decode())
        except ValueError:
            raise ChildSilent from None

    async def document(self) -> bytes:
        """Return the login that the state says is SAVED: the JSON of a storage_state."""
        _, _, body = await self._ask("GET", DOCUMENT_PATH, largest_bytes=MAX_PROFILE_BYTES)
        return body

    async def act(self, body: bytes) -> bool:
        """Pass on what the person did; return whether the child could read it."""
        status, _, _ = await self._ask("POST", INPUT_PATH, body)
        return status < 400

    async def done(self) -> None:
        """Have the child look whether the page is logged in."""
        await self._ask("POST", DONE_PATH, b"")

    async def _ask(
        self, method: str, path: str, body: bytes | None = None, *, largest_bytes: int = 64 * 1024
    ) -> tuple[int, dict[str, str], bytes]:
        timeout = aiohttp.ClientTimeout(total=_ANSWER_S if body is None else _ACT_S)
        try:
            async with self._open().request(
                method, self._url + path, data=body, headers=self._headers, timeout=timeout
            ) as response:
                read = bytearray()
                async for chunk in response.content.iter_any():
                    read += chunk
                    if len(read) > largest_bytes:
                        raise ChildSilent
                if response.status >= 400 and method == "GET":
                    raise ChildSilent
                return response.status, {name.lower(): value for name, value in response.headers.items()}, bytes(read)
        except (TimeoutError, aiohttp.ClientError, OSError, RuntimeError):
            raise ChildSilent from None

    def _open(self) -> aiohttp.ClientSession:
        # aiohttp wants its sessions made inside a running loop.
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
