"""The API as raw ASGI: a request of any dialect goes to a page, `/v1/models` is answered here.

No framework stands between the socket and the child: a chunk costs one call, and the bytes stay as they are.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import structlog
from starlette.types import Receive, Scope, Send

from contract.api_error import ApiError, ErrorCode, to_json, unavailable
from contract.child_api import REQUEST_ID_HEADER
from contract.dialects import DIALECTS, dialect_of
from contract.dialects.dialect import Dialect
from contract.dialects.messages import COUNT_TOKENS_PATH
from contract.dialects.responses import RESPONSES
from contract.models import model_card, model_list, model_not_found
from contract.routes import MODELS_PATH, no_route, wrong_method
from coordinator.proxy.admission import Access, BodyLimits, BodyReader, ChatBody
from coordinator.proxy.exchange import (
    ChatRequest,
    Children,
    Exchange,
    Limits,
    Outcome,
    ProxyContext,
    Repeat,
    RequestStats,
    server_draining,
)
from coordinator.proxy.headers import CLOSE, HOP_HEADER, HeaderMap, Headers, encode
from coordinator.proxy.idempotency import (
    REPLAYED_HEADER,
    Reader,
    Record,
    RecordLimits,
    Records,
    read_key,
    record_name,
)
from coordinator.proxy.interrupt import Cause
from coordinator.proxy.pool import Pool
from coordinator.proxy.repeats import Failures
from coordinator.proxy.response import Connection, Response, send_error, send_json
from coordinator.proxy.response_store import ResponseStore, StoreLimits
from coordinator.proxy.responses import ITEMS_PATH, Responses
from coordinator.proxy.upstream import Upstream
from coordinator.proxy.without_page import ask_any_child

log = structlog.get_logger(__name__)

CONNECTION: Final = "tabfleet.connection"
"""The ASGI extension that is the request's connection, a `RequestConnection`."""

ALIAS_OWNER: Final = "tabfleet"
_ITEMS: Final = f"{RESPONSES.path}/*{ITEMS_PATH}"
_START_RETRY_S: Final = 5.0


class RequestConnection(Connection, Protocol):
    """What a request came by, and its response goes by."""

    @property
    def has_whole_body(self) -> bool:
        """Whether all of the request's body has come, so that nobody waits for it."""


class RequestDone(NamedTuple):
    """One chat request, told to the hooks when its answer and its lease have ended. Times in seconds."""

    request_id: str
    stats: RequestStats
    duration_s: float


@dataclass(frozen=True)
class ProxyConfig:
    """What the proxy goes by. `owner` is CHAT_SITE's name, the owner of models in `/v1/models` without a fleet file.

    `is_cell` says that this is one of several coordinators behind a balancer, whose HOP_HEADER counts.
    """

    limits: Limits
    bodies: BodyLimits
    owner: str
    responses: StoreLimits = field(default_factory=StoreLimits)
    records: RecordLimits = field(default_factory=RecordLimits)
    is_cell: bool = False


class _Call(NamedTuple):
    """One call of a route: what ASGI gives, and what is noted of it. `began` is in the loop's time."""

    scope: Scope
    headers: HeaderMap
    receive: Receive
    send: Send
    request_id: str
    began: float
    stats: RequestStats

    @property
    def connection(self) -> RequestConnection:
        """The connection that it came by."""
        connection: RequestConnection = self.scope["extensions"][CONNECTION]
        return connection


@dataclass(frozen=True)
class _Route:
    """One path of the API and the methods that it takes; those that ask a page have a dialect."""

    methods: tuple[str, ...]
    handle: Callable[[_Call], Awaitable[None]]
    dialect: Dialect | None = None


class Proxy:
    """Everything under `/v1`. Make it inside a running loop."""

    def __init__(
        self,
        *,
        pool: Pool,
        children: Children,
        access: Access,
        config: ProxyConfig,
        on_done: Callable[[RequestDone], None] = lambda _: None,
    ) -> None:
        # A path that ends with a slash stands for all that begin with it.
        self._routes: Mapping[str, _Route] = {
            **{path: _Route(("POST",), self._ask_page, dialect) for path, dialect in DIALECTS.items()},
            COUNT_TOKENS_PATH: _Route(("POST",), self._count_tokens),
            MODELS_PATH: _Route(("GET",), self._show_models),
            f"{MODELS_PATH}/": _Route(("GET",), self._show_models),
            f"{RESPONSES.path}/": _Route(("GET", "DELETE"), self._kept_response),
            _ITEMS: _Route(("GET",), self._kept_response),
        }
        self._pool, self._access, self._config, self._on_done = pool, access, config, on_done
        self._bodies = BodyReader(config.bodies)
        self._responses = Responses(ResponseStore(config.responses), config.bodies.max_bytes)
        self._upstream = Upstream()
        self._failures, self._records = Failures(), Records(config.records)
        self._context = ProxyContext(pool, children, self._upstream, config.limits, self._failures)
        self._running: set[Exchange] = set()
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._models: Mapping[str, str] = {}
        self._now = asyncio.get_running_loop().time

    @property
    def in_flight(self) -> int:
        """Chat requests that have been admitted and have not ended."""
        return self._in_flight

    async def wait_idle(self) -> None:
        """Return as soon as no chat request is in flight."""
        await self._idle.wait()

    def cancel_all(self) -> None:
        """End every running request with an error, as its client can understand it."""
        for exchange in tuple(self._running):
            exchange.interrupt(Cause.SHUTDOWN)

    async def close(self) -> None:
        """Close the connections to the children."""
        await self._upstream.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        route = self._routes.get(path) or self._route_below(path)
        call = _Call(
            scope, HeaderMap(scope["headers"]), receive, send, secrets.token_hex(16), self._now(), RequestStats()
        )
        try:
            await self._dispatch(call, route)
        except ApiError as error:
            call.stats.outcome, call.stats.code = Outcome.REFUSED, error.code
            await send_error(send, error, call.request_id, dialect_of(path), closing=self._pool.draining)
        finally:
            if route is not None and route.dialect is not None:
                self._on_done(RequestDone(call.request_id, call.stats, self._now() - call.began))

    def _route_below(self, path: str) -> _Route | None:
        """Return the route of what has a name of its own below a path; a model's may have slashes in it."""
        parent = path[: path.find("/", len("/v1/")) + 1]
        has_items = parent == f"{RESPONSES.path}/" and path.endswith(ITEMS_PATH)
        return self._routes.get(_ITEMS if has_items else parent)

    async def _dispatch(self, call: _Call, route: _Route | None) -> None:
        self._access.check(call.headers)
        if route is None:
            raise no_route()
        if call.scope["method"] not in route.methods:
            raise wrong_method(", ".join(route.methods))
        await route.handle(call)

    async def _ask_page(self, call: _Call) -> None:
        headers, dialect = call.headers, dialect_of(call.scope["path"])
        key = read_key(headers)
        if key is None:  # else it may be the repeat of one that has been admitted
            self._refuse_when_draining()
        body = await self._bodies.read(headers, call.receive, dialect, is_here=call.connection.has_whole_body)
        if body is None:
            call.stats.outcome = Outcome.CLIENT_LEFT
            return
        self._in_flight += 1
        self._idle.clear()
        try:
            if key is None:
                self._failures.check(headers, dialect.path, body.came)
                await self._answer(call, dialect, body)
            else:
                await self._answer_once(call, dialect, body, key)
        finally:
            self._bodies.release(body)
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def _answer_once(self, call: _Call, dialect: Dialect, body: ChatBody, key: bytes) -> None:
        """Answer the first request with this key, whether its client stays or not, and all others with that answer."""
        name = record_name(call.headers, dialect.path, key)
        record, is_first = self._records.open(name, body.came, call.request_id, call.stats)
        if not is_first:
            call.stats.repeat = Repeat.REPLAYED if record.ended else Repeat.JOINED
            log.info("answer_repeated", request=call.request_id, first=record.request_id, how=call.stats.repeat)
            stayed = await self._play(Reader(record), call)
            call.stats.outcome, call.stats.code = (
                (record.stats.outcome, record.stats.code) if stayed else (Outcome.CLIENT_LEFT, Cause.CLIENT_LEFT)
            )
            return
        playing = asyncio.create_task(self._play(Reader(record), call), name="first-reader")
        try:
            await self._answer(call._replace(send=record.send), dialect, body, record)
        except ApiError as error:
            record.refuse(error)
            playing.cancel()
            raise
        finally:
            self._records.end(record, keep=call.stats.outcome is Outcome.ANSWERED or call.stats.submitted)
        await playing

    async def _play(self, reader: Reader, call: _Call) -> bool:
        """Send an answer to its client; return whether that stayed. Raises ApiError in place of an answer."""

        def more() -> Headers:
            replayed = {REPLAYED_HEADER: "true"} if call.stats.repeat else {}
            return encode({**replayed, **(CLOSE if self._pool.draining else {})})

        try:
            return await reader.play(call.send, call.connection, more)
        finally:
            self._records.tidy()

    async def _answer(self, call: _Call, dialect: Dialect, body: ChatBody, record: Record | None = None) -> None:
        """Answer a request, to its client or to a record; keep a response that may be continued."""
        if dialect is not RESPONSES:
            await self._exchange(call, dialect, body, record)
            return
        connection = record or call.connection
        turn = self._responses.begin(call.headers, body, call.send, connection)
        try:
            with self._bodies.holding(turn.held_bytes):
                await self._exchange(call._replace(send=turn.send), dialect, turn.body, record)
        finally:
            if call.stats.outcome is Outcome.CLIENT_LEFT:
                turn.forget_unsent()
            elif call.stats.outcome is not Outcome.ANSWERED:
                turn.forget()

    async def _exchange(self, call: _Call, dialect: Dialect, body: ChatBody, record: Record | None) -> None:
        may_wait = not (self._config.is_cell and call.headers.get(HOP_HEADER) is not None)
        self._check_model(body.model, is_last=may_wait)
        self._refuse_when_draining()  # again: the body may have taken its time
        connection = record or call.connection
        response = Response(
            call.send, connection, call.request_id, dialect, lambda: record is None and self._pool.draining
        )
        request = ChatRequest(call.request_id, dialect.path, call.headers, body, call.began, may_wait)
        exchange = Exchange(self._context, request, response, call.stats)
        self._running.add(exchange)
        try:
            await exchange.run()
        except ApiError:
            raise
        except Exception:
            log.exception("proxy_failed")
            await exchange.fail_internally()
        finally:
            self._running.discard(exchange)

    async def _count_tokens(self, call: _Call) -> None:
        self._refuse_when_draining()
        path, headers, dialect = call.scope["path"], call.headers, dialect_of(call.scope["path"])
        body = await self._bodies.read(headers, call.receive, dialect, is_here=call.connection.has_whole_body)
        if body is None:
            return
        try:
            self._check_model(body.model)
            connection = call.connection
            response = Response(call.send, connection, call.request_id, dialect, lambda: self._pool.draining)
            request = ChatRequest(call.request_id, path, headers, body, call.began)
            await ask_any_child(self._pool, self._upstream, request, response)
        finally:
            self._bodies.release(body)

    async def _show_models(self, call: _Call) -> None:
        name = call.scope["path"].removeprefix(MODELS_PATH).removeprefix("/")
        known = self._known_models()
        if name:
            self._check_model(name)
        shown = model_card(name, known.get(name, self._config.owner)) if name else model_list(known)
        await self._show(call, to_json(shown))

    async def _kept_response(self, call: _Call) -> None:
        name, headers = call.scope["path"].removeprefix(f"{RESPONSES.path}/"), call.headers
        if call.scope["method"] == "DELETE":
            shown = self._responses.delete(headers, name)
        else:
            shown = self._responses.show(headers, name, call.scope["query_string"])
        await self._show(call, shown)

    async def _show(self, call: _Call, body: bytes) -> None:
        headers = {REQUEST_ID_HEADER: call.request_id, **(CLOSE if self._pool.draining else {})}
        await send_json(call.send, 200, body, encode(headers))

    def _refuse_when_draining(self) -> None:
        if self._pool.draining:
            raise server_draining()

    def _check_model(self, model: str, *, is_last: bool = True) -> None:
        """Raise ApiError: 404 for a model that no child has reported; 503 while none has reported any.

        It is 503 too where this is not the last cell that is asked: another one's logins may have the model.
        """
        if self._pool.serves(model) or model in self._known_models():
            return
        if not is_last:
            what = "No page of this cell has this model; try another one."
            raise unavailable(ErrorCode.NONE_READY, what, retry_after_s=_START_RETRY_S)
        raise model_not_found(model, self._models)

    def _known_models(self) -> Mapping[str, str]:
        """Return the models of all children with their owners; those last known while every child is away.

        The owner of a model is its site, or several with commas; that of an alias is ours. Raises ApiError (503).
        """
        owner, found = self._config.owner, self._pool.sites()
        self._models = {
            name: ", ".join(site or owner for site in sites) or ALIAS_OWNER for name, sites in found.items()
        } or self._models
        if not self._models:
            raise unavailable(
                ErrorCode.STARTING, "No page has started yet; try again later.", retry_after_s=_START_RETRY_S
            )
        return self._models
