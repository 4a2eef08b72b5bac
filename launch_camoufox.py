"""Start one child: a small HTTP server that drives one web chat page in a real browser.

With --login: open a browser for a person to log in, and save the login. The command line and environment are the
contract with the coordinator; `--help` tells both.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from contract import child_environment
from contract.exit_codes import MEANINGS, ExitCode
from contract.output import flush_output

ENVIRONMENT = """\
the environment may hold:
  KEY_FILE_PATH                           API keys, one a line
  SITE_URL                                another address for the site
  BROWSER_EXECUTABLE                      Chromium's or Firefox's program; else it is found on PATH
  CAMOUFOX_EXECUTABLE_PATH                Camoufox's program
  CHROMIUM_SANDBOX                        on or off
  HTTPS_PROXY, NO_PROXY, EXTRA_CA_FILE    how the browser reaches the site
  FIRST_TOKEN_TIMEOUT_S, STREAM_IDLE_TIMEOUT_S, LOGIN_CHECK_S, SLEEP_AFTER_S, SLEEP_CHECK_S,
  MAX_BODY_BYTES
  LOG_FORMAT, LOG_LEVEL                   console or json; debug, info, warning, error or critical
The coordinator adds TABFLEET_* of its own.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    codes = "\n".join(f"  {code.value:3}  {meaning}" for code, meaning in MEANINGS.items())
    cli = argparse.ArgumentParser(
        prog="launch_camoufox.py",
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog=f"{ENVIRONMENT}\nexit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cli.add_argument("--headless", action=argparse.BooleanOptionalAction, default=True, help="no window (default)")
    cli.add_argument("--server-port", type=_port, help="HTTP port on 127.0.0.1")
    cli.add_argument("--stream-port", type=_port, help="port on 127.0.0.1 that the page sends its answers to")
    cli.add_argument("--active-auth-json", type=Path, help="the login: a Playwright storage_state file")
    cli.add_argument("--site", help="a name in sites/, or a site file's path")
    cli.add_argument("--engine", choices=("camoufox", "chromium", "firefox"), default="camoufox")
    cli.add_argument(
        "--proxy-file",
        type=Path,
        metavar="PATH",
        help="a file with the URL of the login's own proxy: nothing goes past it",
    )
    login = cli.add_argument_group("to log in", "needs --site and --save, and a display unless login.steps log in")
    login.add_argument("--login", action="store_true", help="open a browser, and save the login once it is done")
    login.add_argument("--save", type=Path, metavar="PATH", help="where: a new file, NAME.json, that only you may read")
    login.add_argument("--replace", action="store_true", help="with --save: replace the file if it is there")
    cli.add_argument("--host", type=int, metavar="FD", help=argparse.SUPPRESS)  # by the coordinator alone
    cli.add_argument("--remote-login", action="store_true", help=argparse.SUPPRESS)  # by the coordinator alone
    return cli


def parse() -> argparse.Namespace:
    """Return the command line that was given; what is missing of it ends the program."""
    cli = parser()
    arguments = cli.parse_args()
    wanted: tuple[str, ...] = ("site", "server_port", "stream_port", "active_auth_json")
    if arguments.host is not None:
        wanted = ("stream_port",)
    elif arguments.login or arguments.remote_login:
        wanted = ("site", "save") if arguments.login else ("site", "server_port")
    missing = [f"--{name.replace('_', '-')}" for name in wanted if getattr(arguments, name) is None]
    if missing:
        cli.error(f"the following arguments are required: {', '.join(missing)}")
    return arguments


def main() -> int:
    """Run one child until it is told to stop. Return its exit code."""
    arguments = parse()
    parent = os.environ.get(child_environment.PARENT_PID, "")
    if parent.isdigit() and os.getppid() != int(parent):
        return ExitCode.PARENT_GONE
    os.umask(0o077)
    given = os.environ.get(child_environment.RUN_DIR)
    if given:
        return _run(arguments, Path(given))
    with tempfile.TemporaryDirectory(prefix="tabfleet-", ignore_cleanup_errors=True) as private:
        return _run(arguments, Path(private))


def _run(arguments: argparse.Namespace, run_dir: Path) -> int:
    if arguments.login:
        from api_utils.login import run_login  # noqa: PLC0415 - as below

        return _until_done(run_login(arguments, run_dir))
    if arguments.remote_login:
        from api_utils.remote_login import run_remote_login  # noqa: PLC0415 - as below

        return _until_done(run_remote_login(arguments, run_dir))
    from api_utils.start import start_child, start_host  # noqa: PLC0415 - --help and a lost parent need none of it

    return _until_done((start_child if arguments.host is None else start_host)(arguments, run_dir))


def _until_done(work: Coroutine[Any, Any, int]) -> int:
    """Run it to its end, and not those of other tasks, as `asyncio.run` would: they end with the process.

    Playwright's own never end if it was cancelled while its driver started.
    """
    return asyncio.Runner().run(work)


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is not a port (1 to 65535)")
    return port


if __name__ == "__main__":
    code = main()
    flush_output()
    os._exit(code)  # all is closed; taking the interpreter down by the book would only delay the news
