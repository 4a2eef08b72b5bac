"""The coordinator's whole HTTP application: `/v1`, health for orchestrators, metrics, the operator's actions."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import msgspec
import structlog
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.api_error import SHOULD_RETRY_HEADER, ApiError, ErrorCode, bad_request
from contract.child_api import REQUEST_ID_HEADER
from contract.dialects import dialect_of
from contract.errors import TabfleetError
from contract.hosts import Hosts
from contract.request_id import RequestIds
from contract.routes import no_route, route_of, wrong_method
from coordinator.errors import ActionRefused, LaunchError, NoPage, PageFailed, PageSilent, UnknownChild
from coordinator.logins.pages import LoginPages
from coordinator.logins.remote import NewLogin, RemoteLogins, audit_name
from coordinator.metrics import CONTENT_TYPE
from coordinator.proxy.admission import Access
from coordinator.proxy.application import Proxy
from coordinator.proxy.headers import CLOSE, HeaderMap, encode
from coordinator.proxy.idempotency import REPLAYED_HEADER
from coordinator.proxy.pool import Pool
from coordinator.proxy.response import send_error
from coordinator.supervision.supervisor import Reconciled, Supervisor

log = structlog.get_logger(__name__)

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]
Check: TypeAlias = Callable[[HeaderMap], None]

_CODES: Final[Mapping[type[TabfleetError], ErrorCode]] = {
    UnknownChild: ErrorCode.UNKNOWN_CHILD,
    ActionRefused: ErrorCode.ACTION_REFUSED,
    LaunchError: ErrorCode.ACTION_REFUSED,
    NoPage: ErrorCode.NO_PAGE,
    PageSilent: ErrorCode.SCREENSHOT_TIMEOUT,
    PageFailed: ErrorCode.PAGE_BROKEN,
}
"""What an action's error is to its caller; every other one is RELOAD_FAILED."""

_LARGEST_BODY_BYTES: Final = 16 * 1024

_PROBES: Final = frozenset({"/live", "/ready"})

# RFC 9745: since when, in Unix seconds (2026-11-01); RFC 8288 names the successor.
_DEPRECATED: Final = {"deprecation": "@1793491200", "link": '</ready>; rel="successor-version"'}


class Fleet(Protocol):
    """What the routes show of the fleet, and what the operator can have done."""

    @property
    def ready(self) -> bool: ...
    @property
    def supervisor(self) -> Supervisor: ...
    @property
    def logins(self) -> RemoteLogins: ...
    def view(self) -> dict[str, Any]: ...
    async def reload(self) -> Reconciled: ...


class Application:
    """The ASGI application: `/v1` goes to the proxy as raw ASGI, the rest to `api`."""

    def __init__(  # noqa: PLR0913 - most by keyword
        self, proxy: Proxy, api: ASGIApp, pool: Pool, *, access: Access, hosts: Hosts, origins: Sequence[str] = ()
    ) -> None:
        """`origins` are those of pages whose scripts may call `/v1`; https://fetch.spec.whatwg.org/#http-cors-protocol."""
        self._proxy: ASGIApp = proxy
        if origins:
            self._proxy = CORSMiddleware(
                proxy,
                allow_origins=origins,
                allow_methods=("GET", "POST", "DELETE"),
                allow_headers=("*",),
                expose_headers=(REQUEST_ID_HEADER, SHOULD_RETRY_HEADER, REPLAYED_HEADER, "retry-after"),
            )
        self._api = RequestIds(api)
        self._pool = pool
        self._access = access
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = route_of(scope["path"])
        scope = {**scope, "path": path}
        # Whoever needs a key has shown that no page of a stranger asks. Probes may come by any name.
        is_open = not self._access.enforced and path not in _PROBES
        if self._hosts.loopback_only or is_open:
            try:
                self._hosts.check(scope["headers"])
            except ApiError as error:
                await send_error(send, error, secrets.token_hex(16), dialect_of(path), closing=True)
                return
        if path.startswith("/v1/") or path == "/v1":
            await self._proxy(scope, receive, send)
            return

        async def send_closing(message: Message) -> None:
            # While draining, ask the client to come with a new connection: perhaps to another server.
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *encode(CLOSE)]
            await send(message)

        await self._api(scope, receive, send_closing if self._pool.draining else send)


def build_api(
    fleet: Fleet, access: Access, metrics_text: Callable[[], bytes], *, metrics_public: bool = False
) -> Starlette:
    """Return all routes but those under `/v1`."""
    show = _Endpoints(fleet, metrics_text)
    anyone, key_holders, viewers, operators = None, access.check, access.check_viewer, access.check_operator
    app = Starlette(
        routes=[
            _route("GET HEAD", "/live", anyone, show.live),
            _route("GET HEAD", "/ready", anyone, show.ready),
            _route("GET HEAD", "/health", anyone, show.health),
            _route("GET", "/metrics", anyone if metrics_public else key_holders, show.metrics),
            _route("GET", "/openapi.json", key_holders, show.document),
            _route("POST", "/admin/reload", operators, show.reload),
            _route("POST", "/admin/logins", operators, show.begin_login),
            _route("GET", "/admin/children/{name}", viewers, show.child),
            _route("GET", "/admin/children/{name}/screenshot", viewers, show.screenshot),
            _route("POST", "/admin/children/{name}/restart", operators, _begin(lambda: fleet.supervisor.restart)),
            _route("POST", "/admin/children/{name}/reset", operators, _begin(lambda: fleet.supervisor.reset)),
            _route("POST", "/admin/children/{name}/drain", operators, _begin(lambda: fleet.supervisor.drain)),
            Mount("/login", _login_pages(fleet)),
        ],
        exception_handlers={TabfleetError: _show_error, HTTPException: _show_error},
    )
    app.router.redirect_slashes = False
    return app


class _Endpoints:
    """What the routes beside `/v1` answer."""

    def __init__(self, fleet: Fleet, metrics_text: Callable[[], bytes]) -> None:
        self._fleet = fleet
        self._metrics_text = metrics_text
        self._document = Path(__file__).with_name("openapi.json").read_bytes()
        self._deprecation_logged = False

    async def live(self, _: Request) -> Response:
        """Return 200 as long as the process serves at all."""
        return JSONResponse({"status": "live"})

    async def ready(self, _: Request) -> Response:
        """Return 200 when a request would find a page; always with the list of children."""
        # By msgspec: the standard library takes eight times as long for a thousand children.
        body = msgspec.json.encode(self._fleet.view())
        return Response(body, 200 if self._fleet.ready else 503, media_type="application/json")

    async def health(self, request: Request) -> Response:
        """Return the same under its old name."""
        if not self._deprecation_logged:
            self._deprecation_logged = True
            log.warning("deprecated_route", route="/health", use="/ready")
        response = await self.ready(request)
        response.headers.update(_DEPRECATED)
        return response

    async def metrics(self, _: Request) -> Response:
        """Return all metrics in Prometheus' text format."""
        return Response(self._metrics_text(), media_type=CONTENT_TYPE)

    async def document(self, _: Request) -> Response:
        """Return the OpenAPI document of all routes, those under `/v1` too; `python -m openapi` wrote it."""
        return Response(self._document, media_type="application/json")

    async def reload(self, _: Request) -> Response:
        """Fetch profiles and keys anew; answer when the changes have begun."""
        changed = await self._fleet.reload()
        return JSONResponse({"added": changed.added, "replaced": changed.replaced, "removed": changed.removed})

    async def begin_login(self, request: Request) -> Response:
        """Open a browser for a person to log in, and return the link to it."""
        wanted = await _read_login(request)
        key = HeaderMap(request.scope["headers"]).presented_key
        begun = await self._fleet.logins.begin(wanted, audit_name(key))
        headers = {"location": begun["link"], "cache-control": "no-store"}
        return JSONResponse(begun, 201, headers)

    async def child(self, request: Request) -> Response:
        """Return all that is known of a child, the last lines of its log included."""
        child = self._fleet.supervisor.child(request.path_params["name"])
        return JSONResponse({**child.status().private(), "last_lines": child.last_lines()})

    async def screenshot(self, request: Request) -> Response:
        """Return what the child's page shows now, as a PNG: somebody's conversation, perhaps."""
        name = request.path_params["name"]
        picture = await self._fleet.supervisor.screenshot(name)
        log.info("screenshot_shown", child=name)
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
        return Response(picture, headers=headers, media_type="image/png")


async def _read_login(request: Request) -> NewLogin:
    """Return the body of a request for a login. Raises ApiError: 415, 413, 400, which names the field."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "Send the body as Content-Type: application/json.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_BODY_BYTES:
            raise ApiError(ErrorCode.BODY_TOO_LARGE, f"The body is larger than {_LARGEST_BODY_BYTES} bytes.")
    try:
        return NewLogin.model_validate_json(bytes(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        names = [part for part in first["loc"] if part in NewLogin.model_fields]
        raise bad_request(f"The body is no request for a login: {first['msg']}.", param=str(*names[:1])) from None


def _login_pages(fleet: Fleet) -> ASGIApp:
    """Return the application below `/login`; it is made when it is first needed, as the fleet of a test has none."""
    made: list[LoginPages] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if not made:
            made.append(LoginPages(fleet.logins))
        await made[0].router(scope, receive, send)

    return app


def _begin(action: Callable[[], Callable[[str], None]]) -> Endpoint:
    """Return the endpoint that begins an action on the child in the path, and does not wait for its end."""

    async def endpoint(request: Request) -> Response:
        action()(request.path_params["name"])
        return JSONResponse({"status": "accepted"}, 202)

    return endpoint


def _route(methods: str, path: str, check: Check | None, endpoint: Endpoint) -> Route:
    """Return a route for these methods alone, whose endpoint runs only when `check` does not raise."""

    async def checked(request: Request) -> Response:
        if check is not None:
            check(HeaderMap(request.scope["headers"]))
        return await endpoint(request)

    route = Route(path, checked)
    # Not by the constructor, which adds HEAD to GET: metrics and pictures are made at a cost that HEAD throws away.
    route.methods = set(methods.split())
    return route


async def _show_error(_: Request, error: Exception) -> Response:
    """Return any error of ours, or of the framework, in OpenAI's form."""
    match error:
        case ApiError():
            shown = error
        case HTTPException(status_code=404):
            shown = no_route()
        case HTTPException(status_code=405, headers={"Allow": str(allowed)}):
            shown = wrong_method(allowed)
        case HTTPException():
            headers = dict(error.headers or {})
            shown = ApiError(ErrorCode.HTTP_ERROR, f"{error.detail}.", headers=headers, status=error.status_code)
        case _:
            code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), ErrorCode.RELOAD_FAILED)
            shown = ApiError(code, str(error))
    return Response(shown.body(), shown.status, shown.headers, media_type="application/json")
