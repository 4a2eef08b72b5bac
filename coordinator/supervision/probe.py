"""What the coordinator asks a child over HTTP: is it ready, and to cancel a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import aiohttp

from coordinator.errors import NoPage, PageFailed, PageSilent
from coordinator.supervision.launcher import TOKEN_HEADER
from coordinator.supervision.lifecycle import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHILD_REASONS: Final[Mapping[object, Reason]] = {
    reason.value: reason
    for reason in (
        Reason.STARTING,
        Reason.BROWSER_LOST,
        Reason.LOGIN_EXPIRED,
        Reason.PAGE_BROKEN,
        Reason.QUOTA,
    )
}


@dataclass(frozen=True)
class Probed:
    """One look at a child's `/ready`. `reason` is None exactly if it is ready."""

    reason: Reason | None
    detail: str | None = None
    busy: bool = False
    models: tuple[str, ...] | None = None
    login_expires_at: float | None = None
    capture: str | None = None
    rest_s: float | None = None

    @property
    def ok(self) -> bool:
        return self.reason is None


def read_ready(status: int, body: Any, instance_id: str) -> Probed:
    """Judge the answer of a child's `/ready`: HTTP status and parsed JSON body.

    An answer of another start, or of a stranger on the port, is `port_taken`.
    """
    if not isinstance(body, dict) or body.get("instance_id") != instance_id:
        return Probed(Reason.PORT_TAKEN, "another program answers on the child's port")
    ready = status == 200 and body.get("status") == "ready"
    reason = None if ready else _CHILD_REASONS.get(body.get("reason"), Reason.PROBE_FAILED)
    return Probed(
        reason,
        detail=_text(body.get("detail")),
        busy=body.get("busy") is True,
        models=_models(body.get("models")),
        login_expires_at=_number(body.get("login_expires_at")),
        capture=_text(body.get("capture")),
        rest_s=_number(body.get("rest_s")),
    )


def _text(value: object) -> str | None:
    return value[:500] if isinstance(value, str) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _models(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(model for model in value if isinstance(model, str))


class ChildClient:
    """HTTP from the coordinator to its children, apart from the requests of clients."""

    def __init__(
        self, *, probe_timeout_s: float = 2.0, cancel_timeout_s: float = 5.0, screenshot_timeout_s: float = 10.0
    ) -> None:
        self._probe_timeout = aiohttp.ClientTimeout(total=probe_timeout_s)
        # The child takes up to so long itself; its answer shall still arrive.
        self._cancel_timeout = aiohttp.ClientTimeout(total=cancel_timeout_s + 0.5)
        self._screenshot_timeout = aiohttp.ClientTimeout(total=screenshot_timeout_s + 0.5)
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=15)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=False)
        return self._session

    async def probe(self, url: str, instance_id: str) -> Probed:
        """Ask for readiness; whatever goes wrong is a Probed with a reason, never an error."""
        try:
            async with self._open().get(f"{url}/ready", timeout=self._probe_timeout) as response:
                body = await response.json(content_type=None)
        except TimeoutError:
            return Probed(Reason.PROBE_FAILED, "no answer from /ready in time")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Probed(Reason.PROBE_FAILED, f"/ready cannot be read ({type(error).__name__})")
        return read_ready(response.status, body, instance_id)

    async def cancel(self, url: str, token: str, request_id: str) -> bool:
        """Stop a request; True only if the child confirms that its page is on a fresh chat."""
        address = f"{url}/requests/{quote(request_id, safe='')}/cancel"
        try:
            async with self._open().post(
                address, headers={TOKEN_HEADER: token}, timeout=self._cancel_timeout
            ) as response:
                body = await response.json(content_type=None)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
            return False
        return response.status == 200 and isinstance(body, dict) and body.get("fresh") is True

    async def screenshot(self, url: str, token: str) -> bytes:
        """Return a PNG of the child's page. Raises NoPage, PageSilent, PageFailed."""
        try:
            async with self._open().get(
                f"{url}/screenshot", headers={TOKEN_HEADER: token}, timeout=self._screenshot_timeout
            ) as response:
                if response.status == 200 and response.content_type == "image/png":
                    return await response.read()
        except aiohttp.ClientConnectorError:
            raise NoPage("The child does not listen yet, or no more.") from None
        except TimeoutError:
            raise PageSilent("The child gave no picture of its page in time; it may hang.") from None
        except (aiohttp.ClientError, OSError) as error:
            raise PageFailed(f"The child gave no picture of its page ({type(error).__name__}).") from None
        if response.status == 503:
            raise NoPage("The child has no page yet.")
        if response.status == 504:
            raise PageSilent("The child's browser gave no picture of its page in time; it may hang.")
        raise PageFailed(f"The child gave no picture of its page (HTTP {response.status}).")

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
