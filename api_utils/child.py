"""Put one child together: settings, keys, site, page, routes; every refusal is one line for the operator."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import structlog

from api_utils.app import make_app
from api_utils.auth_utils import KeyFileError, initialize_keys
from api_utils.desk import Desk
from api_utils.exit_codes import Exit
from api_utils.logs import configure_logging
from api_utils.server import PortInUse, bind, serve
from api_utils.settings import ChildSettings
from api_utils.state import ChildState
from browser.environment import VariableError, read_variables
from browser.errors import SiteError
from browser.page import ChatPage
from browser.site import load_site

log = structlog.get_logger(__name__)


async def run_child(arguments: argparse.Namespace, run_dir: Path) -> Exit:
    """Serve one profile until told to stop. Returns the exit code; never raises for an operator's mistake."""
    try:
        settings = read_variables(ChildSettings)
        configure_logging(settings.log_format, settings.log_level)
        listener = bind(arguments.server_port)
        state = _assemble(arguments, run_dir, settings)
    except PortInUse as error:
        return _refuse(error, Exit.PORT_IN_USE)
    except (VariableError, KeyFileError, SiteError, ValueError) as error:
        return _refuse(error, Exit.USAGE)
    log.info("child_starting", site=state.site, engine=state.engine, port=arguments.server_port)
    return await serve(make_app(state), listener, state.page, state.desk)


def _assemble(arguments: argparse.Namespace, run_dir: Path, settings: ChildSettings) -> ChildState:
    site = load_site(arguments.site)
    page = ChatPage(
        site=site,
        profile=arguments.active_auth_json,
        engine=arguments.engine,
        headless=arguments.headless,
        stream_port=arguments.stream_port,
        run_dir=run_dir,
        settings=settings.for_browser(),
    )
    return ChildState(page, Desk(page), settings, initialize_keys(), site.name, arguments.engine)


def _refuse(error: Exception, code: Exit) -> Exit:
    sys.stderr.write(f"launch_camoufox.py: {error}\n")
    return code
