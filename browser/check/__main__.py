"""Try a site file on the real page, step by step, with a login, and say which step fails and why."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from rich.console import Console

from browser.check.checkup import Checkup
from browser.check.context import PROMPT, CheckPlan
from browser.check.outcome import MEANINGS, Exit
from browser.check.screen import Screen
from browser.settings import BrowserSettings, EngineName, VariableError, read_variables
from contract.logs import escape_unencodable
from contract.output import flush_output
from contract.proxies import Proxy, read_own_proxy

STOP_PROMPT = "Write the numbers from 1 to 400, one on each line, and nothing else."
ANSWER_TIMEOUT_S = 30.0
_EPILOG = """\
Two prompts are sent, the second to stop its answer; with --no-send none. What is saved may hold what the
page shows, and only you can read it.

The environment may hold: BROWSER_EXECUTABLE, CAMOUFOX_EXECUTABLE_PATH, SITE_URL (another address for the
site), HTTPS_PROXY, NO_PROXY.

Exit codes:
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the check and return its exit code."""
    options = parser().parse_args(argv)
    escape_unencodable()
    screen = Screen(Console())
    began = time.monotonic()
    try:
        checked = plan(options)
        with tempfile.TemporaryDirectory(prefix="tabfleet-", ignore_cleanup_errors=True) as run_dir:
            code = asyncio.run(Checkup(checked, screen, Path(run_dir), options.report).run())
    except VariableError as error:
        sys.stderr.write(f"browser.check: {error}\n")
        return Exit.USAGE
    except OSError as error:
        sys.stderr.write(f"browser.check: {error.filename or 'the report'} cannot be written: {error.strerror}\n")
        return Exit.USAGE
    except KeyboardInterrupt:
        sys.stderr.write("browser.check: interrupted; the browser is closed\n")
        return Exit.INTERRUPTED
    took = f"{time.monotonic() - began:.1f} s"
    if code is Exit.PASSED:
        screen.say(f"passed in {took}", "bold green")
    else:
        screen.say(f"failed after {took}, exit code {code.value}: {MEANINGS[code]}", "bold red")
    return code


def plan(options: argparse.Namespace) -> CheckPlan:
    """Return what is to be checked, by the command line and the variables. Raises VariableError."""
    given = os.environ.get("BROWSER_ENGINE") or "camoufox"
    known: tuple[EngineName, ...] = get_args(EngineName)
    engine = options.engine or next((name for name in known if name == given), None)
    if engine is None:
        raise VariableError(f"BROWSER_ENGINE: must be one of {', '.join(known)}, not {given!r}")
    return CheckPlan(
        site=options.site,
        profile=options.active_auth_json,
        engine=engine,
        headless=options.headless,
        settings=read_variables(BrowserSettings).model_copy(
            update={
                "first_token_timeout_s": options.answer_timeout_s,
                "stream_idle_timeout_s": options.answer_timeout_s,
            }
        ),
        prompt=options.prompt,
        stop_prompt=options.stop_prompt,
        model=options.model,
        sends=options.send,
        proxy=_own_proxy(options.proxy_file),
    )


def _own_proxy(path: Path | None) -> Proxy | None:
    try:
        return None if path is None else read_own_proxy(path)
    except ValueError as error:
        raise VariableError(f"--proxy-file: {error}") from None


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    codes = "\n".join(f"  {code.value:3}  {meaning}" for code, meaning in MEANINGS.items())
    parser = argparse.ArgumentParser(
        prog="python -m browser.check",
        description=__doc__,
        epilog=_EPILOG + codes + "\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("site", metavar="SITE", help="a name in sites/, or a site file's path")
    parser.add_argument(
        "--active-auth-json",
        type=Path,
        metavar="P",
        help="the login: a Playwright storage_state file; not needed where the site has none (login.none)",
    )
    parser.add_argument(
        "--proxy-file",
        type=Path,
        metavar="P",
        help="a file with the URL of the login's own proxy: nothing goes past it",
    )
    parser.add_argument("--engine", choices=get_args(EngineName), help="the browser; BROWSER_ENGINE, else camoufox")
    parser.add_argument(
        "--headless", action=argparse.BooleanOptionalAction, default=True, help="--no-headless lets you watch"
    )
    parser.add_argument("--model", help="the model that is asked; the site file's first when not given")
    parser.add_argument("--prompt", default=PROMPT, help="what is asked (%(default)s)")
    parser.add_argument("--stop-prompt", default=STOP_PROMPT, help="what is asked for an answer to stop (%(default)s)")
    parser.add_argument(
        "--send", action=argparse.BooleanOptionalAction, default=True, help="--no-send: up to the prompt in the input"
    )
    parser.add_argument(
        "--answer-timeout-s",
        type=_seconds,
        default=ANSWER_TIMEOUT_S,
        metavar="S",
        help="how long an answer may take to begin, and to go on, in seconds (%(default)g)",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="where the screenshot, the events and the page's requests are saved, passed or not; "
        "when not given: on failure, in a new folder that is named then",
    )
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds (above 0, at most 86400)")
    return seconds


if __name__ == "__main__":
    os.umask(0o077)  # the browser's own files too; not in main(), which a caller's process may outlive
    code = main()
    flush_output()
    sys.exit(code)
