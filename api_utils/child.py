"""Put one child together: settings, keys, site, page, routes; every refusal is one line for the operator."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import importlib
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from api_utils.auth_utils import FollowedKeys, KeyFileError, initialize_keys
from api_utils.request_queue import RequestQueue
from api_utils.settings import ChildSettings
from browser.errors import SiteError
from browser.page.browser_host import BrowserHost
from browser.page.chat_page import ChatPage
from browser.process.claim_watch import watch_claim
from browser.process.driver import Driver
from browser.process.own_proxy import own_proxy_of
from browser.settings import VariableError, read_variables
from browser.site.load import load_site
from browser.site.schema import Site
from contract.claim_deadline import ClaimDeadline
from contract.exit_codes import ExitCode
from contract.listener import listen
from contract.logs import configure_logging
from contract.output import tell
from contract.proxies import Proxy, parse_own_proxy, read_own_proxy
from contract.surroundings import Surroundings, SurroundingsError, read_surroundings

log = structlog.get_logger(__name__)

CLAIM_OVER: Final = "the claim of the login is over: another coordinator may use it; this one starts it again if it may"


@dataclass(frozen=True)
class ChildPlan:
    """What one child is made of, besides its browser. `api_port` is on 127.0.0.1."""

    site: Site
    keys: FollowedKeys
    settings: ChildSettings
    profile: Path
    api_port: int
    run_dir: Path
    surroundings: Surroundings


async def run_child(arguments: argparse.Namespace, run_dir: Path, driver: Driver) -> ExitCode:
    """Serve one profile until told to stop. Return the exit code; never raise for an operator's mistake."""
    try:
        settings = read_variables(ChildSettings)
        configure_logging(settings.log_format, settings.log_level)
        claim = ClaimDeadline(settings.tabfleet_claim_deadline_file)
        if claim.is_over:
            return refuse(CLAIM_OVER, ExitCode.CLAIM_OVER)
        site, keys = load_site(arguments.site, shown=settings.tabfleet_site_file), initialize_keys()
        surroundings, proxy = read_surroundings(run_dir), own_proxy(arguments, run_dir)
    except (VariableError, KeyFileError, SiteError, SurroundingsError, ValueError) as error:
        return refuse(str(error), ExitCode.USAGE)
    plan = ChildPlan(site, keys, settings, arguments.active_auth_json, arguments.server_port, run_dir, surroundings)
    host = BrowserHost(
        engine=arguments.engine,
        headless=arguments.headless,
        stream_port=arguments.stream_port,
        run_dir=run_dir,
        settings=settings,
        own_proxy=own_proxy_of(proxy, site.url, settings),
        claim=claim,
        driver=driver,
    )
    watch_claim(claim, host.process.kill)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await serve_page(plan, host, stop)


async def serve_page(
    plan: ChildPlan, host: BrowserHost, stop: asyncio.Event, opened: Callable[[ChatPage], object] = lambda _: None
) -> ExitCode:
    """Open one profile's page in this browser and serve it until `stop`, or until the browser is lost to it.

    Returns the exit code. `opened` is given the page before it is started.
    """
    port = plan.api_port
    try:
        listener = listen("127.0.0.1", port)
    except OSError as error:
        problem = f"--server-port {port} cannot be used: {error.strerror}; choose another"
        return refuse(problem, ExitCode.PORT_IN_USE)
    log.info("child_starting", site=plan.site.name, engine=host.engine, port=port)
    with listener:
        page = ChatPage(
            site=plan.site,
            profile=plan.profile,
            host=host,
            run_dir=plan.run_dir,
            settings=plan.settings,
            surroundings=plan.surroundings,
        )
        opened(page)
        starting = asyncio.create_task(page.start(), name="page-start")
        starting.add_done_callback(lambda _: give_back_memory())
        # Starlette and uvicorn take a while to import, and driver and browser start without them.
        await asyncio.to_thread(importlib.import_module, "api_utils.server")
        from api_utils.server import serve  # noqa: PLC0415
        from api_utils.state import ChildState  # noqa: PLC0415

        state = ChildState(page, RequestQueue(page), plan.settings, plan.keys, plan.site.name, host.engine)
        return await serve(state, listener, starting, stop)


def own_proxy(arguments: argparse.Namespace, run_dir: Path) -> Proxy | None:
    """Return the login's own proxy, of --proxy-file or the surroundings. Raises SurroundingsError, ValueError."""
    if arguments.proxy_file is not None:
        try:
            return read_own_proxy(arguments.proxy_file)
        except ValueError as error:
            raise ValueError(f"--proxy-file: {error}") from None
    text = read_surroundings(run_dir).proxy
    try:
        return None if text is None else parse_own_proxy(text)
    except ValueError as error:
        raise SurroundingsError(f"the login's proxy {error}") from None


def give_back_memory() -> None:
    """Return to the system what the C library keeps of freed memory: 15 MB after the imports, some made in threads."""
    with contextlib.suppress(AttributeError):  # a C library that is not glibc has no malloc_trim(3)
        ctypes.CDLL(None).malloc_trim(0)


def refuse(problem: str, code: ExitCode) -> ExitCode:
    """Tell the operator in one line why there is nothing to run; return the exit code."""
    tell(f"launch_camoufox.py: {problem}")
    return code
