"""The coordinator's HTTP face beside `/v1`: health for orchestrators, metrics, the operator's actions."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from contract.errors import TabfleetError
from coordinator.errors import ActionRefused, NoPage, PageFailed, PageSilent, UnknownChild
from coordinator.metrics import CONTENT_TYPE
from coordinator.proxy.admission import check_host
from coordinator.proxy.wire import CLOSE, Refusal, send_refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from coordinator.proxy.admission import Access
    from coordinator.proxy.application import Proxy
    from coordinator.proxy.pool import Pool
    from coordinator.supervision.supervisor import Reconciled, Supervisor

log = structlog.get_logger(__name__)

_READ: Final = ["GET", "HEAD"]
_SHOWN_AS: Final[Mapping[type[TabfleetError], tuple[int, str]]] = {
    UnknownChild: (404, "unknown_child"),
    ActionRefused: (409, "action_refused"),
    NoPage: (503, "no_page"),
    PageSilent: (504, "screenshot_timeout"),
    PageFailed: (502, "page_broken"),
}
# RFC 9745: since when, in Unix seconds (2026-11-01); RFC 8288 names the successor.
_DEPRECATED: Final = {"deprecation": "@1793491200", "link": '</ready>; rel="successor-version"'}


class FleetFace(Protocol):
    """What the routes show of the fleet, and what the operator can have done."""

    @property
    def ready(self) -> bool: ...
    @property
    def supervisor(self) -> Supervisor: ...
    def view(self) -> dict[str, Any]: ...
    async def reload(self) -> Reconciled: ...


class MetricsFace(Protocol):
    """What `/metrics` shows."""

    def text(self) -> bytes: ...


def build_api(fleet: FleetFace, access: Access, metrics: MetricsFace, *, metrics_public: bool = False) -> FastAPI:
    """All routes but those under `/v1`. There are no documentation routes: they would need no key."""
    app = FastAPI(title="Tabfleet coordinator", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.include_router(_health_routes(fleet))
    app.include_router(_metrics_route(access, metrics, public=metrics_public))
    app.include_router(_admin_routes(fleet, access))
    app.add_exception_handler(Refusal, _show_refusal)
    app.add_exception_handler(HTTPException, _show_http_error)
    app.add_exception_handler(TabfleetError, _show_error)
    return app


def _health_routes(fleet: FleetFace) -> APIRouter:
    router = APIRouter()
    told: list[str] = []

    @router.api_route("/live", methods=_READ)
    async def live() -> dict[str, str]:
        """200 as long as the process serves at all."""
        return {"status": "live"}

    @router.api_route("/ready", methods=_READ)
    async def ready() -> JSONResponse:
        """200 when a request would find a page; always with the list of children."""
        return JSONResponse(fleet.view(), status_code=200 if fleet.ready else 503)

    @router.api_route("/health", methods=_READ)
    async def health() -> JSONResponse:
        """The same under its old name."""
        if not told:
            told.append("once")
            log.warning("deprecated_route", route="/health", use="/ready")
        return JSONResponse(fleet.view(), status_code=200 if fleet.ready else 503, headers=_DEPRECATED)

    return router


def _metrics_route(access: Access, metrics: MetricsFace, *, public: bool) -> APIRouter:
    router = APIRouter()

    @router.get("/metrics")
    async def show(request: Request) -> Response:
        """All metrics in Prometheus' text format."""
        if not public:
            access.check(request.scope["headers"])
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return router


def _admin_routes(fleet: FleetFace, access: Access) -> APIRouter:
    async def need_key(request: Request) -> None:
        if not access.enforced:
            raise Refusal(403, "admin_off", "Admin routes are off: no API keys are set.")
        access.check(request.scope["headers"])

    router = APIRouter(prefix="/admin", dependencies=[Depends(need_key)])

    @router.post("/reload")
    async def reload() -> dict[str, Any]:
        """Fetch profiles and keys anew; answers when the changes have begun."""
        changed = await fleet.reload()
        return {"added": changed.added, "replaced": changed.replaced, "removed": changed.removed}

    @router.post("/children/{name}/restart", status_code=202)
    async def restart(name: str) -> dict[str, str]:
        """Replace the process after its running answer."""
        fleet.supervisor.restart(name)
        return {"status": "accepted"}

    @router.post("/children/{name}/reset", status_code=202)
    async def reset(name: str) -> dict[str, str]:
        """End a rest, a failure or a drain."""
        fleet.supervisor.reset(name)
        return {"status": "accepted"}

    @router.post("/children/{name}/drain", status_code=202)
    async def drain(name: str) -> dict[str, str]:
        """Take the child out after its running answer, until a reset."""
        fleet.supervisor.drain(name)
        return {"status": "accepted"}

    @router.get("/children/{name}")
    async def show(name: str) -> dict[str, Any]:
        """All that is known of a child, the last lines of its log included."""
        child = fleet.supervisor.child(name)
        return {**child.status().private(), "last_lines": child.last_lines()}

    @router.get("/children/{name}/screenshot")
    async def screenshot(name: str) -> Response:
        """What the child's page shows now, as a PNG: somebody's conversation, perhaps."""
        picture = await fleet.supervisor.screenshot(name)
        log.info("screenshot_shown", child=name)
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
        return Response(picture, media_type="image/png", headers=headers)

    return router


async def _show_refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101 - registered for it
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return Response(error.body(), error.status, headers, media_type="application/json")


async def _show_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    headers = tuple((name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items())
    return await _show_refusal(request, Refusal(error.status_code, code, f"{error.detail}.", headers=headers))


async def _show_error(request: Request, error: Exception) -> Response:
    status, code = next((shown for kind, shown in _SHOWN_AS.items() if isinstance(error, kind)), (502, "reload_failed"))
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return await _show_refusal(request, Refusal(status, code, str(error), type=kind))


class Face:
    """The whole application: `/v1` to the proxy as raw ASGI, the rest to FastAPI."""

    def __init__(self, proxy: Proxy, api: ASGIApp, pool: Pool, *, loopback_only: bool) -> None:
        self._proxy = proxy
        self._api = api
        self._pool = pool
        self._loopback_only = loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if self._loopback_only:
            try:
                check_host(scope["headers"])
            except Refusal as refusal:
                await send_refusal(send, refusal, secrets.token_hex(16), closing=True)
                return
        path: str = scope["path"]
        if path.startswith("/v1/") or path == "/v1":
            await self._proxy(scope, receive, send)
        else:
            await self._api(scope, receive, self._closing(send) if self._pool.draining else send)

    @staticmethod
    def _closing(send: Send) -> Send:
        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), CLOSE]
            await send(message)

        return closing
