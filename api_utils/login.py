"""`launch_camoufox.py --login`: what the person who logs in is told."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from api_utils.child import own_proxy
from browser.errors import BrowserError
from browser.page.login import NOTHING_SAVED, LoginPlan, capture_login, save_no_login
from browser.settings import BrowserSettings, VariableError, read_variables
from browser.site.load import load_site
from contract.exit_codes import ExitCode
from contract.logs import configure_logging, escape_unencodable
from contract.output import tell
from contract.surroundings import SurroundingsError


async def run_login(arguments: argparse.Namespace, run_dir: Path) -> ExitCode:
    """Let a person log in and save the login. Return the exit code; never raise for what a person does."""
    escape_unencodable()
    configure_logging("console", "critical")  # what a person is to know is told in words

    def tell_open(for_person: bool) -> None:
        if not for_person:
            _say(f"Logging in to {plan.site.url} by login.steps of the site file, with the secrets of {plan.path}.")
            return
        _say(f"Log in to {plan.site.url} in the window that has opened. As soon as you are in, your login is saved to")
        _say(f"{plan.path}, and the window closes. Until then closing it, or Ctrl-C, saves nothing.")

    try:
        plan = LoginPlan(
            site=load_site(arguments.site),
            path=arguments.save,
            replace=arguments.replace,
            engine=arguments.engine,
            settings=read_variables(BrowserSettings),
            proxy=own_proxy(arguments, run_dir),
        )
        if plan.site.login.none:
            save_no_login(plan)
            _say(f"There is nothing to log into (site file: login.none). Saved: {plan.path}, an empty profile;")
            _say("each browser that is to run needs such a file, and all may be alike. Try it out:")
            _say(f"  {_check_command(arguments)}")
            return ExitCode.STOPPED
        capturing = asyncio.create_task(capture_login(plan, run_dir, tell_open), name="login")
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, capturing.cancel)
        saved = await capturing
    except (BrowserError, VariableError, SurroundingsError, ValueError) as error:
        tell(f"launch_camoufox.py: {error}")
        return ExitCode(error.exit_code) if isinstance(error, BrowserError) else ExitCode.USAGE
    except asyncio.CancelledError:
        tell(f"launch_camoufox.py: interrupted; {NOTHING_SAVED}")
        return ExitCode.INTERRUPTED
    until = ""
    if saved.expires_at is not None:
        day = datetime.fromtimestamp(saved.expires_at, UTC)
        until = f", valid until {day:%Y-%m-%d %H:%M} UTC by its cookies"
    _say(f"Saved: {arguments.save} (cookies: {saved.cookies}, origins with localStorage: {saved.origins}{until}).")
    if saved.holds:
        _say("A new browser was opened with it, and is logged in.")
    else:
        _say("The login itself lives in the page's memory: each start logs in anew, by login.steps of the site file.")
    _say("Whoever has this file is logged in as you. Try it out:")
    _say(f"  {_check_command(arguments)}")
    return ExitCode.STOPPED


def _check_command(arguments: argparse.Namespace) -> str:
    # sys.executable is the one that has what is needed, such as .venv/bin/python in a checkout.
    python = os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else sys.executable
    command = (python, "-m", "browser.check", arguments.site, "--active-auth-json", str(arguments.save))
    proxy = () if arguments.proxy_file is None else ("--proxy-file", str(arguments.proxy_file))
    return shlex.join((*command, "--engine", arguments.engine, *proxy))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
