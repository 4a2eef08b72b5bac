"""`launch_camoufox.py --login`: what the person who logs in is told."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from browser.errors import BrowserError
from browser.page.login import NOTHING_SAVED, LoginPlan, capture_login
from browser.settings import BrowserSettings, VariableError, read_variables
from browser.site.load import load_site
from contract.exit_codes import ExitCode
from contract.logs import configure_logging, escape_unencodable
from contract.output import tell


async def run_login(arguments: argparse.Namespace, run_dir: Path) -> ExitCode:
    """Let a person log in and save the login. Return the exit code; never raise for what a person does."""
    escape_unencodable()
    configure_logging("console", "critical")  # what a person is to know is told in words

    def tell_open() -> None:
        _say(f"Log in to {plan.site.url} in the window that has opened. As soon as you are in, your login is saved to")
        _say(f"{plan.path}, and the window closes. Until then closing it, or Ctrl-C, saves nothing.")

    try:
        plan = LoginPlan(
            site=load_site(arguments.site),
            path=arguments.save,
            replace=arguments.replace,
            engine=arguments.engine,
            settings=read_variables(BrowserSettings),
        )
        capturing = asyncio.create_task(capture_login(plan, run_dir, tell_open), name="login")
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, capturing.cancel)
        saved = await capturing
    except (BrowserError, VariableError) as error:
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
    _say("Whoever has this file is logged in as you. Try it out:")
    command = ("python", "-m", "browser.check", arguments.site, "--active-auth-json", str(arguments.save))
    _say(f"  {shlex.join((*command, '--engine', arguments.engine))}")
    return ExitCode.STOPPED


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
