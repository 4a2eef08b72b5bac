"""The API as raw ASGI: `/v1/chat/completions` goes to a page, `/v1/models` is answered here.

No framework stands between the socket and the child: a chunk costs one call, and the bytes stay as they are.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from coordinator.proxy.admission import read_chat_body
from coordinator.proxy.exchange import Account, Exchange, Limits, Means, Outcome, Question
from coordinator.proxy.response import Reply
from coordinator.proxy.upstream import Upstream
from coordinator.proxy.wire import (
    CLOSE,
    Refusal,
    failed,
    model_card,
    send_json,
    send_refusal,
    to_json,
    unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from coordinator.proxy.admission import Access
    from coordinator.proxy.exchange import Children
    from coordinator.proxy.pool import Pool

log = structlog.get_logger(__name__)

ABORT: Final = "tabfleet.abort"
"""The ASGI extension that closes a connection at once, whatever is still to be sent on it."""

_CHAT: Final = "/v1/chat/completions"
_MODELS: Final = "/v1/models"
_START_RETRY_S: Final = 5.0


@dataclass(frozen=True)
class RequestDone:
    """One chat request, told to the hooks when its answer and its lease have ended. Times in seconds."""

    request_id: str
    account: Account
    duration_s: float


@dataclass(frozen=True)
class ProxyConfig:
    """What the proxy goes by. `owner` stands in `/v1/models` as the owner of every model."""

    limits: Limits = field(default_factory=Limits)
    max_body_bytes: int = 10 * 1024 * 1024
    owner: str = "tabfleet"


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
        self._pool, self._access, self._config, self._on_done = pool, access, config, on_done
        self._upstream = Upstream()
        self._means = Means(pool, children, self._upstream, config.limits)
        self._running: set[Exchange] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._models: tuple[str, ...] = ()
        self._now = asyncio.get_running_loop().time

    @property
    def in_flight(self) -> int:
        """Chat requests that have passed the edge and have not ended."""
        return len(self._running)

    async def wait_idle(self) -> None:
        """Return as soon as no chat request is in flight."""
        await self._idle.wait()

    def cut(self) -> None:
        """End every running request with an error, as its client can understand it."""
        for exchange in tuple(self._running):
            exchange.shut_down()

    async def close(self) -> None:
        """Close the connections to the children."""
        await self._upstream.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id, began, account = secrets.token_hex(16), self._now(), Account()
        try:
            await self._route(scope, receive, send, request_id, account)
        except Refusal as refusal:
            account.outcome, account.code = Outcome.REFUSED, refusal.code
            await send_refusal(send, refusal, request_id, closing=self._pool.draining)
        finally:
            if scope["path"] == _CHAT:
                self._on_done(RequestDone(request_id, account, self._now() - began))

    async def _route(self, scope: Scope, receive: Receive, send: Send, request_id: str, account: Account) -> None:
        path: str = scope["path"]
        self._access.check(scope["headers"])
        if path == _CHAT:
            _check_method(scope, "POST")
            await self._chat(scope, receive, send, request_id, account)
        elif path == _MODELS or path.startswith(f"{_MODELS}/"):
            _check_method(scope, "GET")
            await self._show_models(path.removeprefix(_MODELS).removeprefix("/"), send, request_id)
        else:
            raise Refusal(404, "not_found", "There is no such route; see /v1/models and /v1/chat/completions.")

    # Chat

    async def _chat(self, scope: Scope, receive: Receive, send: Send, request_id: str, account: Account) -> None:
        began, config = self._now(), self._config
        self._refuse_when_draining()
        body = await read_chat_body(
            scope["headers"], receive, max_bytes=config.max_body_bytes, idle_s=config.limits.idle_s
        )
        if body is None:
            account.outcome = Outcome.CLIENT_LEFT
            return
        self._check_model(body.model)
        self._refuse_when_draining()
        abort = (scope.get("extensions") or {}).get(ABORT, _no_abort)
        reply = Reply(send, abort, request_id, lambda: self._pool.draining)
        question = Question(request_id, scope["headers"], body, began)
        await self._run(Exchange(self._means, question, receive, reply, account), reply)

    async def _run(self, exchange: Exchange, reply: Reply) -> None:
        self._running.add(exchange)
        self._idle.clear()
        try:
            await exchange.run()
        except Refusal:
            raise
        except Exception:
            log.exception("proxy_failed")
            await reply.fail(failed(500, "internal_error", "The proxy failed; the log says where."))
        finally:
            self._running.discard(exchange)
            if not self._running:
                self._idle.set()

    def _refuse_when_draining(self) -> None:
        if self._pool.draining:
            raise unavailable("draining", "The server is shutting down; try again elsewhere.", retry_after_s=5)

    # Models

    def _check_model(self, model: str) -> None:
        """Raise Refusal (404) for a model that no child has reported; 503 while none has reported any."""
        if not self._pool.serves(model) and model not in self._known_models():
            offered = ", ".join(self._models)
            message = f"The model {model[:100]!r} does not exist here; there are: {offered}."
            raise Refusal(404, "model_not_found", message, param="model")

    def _known_models(self) -> tuple[str, ...]:
        """The models of all children; those last known while every child is away. Raises Refusal (503)."""
        self._models = self._pool.models() or self._models
        if not self._models:
            raise unavailable("starting", "No page has started yet; try again later.", retry_after_s=_START_RETRY_S)
        return self._models

    async def _show_models(self, name: str, send: Send, request_id: str) -> None:
        known, owner = self._known_models(), self._config.owner
        if not name:
            shown: object = {"object": "list", "data": [model_card(model, owner) for model in known]}
        else:
            self._check_model(name)
            shown = model_card(name, owner)
        headers = [(b"x-request-id", request_id.encode()), *([CLOSE] if self._pool.draining else [])]
        await send_json(send, 200, to_json(shown), headers)


def _check_method(scope: Scope, allowed: str) -> None:
    if scope["method"] != allowed:
        headers = ((b"allow", allowed.encode()),)
        raise Refusal(405, "method_not_allowed", f"This route takes {allowed} only.", headers=headers)


def _no_abort() -> None:
    """For servers without the extension: the connection ends when its client does."""
