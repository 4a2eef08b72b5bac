"""`launch_camoufox.py --host`: a process that runs several children in one browser, as its parent orders.

The orders and the news are `contract.host_orders`. Each child has its own API port, run folder, token, instance and
log; the browser, its driver and the stream port are shared, and so is their end.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import signal
import socket
from collections.abc import Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import structlog

from api_utils.auth_utils import FollowedKeys, KeyFileError, initialize_keys
from api_utils.child import CLAIM_OVER, ChildPlan, give_back_memory, refuse, serve_page
from api_utils.settings import ChildSettings
from browser.errors import BrowserError, SiteError
from browser.page.browser_host import BrowserHost
from browser.page.chat_page import ChatPage
from browser.process.claim_watch import watch_claim
from browser.process.driver import Driver
from browser.settings import VariableError, read_variables
from browser.site.load import load_site
from contract.claim_deadline import ClaimDeadline
from contract.exit_codes import ExitCode
from contract.host_orders import ChildOrder, End, Ended, Full, Start, Up, receive_order, send
from contract.logs import configure_logging
from contract.output import OUTPUT
from contract.surroundings import SurroundingsError, read_surroundings

log = structlog.get_logger(__name__)

KILLED = -signal.SIGKILL


async def run_host(arguments: argparse.Namespace, run_dir: Path, driver: Driver) -> ExitCode:
    """Run children until the orders' other side is closed, SIGTERM, or the browser is lost. Return the exit code."""
    try:
        settings = read_variables(ChildSettings)
        configure_logging(settings.log_format, settings.log_level)
        keys = initialize_keys()
        orders = socket.socket(fileno=arguments.host)
    except (VariableError, KeyFileError, OSError) as error:
        return refuse(str(error), ExitCode.USAGE)
    browser = BrowserHost(
        engine=arguments.engine,
        headless=arguments.headless,
        stream_port=arguments.stream_port,
        run_dir=run_dir,
        settings=settings,
        shared=True,
        driver=driver,
    )
    with orders:
        return await Host(browser, settings, keys, orders).run()


@dataclass
class _Hosted:
    """One child: its task, what stops it, and its page once there is one."""

    order: ChildOrder
    output: TextIO
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    page: ChatPage | None = None
    task: asyncio.Task[int] | None = None
    killed: bool = False


class Host:
    """Carries out orders, and tells of each child's end once nothing of it is left."""

    def __init__(
        self, browser: BrowserHost, settings: ChildSettings, keys: FollowedKeys, orders: socket.socket
    ) -> None:
        self._browser, self._settings, self._keys = browser, settings, keys
        self._orders = orders
        self._children: dict[str, _Hosted] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._failure: ExitCode | None = None
        self._has_login = False

    async def run(self) -> ExitCode:
        """Start the browser and run children in it. Return the exit code when all of them have ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._orders.setblocking(False)
        loop.add_reader(self._orders, self._read)
        watch = asyncio.create_task(self._watch_browser(), name="browser-watch")
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait({watch, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(self._orders)
            for child in self._children.values():
                child.stop.set()
            if running := [child.task for child in self._children.values() if child.task]:
                await asyncio.wait(running)
            while self._tasks:  # they tell of the children's ends
                await asyncio.wait(self._tasks)
            for task in (watch, stop):
                task.cancel()
            await self._browser.close()
        return self._failure or ExitCode.STOPPED

    async def _watch_browser(self) -> None:
        """Return when the browser is lost or did not start; then there is no room for a further child."""
        try:
            await self._browser.start()
            self._tell(Up())
            # What the first child would import, here and now: as a spare, this process has the time.
            await asyncio.to_thread(importlib.import_module, "api_utils.server")
            give_back_memory()
            lost = await self._browser.process.wait_lost()
            self._failure = ExitCode.DRIVER_LOST if lost == "driver_lost" else ExitCode.BROWSER_LOST
        except BrowserError as error:
            log.error("browser_start_failed", reason=error.reason, message=str(error))  # noqa: TRY400 - it says all
            self._failure = ExitCode(error.exit_code)
        except Exception as error:  # whatever it is, each child that waits for the browser reports it
            log.exception("browser_start_failed", kind=type(error).__name__)
            self._failure = ExitCode.FAILED
        self._tell(Full())
        # Each child ends by itself, and says what became of its answers; the loss has the host's own code.
        while running := [child.task for child in self._children.values() if child.task and not child.task.done()]:
            await asyncio.wait(running)

    def _read(self) -> None:
        """Carry out the orders that are there."""
        while True:
            try:
                received = receive_order(self._orders)
            except BlockingIOError:
                return
            except (ValueError, OSError) as error:
                log.error("bad_order", error=type(error).__name__)  # noqa: TRY400 - an order holds a token
                received = None
            if received is None:  # whoever gives orders is gone, or cannot be understood
                self._stop.set()
                asyncio.get_running_loop().remove_reader(self._orders)
                return
            order, descriptor = received
            if isinstance(order, Start) and descriptor is not None:
                self._start(order.start, descriptor)
            elif isinstance(order, End) and (child := self._children.get(order.end)):
                child.stop.set()
                if order.how == "kill":
                    self._kill(child)

    def _start(self, order: ChildOrder, descriptor: int) -> None:
        child = _Hosted(order, os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace"))
        self._children[order.instance_id] = child
        context = copy_context()
        context.run(OUTPUT.set, child.output)
        child.task = asyncio.create_task(self._serve(child), name=f"child-{order.api_port}", context=context)
        self._spawn(self._tell_end(child, child.task, context))

    def _begin_claim(self) -> bool:
        """From the first child on, have the process end with its claim; return whether that is over."""
        if not self._has_login:
            self._has_login = True
            self._browser.claim = ClaimDeadline(self._settings.tabfleet_claim_deadline_file)
            if not self._browser.claim.is_over:
                watch_claim(self._browser.claim, self._browser.process.kill)
        return self._browser.claim.is_over

    async def _serve(self, child: _Hosted) -> int:
        order = child.order
        if self._begin_claim():
            return refuse(CLAIM_OVER, ExitCode.CLAIM_OVER)
        settings = self._settings.model_copy(
            update={
                "tabfleet_run_dir": order.run_dir,
                "tabfleet_generation": order.generation,
                "tabfleet_site_file": order.site_shown,
                "tabfleet_instance_id": order.instance_id,
                "tabfleet_control_token": order.control_token,
                "site_url": order.site_url,
            }
        )
        try:
            site = load_site(order.site, shown=order.site_shown, url=order.site_url)
            surroundings = read_surroundings(order.run_dir)
        except (SiteError, SurroundingsError) as error:
            return refuse(str(error), ExitCode.USAGE)
        if surroundings.proxy is not None:  # the browser's one way out is everybody's
            return refuse("a login with a proxy of its own needs a browser of its own", ExitCode.USAGE)
        plan = ChildPlan(site, self._keys, settings, order.profile, order.api_port, order.run_dir, surroundings)

        def opened(page: ChatPage) -> None:
            child.page = page
            if child.killed:
                page.is_abandoned = True

        try:
            return await serve_page(plan, self._browser, child.stop, opened)
        finally:
            # Whatever has happened: its end is told next, and then the login is anybody's.
            if child.page is not None:
                await child.page.close()

    def _kill(self, child: _Hosted) -> None:
        """Close the child's page at once, whatever it is doing; its task then ends by itself."""
        child.killed = True
        if child.page is not None:
            self._spawn(child.page.abandon())

    async def _tell_end(self, child: _Hosted, task: asyncio.Task[int], context: Context) -> None:
        await asyncio.wait({task})
        error = task.exception()
        if error is not None:
            context.run(lambda: log.error("child_failed", kind=type(error).__name__, exc_info=error))
        code = ExitCode.FAILED if error is not None else task.result()
        with suppress(OSError):
            child.output.close()
        del self._children[child.order.instance_id]
        self._tell(Ended(ended=child.order.instance_id, code=KILLED if child.killed else code))

    def _tell(self, news: Up | Ended | Full) -> None:
        with suppress(OSError):  # nobody is there to hear it, or hears nothing any more: the host's end tells it too
            send(self._orders, news)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work, name="host")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
