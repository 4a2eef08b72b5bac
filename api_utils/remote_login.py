"""`launch_camoufox.py --remote-login`: a child that takes no prompts, but shows its browser to a person who logs in.

It ends when its parent says so: nothing that the person may still fetch is lost by an end of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from dataclasses import dataclass
from pathlib import Path

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from api_utils.error_responses import EXCEPTION_HANDLERS
from api_utils.settings import ChildSettings
from api_utils.state import Endpoint, has_control_token
from browser.errors import SiteError
from browser.page.remote_input import BadInput, parse_input
from browser.page.remote_login import RemoteLogin
from browser.settings import VariableError, read_variables
from browser.site.load import load_site
from contract.api_error import ApiError, ErrorCode, bad_request
from contract.exit_codes import ExitCode
from contract.http_protocol import ConnectionLimits
from contract.http_server import HttpServer
from contract.listener import listen
from contract.logs import configure_logging
from contract.output import tell
from contract.remote_login import (
    DOCUMENT_PATH,
    DONE_PATH,
    INPUT_PATH,
    MAX_INPUT_BYTES,
    PICTURE_HEADER,
    PICTURE_PATH,
    STATE_HEADER,
    STATE_PATH,
    WAIT_S,
    LoginPhase,
)
from contract.surroundings import SurroundingsError

log = structlog.get_logger(__name__)

LAST_ANSWERS_S = 2.0


async def run_remote_login(arguments: argparse.Namespace, run_dir: Path) -> ExitCode:
    """Serve one login until told to stop. Return the exit code; never raise for an operator's mistake."""
    try:
        settings = read_variables(ChildSettings)
        configure_logging(settings.log_format, settings.log_level)
        site = load_site(arguments.site)
        login = RemoteLogin(site, arguments.engine, settings, run_dir)
    except (VariableError, SiteError, SurroundingsError) as error:
        return _refuse(str(error), ExitCode.USAGE)
    try:
        listener = listen("127.0.0.1", arguments.server_port)
    except OSError as error:
        problem = f"--server-port {arguments.server_port} cannot be used: {error.strerror}; choose another"
        return _refuse(problem, ExitCode.PORT_IN_USE)
    log.info("remote_login_starting", site=site.name, engine=arguments.engine, port=arguments.server_port)
    server = HttpServer(
        make_login_app(login, settings.tabfleet_control_token),
        limits=ConnectionLimits(settings.stream_idle_timeout_s),
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    running = asyncio.create_task(login.run(), name="remote-login")
    stopping = asyncio.create_task(stop.wait(), name="stop-signal")
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return ExitCode.STOPPED if stopping.done() else ExitCode.FAILED
    finally:
        server.should_exit = server.force_exit = True
        running.cancel()
        stopping.cancel()
        await asyncio.wait({serving}, timeout=LAST_ANSWERS_S)
        await asyncio.gather(running, stopping, return_exceptions=True)


def make_login_app(login: RemoteLogin, token: str | None) -> ASGIApp:
    """Return the application that shows the login to whoever has the token, and to nobody where there is none."""
    routes = _Routes(login)

    def for_parent(endpoint: Endpoint) -> Endpoint:
        async def checked(request: Request) -> Response:
            if not has_control_token(request, token):
                raise ApiError(ErrorCode.INVALID_API_KEY, "this is for the coordinator that has started the child")
            return await endpoint(request)

        return checked

    return Starlette(
        routes=[
            Route(PICTURE_PATH, for_parent(routes.picture)),
            Route(STATE_PATH, for_parent(routes.state)),
            Route(INPUT_PATH, for_parent(routes.input), methods=["POST"]),
            Route(DONE_PATH, for_parent(routes.done), methods=["POST"]),
            Route(DOCUMENT_PATH, for_parent(routes.document)),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
    )


@dataclass(frozen=True)
class _Routes:
    """What the paths of `contract.remote_login` answer."""

    login: RemoteLogin

    async def picture(self, request: Request) -> Response:
        login, picture, state = self.login, _number(request, "picture"), _number(request, "state")
        await login.wait_for(lambda: login.picture_number > picture or login.state.number > state, WAIT_S)
        headers = {STATE_HEADER: login.state.to_json(), "cache-control": "no-store"}
        if login.picture_number <= picture:
            return Response(status_code=204, headers=headers)
        headers[PICTURE_HEADER] = str(login.picture_number)
        return Response(login.picture, headers=headers, media_type="image/jpeg")

    async def state(self, request: Request) -> Response:
        login, state = self.login, _number(request, "state")
        await login.wait_for(lambda: login.state.number > state, WAIT_S)
        return Response(login.state.to_json(), media_type="application/json")

    async def input(self, request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_INPUT_BYTES:
                raise ApiError(ErrorCode.BODY_TOO_LARGE, f"the input is larger than {MAX_INPUT_BYTES} bytes")
        try:
            inputs = parse_input(bytes(body))
        except BadInput as error:
            raise bad_request(str(error)) from None
        await self.login.act(inputs)
        return Response(status_code=204)

    async def done(self, _: Request) -> Response:
        await self.login.done()
        return Response(status_code=204)

    async def document(self, _: Request) -> Response:
        if self.login.state.phase is not LoginPhase.SAVED:
            raise ApiError(ErrorCode.NOT_FOUND, "nobody is logged in yet")
        return JSONResponse(self.login.document, headers={"cache-control": "no-store"})


def _number(request: Request, name: str) -> int:
    with contextlib.suppress(ValueError):
        return int(request.query_params.get(name, "0")[:18])
    return 0


def _refuse(problem: str, code: ExitCode) -> ExitCode:
    tell(f"launch_camoufox.py: {problem}")
    return code
