"""The JSON API of the chat page: answers as server-sent events of a POST, or over a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from weakref import WeakSet

from aiohttp import WSCloseCode, WSMsgType, web

from demo.accounts import Session, Sessions
from demo.chat import MODELS, Chat, DropConnection, Event, Run, SubmissionRefused, encode, parse_submission
from demo.images import TYPES, Images
from demo.shape import FAILURES
from demo.web import Authenticator, abort, error_event, read_json

LOGIN_REQUIRED_CLOSE = 4401
_PIECE_BYTES = 7
_STATUS: dict[str | None, int] = {"server": 500, "expired": 401}


class ChatRoutes:
    """The routes under `/api/`, which the page's script calls."""

    def __init__(
        self, authenticator: Authenticator, sessions: Sessions, chat: Chat, images: Images, max_body_bytes: int
    ) -> None:
        self._authenticator = authenticator
        self._sessions = sessions
        self._chat = chat
        self._images = images
        self._max_body_bytes = max_body_bytes
        self._sockets: WeakSet[web.WebSocketResponse] = WeakSet()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        return [
            web.get("/api/me", self.me),
            web.post("/api/images", self.image),
            web.post("/api/chat", self.ask),
            web.post("/api/stop", self.stop),
            web.get("/api/ws", self.socket),
        ]

    async def me(self, request: web.Request) -> web.Response:
        """Return the session's account, its expiry and the models."""
        session = self._authenticator.require(request)
        data = {"account": session.account, "expires_at": session.expires_at, "models": MODELS}
        return web.json_response(data)

    async def stop(self, request: web.Request) -> web.Response:
        """Stop the answer in progress in a conversation."""
        session = self._authenticator.require(request)
        data = await read_json(request)
        return web.json_response({"stopped": self._chat.stop(session.account, data.get("conversation"))})

    async def image(self, request: web.Request) -> web.Response:
        """Take an image for a later prompt: the body is the file, Content-Type its media type."""
        session = self._authenticator.require(request)
        if request.content_type not in TYPES:
            abort(415, "bad_request", "Only PNG, JPEG, GIF and WebP images can be attached.")
        image_id, note = self._images.add(session.account, request.content_type, await request.read())
        return web.json_response({"id": image_id, "sha256": note.sha256})

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """Submit a prompt and respond with `text/event-stream`: one `data:` line of JSON per event."""
        session = self._authenticator.require(request)
        try:
            run = self._chat.submit(session, parse_submission(await read_json(request)), "sse")
        except SubmissionRefused as refused:
            abort(refused.status, refused.code, str(refused))
        if status := _STATUS.get(run.shape.error):
            self.fail(run, session)
            abort(status, str(run.shape.error), FAILURES[str(run.shape.error)])
        return await self._stream(request, run)

    def fail(self, run: Run, session: Session) -> None:
        """Close the ledger entry of a submission that a fault refuses; `error=expired` also ends the session."""
        self._chat.fail(run)
        if run.shape.error == "expired":
            self._sessions.end(session)

    async def _stream(self, request: web.Request, run: Run) -> web.StreamResponse:
        headers = {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }
        response = web.StreamResponse(headers=headers)

        async def send(event: Event) -> None:
            data = f"data: {encode(event)}\n\n".encode()
            # `split`: a client must not take a read for an event.
            size = _PIECE_BYTES if run.shape.split else len(data)
            for start in range(0, len(data), size):
                await response.write(data[start : start + size])

        try:
            await response.prepare(request)
        except BaseException:
            self._chat.fail(run)
            raise
        try:
            await self._chat.answer(run, send)
        except DropConnection:
            _drop(request)
        except ConnectionError:
            return response
        return response

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        """Serve JSON frames: `auth` (first, in the token variant), `ask` and `stop`; respond with the same events."""
        session = self._authenticator.session(request)
        socket = web.WebSocketResponse(max_msg_size=self._max_body_bytes, heartbeat=30)
        await socket.prepare(request)
        self._sockets.add(socket)
        await _Connection(self, request, socket, session).run()
        return socket

    async def close(self, _: web.Application) -> None:
        """Stop all answers and close all WebSockets. An `on_shutdown` handler."""
        self._chat.stop_all()
        for socket in list(self._sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY)

    def bearer(self, token: object) -> Session | None:
        """Return the open session of a bearer token, or None."""
        return self._authenticator.bearer(str(token))

    def is_open(self, session: Session | None) -> bool:
        """Return whether there is a session and it is still open."""
        return session is not None and self._sessions.is_open(session)

    @property
    def chat(self) -> Chat:
        """Return the conversations that submissions go to."""
        return self._chat


class _Connection:
    """One WebSocket connection."""

    def __init__(
        self, routes: ChatRoutes, request: web.Request, socket: web.WebSocketResponse, session: Session | None
    ) -> None:
        self._routes = routes
        self._request = request
        self._socket = socket
        self._session = session
        self._answer: asyncio.Task[None] | None = None
        self._run: Run | None = None

    async def run(self) -> None:
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    await self._receive(message.data)
        finally:
            if self._answer:
                self._answer.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._answer

    async def _receive(self, text: str) -> None:
        try:
            frame = json.loads(text)
            kind = frame.get("type")
        except (ValueError, AttributeError):
            await self._send(error_event("bad_request", "The frame is not a JSON object."))
            return
        if kind == "auth":
            self._session = self._routes.bearer(frame.get("token"))
        elif kind == "stop" and self._run:
            self._run.stop()
        elif kind == "ask":
            await self._ask(frame)

    async def _ask(self, frame: Event) -> None:
        if self._session is None or not self._routes.is_open(self._session):
            await self._require_login()
            return
        try:
            self._run = self._routes.chat.submit(self._session, parse_submission(frame), "ws")
        except SubmissionRefused as refused:
            await self._send(error_event(refused.code, str(refused)))
            return
        if self._run.shape.error == "expired":
            self._routes.fail(self._run, self._session)
            await self._require_login()
            return
        self._answer = asyncio.create_task(self._answer_run(self._run), name=f"demo-answer-{self._run.entry.id}")

    async def _require_login(self) -> None:
        await self._socket.close(code=LOGIN_REQUIRED_CLOSE, message=b"login required")

    async def _answer_run(self, run: Run) -> None:
        try:
            await self._routes.chat.answer(run, self._send)
        except DropConnection:
            _drop(self._request)
        except ConnectionError:
            pass  # the client has disconnected: run() ends by the same

    async def _send(self, event: Event) -> None:
        await self._socket.send_str(encode(event))


def _drop(request: web.Request) -> None:
    if request.transport:
        request.transport.close()
