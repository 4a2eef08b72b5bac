"""One child's life as a process: serve, open the page, end when told, when the browser is lost, or alone."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from api_utils.request_queue import Desk
from browser.errors import BrowserError
from browser.page.chat_page import ChatPage
from contract.exit_codes import ExitCode

log = structlog.get_logger(__name__)

KEEP_ALIVE_S = 75  # longer than the coordinator keeps a connection idle, so that it never dies in use
LAST_WORDS_S = 0.3  # for the answers of a lost browser to end with an error event


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `serve`: uvicorn's own handlers end the process before the page is closed."""
        yield


async def serve(
    app: ASGIApp, listener: socket.socket, page: ChatPage, desk: Desk, starting: asyncio.Task[None]
) -> ExitCode:
    """Serve a page that is starting, until a signal or until the browser is lost; it is closed when this returns."""
    server = _Server(_config(app))
    tasks: dict[str, asyncio.Task[Any]] = {
        "http": asyncio.create_task(server.serve(sockets=[listener]), name="http"),
        "start": starting,
        "lost": asyncio.create_task(page.wait_lost(), name="page-lost"),
        "signal": asyncio.create_task(_stop_signal(), name="stop-signal"),
    }
    try:
        code = await _until_over(tasks, desk)
    finally:
        lost = tasks["lost"].done()  # before it is cancelled, which makes it done too
        await _close(server, desk, tasks)
    if not lost:  # there is nothing to close in a dead browser, and its parent waits for the news
        await page.close()
    return code


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=2,
    )


async def _until_over(tasks: Mapping[str, asyncio.Task[object]], desk: Desk) -> ExitCode:
    waiting = set(tasks.values())
    while True:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if tasks["signal"].done():
            log.info("child_stopping")
            return ExitCode.STOPPED
        if tasks["lost"].done():
            return await _browser_lost(str(tasks["lost"].result()), desk)
        if tasks["http"].done():
            log.error("http_server_ended")
            return ExitCode.FAILED
        waiting.discard(tasks["start"])
        failure = tasks["start"].exception()
        if failure is not None:
            return _start_failed(failure)


async def _browser_lost(reason: str, desk: Desk) -> ExitCode:
    log.error(reason, hint="the process died; this child ends with it")
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(desk.idle(), LAST_WORDS_S)
    return ExitCode.DRIVER_LOST if reason == "driver_lost" else ExitCode.BROWSER_LOST


def _start_failed(failure: BaseException) -> ExitCode:
    if isinstance(failure, BrowserError):
        log.error("page_start_failed", reason=failure.reason, message=str(failure))
        return ExitCode(failure.exit_code)
    log.error("page_start_failed", kind=type(failure).__name__, exc_info=failure)
    return ExitCode.FAILED


async def _stop_signal() -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


async def _close(server: uvicorn.Server, desk: Desk, tasks: Mapping[str, asyncio.Task[object]]) -> None:
    """Running answers end with an error, then the server ends; bounded."""
    desk.cancel_all()
    server.should_exit = True
    server.force_exit = tasks["lost"].done()
    await asyncio.wait({tasks["http"]}, timeout=5)
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
