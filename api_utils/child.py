"""Put one child together: settings, keys, site, page, routes; every refusal is one line for the operator."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
from pathlib import Path

import structlog

from api_utils.auth_utils import KeyFileError, initialize_keys
from api_utils.listener import PortInUse, bind
from api_utils.memory import give_back_memory
from api_utils.settings import ChildSettings
from browser.errors import SiteError
from browser.page.chat_page import ChatPage
from browser.settings import VariableError, read_variables
from browser.site.load import Site, load_site
from contract.exit_codes import ExitCode
from contract.logs import configure_logging

log = structlog.get_logger(__name__)


async def run_child(arguments: argparse.Namespace, run_dir: Path) -> ExitCode:
    """Serve one profile until told to stop. Returns the exit code; never raises for an operator's mistake."""
    try:
        settings = read_variables(ChildSettings)
        configure_logging(settings.log_format, settings.log_level)
        listener = bind(arguments.server_port)
        site, keys = load_site(arguments.site), initialize_keys()
    except PortInUse as error:
        return _refuse(error, ExitCode.PORT_IN_USE)
    except (VariableError, KeyFileError, SiteError, ValueError) as error:
        return _refuse(error, ExitCode.USAGE)
    log.info("child_starting", site=site.name, engine=arguments.engine, port=arguments.server_port)
    page = _page(arguments, site, run_dir, settings)
    starting = asyncio.create_task(page.start(), name="page-start")
    starting.add_done_callback(lambda _: give_back_memory())
    # Much to import, and none of it is needed to start driver and browser.
    await asyncio.to_thread(importlib.import_module, "api_utils.face")
    from api_utils.face import show  # noqa: PLC0415

    return await show(page, starting, listener, settings=settings, keys=keys, site=site.name, engine=arguments.engine)


def _page(arguments: argparse.Namespace, site: Site, run_dir: Path, settings: ChildSettings) -> ChatPage:
    return ChatPage(
        site=site,
        profile=arguments.active_auth_json,
        engine=arguments.engine,
        headless=arguments.headless,
        stream_port=arguments.stream_port,
        run_dir=run_dir,
        settings=settings,
    )


def _refuse(error: Exception, code: ExitCode) -> ExitCode:
    sys.stderr.write(f"launch_camoufox.py: {error}\n")
    return code
