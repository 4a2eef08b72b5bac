"""What the coordinator asks a child over HTTP for itself: cancel a request, show its page, check a site file."""

from __future__ import annotations

import json
from urllib.parse import quote

import aiohttp

from contract.child_api import (
    CANCEL_PATH,
    CANCEL_TIMEOUT_S,
    SCREENSHOT_PATH,
    TOKEN_HEADER,
)
from contract.site_check import CHECK_PATH, CheckOutcome, SiteCheck
from coordinator.errors import NoPage, PageFailed, PageSilent
from coordinator.supervision.ready_probe import ReadyProbe

_KEEP_ALIVE_S = 15.0
"""Shorter than a child's own, so that no idle connection ends just as it is used."""
_LARGEST_JSON_BYTES = 1024 * 1024  # parsed in some 20 ms
_LARGEST_PICTURE_BYTES = 64 * 1024 * 1024


class ChildClient:
    """HTTP from the coordinator to its children, apart from the requests of clients."""

    def __init__(
        self,
        *,
        probe_timeout_s: float = 2.0,
        cancel_timeout_s: float = CANCEL_TIMEOUT_S,
        screenshot_timeout_s: float = 10.0,
    ) -> None:
        self._probe_timeout_s = probe_timeout_s
        # The child takes up to so long itself; its answer shall still arrive.
        self._cancel_timeout = aiohttp.ClientTimeout(total=cancel_timeout_s + 0.5)
        self._screenshot_timeout = aiohttp.ClientTimeout(total=screenshot_timeout_s + 0.5)
        # A check of an answer takes as long as that does; the child gives it up by itself.
        self._check_timeout = aiohttp.ClientTimeout(total=None, sock_connect=probe_timeout_s)
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        # aiohttp wants its sessions made inside a running loop.
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S)
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
            )
        return self._session

    def ready_probe(self, url: str, instance_id: str) -> ReadyProbe:
        """Return what asks this start of a child whether it is ready; whoever takes it closes it."""
        return ReadyProbe(url, instance_id, timeout_s=self._probe_timeout_s)

    async def cancel(self, url: str, token: str, request_id: str) -> bool:
        """Stop a request; True only if the child confirms that its page is on a fresh chat."""
        address = url + CANCEL_PATH.format(request_id=quote(request_id, safe=""))
        try:
            async with self._open().post(
                address, headers={TOKEN_HEADER: token}, timeout=self._cancel_timeout
            ) as response:
                body = json.loads(await _read(response, _LARGEST_JSON_BYTES))
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError, RuntimeError):
            return False
        return response.status == 200 and isinstance(body, dict) and body.get("fresh") is True

    async def screenshot(self, url: str, token: str) -> bytes:
        """Return a PNG of the child's page. Raises NoPage, PageSilent, PageFailed."""
        try:
            async with self._open().get(
                f"{url}{SCREENSHOT_PATH}", headers={TOKEN_HEADER: token}, timeout=self._screenshot_timeout
            ) as response:
                if response.status == 200 and response.content_type == "image/png":
                    return await _read(response, _LARGEST_PICTURE_BYTES)
        except aiohttp.ClientConnectorError:
            raise NoPage("The child does not listen yet, or no more.") from None
        except TimeoutError:
            raise PageSilent("The child gave no picture of its page in time; it may hang.") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise PageFailed(f"The child gave no picture of its page ({type(error).__name__}).") from None
        if response.status == 503:
            raise NoPage("The child has no page yet.")
        if response.status == 504:
            raise PageSilent("The child's browser gave no picture of its page in time; it may hang.")
        raise PageFailed(f"The child gave no picture of its page (HTTP {response.status}).")

    async def check(self, url: str, token: str, file: str, text: str) -> SiteCheck:
        """Have a site file checked on the child's page; whatever goes wrong is an outcome, never an error."""
        try:
            async with self._open().post(
                url + CHECK_PATH,
                json={"file": file, "text": text},
                headers={TOKEN_HEADER: token},
                timeout=self._check_timeout,
            ) as response:
                body = json.loads(await _read(response, _LARGEST_JSON_BYTES))
            if response.status == 200 and isinstance(body, dict):
                return SiteCheck.from_json(body)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
            return SiteCheck(CheckOutcome.GIVEN_UP, f"the child gave no answer ({type(error).__name__})")
        return SiteCheck(CheckOutcome.GIVEN_UP, f"the child gave no answer (HTTP {response.status})")

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Return the body. Raises ValueError for one that is larger."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise ValueError("the child's answer is too large")
    return bytes(body)
