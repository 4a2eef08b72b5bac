"""One child's life: serve, open the page, end when told, when the browser is lost, or alone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from typing import Any

import structlog

from api_utils.app import make_app
from api_utils.request_queue import RequestQueue
from api_utils.state import ChildState
from browser.errors import BrowserError
from contract.exit_codes import ExitCode
from contract.http_protocol import ConnectionLimits
from contract.http_server import HttpServer

log = structlog.get_logger(__name__)

LAST_ANSWERS_S = 0.3  # for the answers of a lost browser to end with an error event


async def serve(
    state: ChildState, listener: socket.socket, starting: asyncio.Task[None], stop: asyncio.Event
) -> ExitCode:
    """Serve a page that is starting, until told to stop or the browser is lost; it is closed when this returns."""
    server = HttpServer(make_app(state), limits=ConnectionLimits(state.settings.stream_idle_timeout_s))
    tasks: dict[str, asyncio.Task[Any]] = {
        "http": asyncio.create_task(server.serve(sockets=[listener]), name="http"),
        "start": starting,
        "lost": asyncio.create_task(state.page.wait_lost(), name="page-lost"),
        "stop": asyncio.create_task(stop.wait(), name="stop"),
    }
    try:
        code = await _wait_end(tasks, state.queue)
    finally:
        lost = tasks["lost"].done()  # before it is cancelled, which makes it done too
        # Running answers end with an error, then the server ends; neither may take for ever.
        state.queue.cancel_all()
        server.should_exit = True
        server.force_exit = lost or state.page.is_abandoned
        await asyncio.wait({tasks["http"]}, timeout=5)
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    if not lost:  # there is nothing to close in a dead browser, and its parent waits for the news
        await state.page.close()
    return code


async def _wait_end(tasks: Mapping[str, asyncio.Task[Any]], queue: RequestQueue) -> ExitCode:
    """Return the exit code once something ends the child."""
    waiting = set(tasks.values())
    while True:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if tasks["stop"].done():
            log.info("child_stopping")
            return ExitCode.STOPPED
        if tasks["lost"].done():
            reason: str = tasks["lost"].result()
            log.error(reason, hint="the process died; this child ends with it")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(queue.wait_idle(), LAST_ANSWERS_S)
            return ExitCode.DRIVER_LOST if reason == "driver_lost" else ExitCode.BROWSER_LOST
        if tasks["http"].done():
            log.error("http_server_ended")
            return ExitCode.FAILED
        waiting.discard(tasks["start"])
        failure = tasks["start"].exception()
        if isinstance(failure, BrowserError):
            log.error("page_start_failed", reason=failure.reason, message=str(failure))
            return ExitCode(failure.exit_code)
        if failure is not None:
            log.error("page_start_failed", kind=type(failure).__name__, exc_info=failure)
            return ExitCode.FAILED
