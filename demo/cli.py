"""Command line of `python -m demo`: run two logged-in browsers behind one API until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shlex
import signal
from collections.abc import Sequence

from rich.console import Console

from demo.chat import MODELS
from demo.coordinator import KEY
from demo.errors import CoordinatorEnded, DemoError
from demo.fleet import QUESTION, Fleet, run_fleet
from demo.progress import Progress


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo. Return the exit code: 0; 1 if a part failed; 130 if a signal interrupted `--check`."""
    options = _parser().parse_args(argv)
    console, errors = Console(), Console(stderr=True)
    try:
        return asyncio.run(_until_signal(console, check=options.check))
    except CoordinatorEnded as ended:
        errors.print(ended.log, style="dim", markup=False, highlight=False, soft_wrap=True)
        return _fail(errors, ended)
    except DemoError as error:
        return _fail(errors, error)


def _fail(errors: Console, error: DemoError) -> int:
    errors.print(f"demo: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    return 1


async def _until_signal(console: Console, *, check: bool) -> int:
    """Run the demo in a task that every signal cancels: the first stops it in order, the second at once."""
    task = asyncio.create_task(_run(console, check=check), name="demo")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return 130 if check else 0
    return 0


async def _run(console: Console, *, check: bool) -> None:
    async with contextlib.AsyncExitStack() as stack:
        with Progress(console) as progress:
            fleet = await stack.enter_async_context(run_fleet(progress))
        if check:
            _print(console, await fleet.check())
            return
        _print_usage(console, fleet)
        stack.callback(_print_stopping, console)
        await fleet.coordinator.wait()


def _print_stopping(console: Console) -> None:
    with contextlib.suppress(OSError):  # the terminal may be closed already (SIGHUP)
        _print(console, "\nStopping the browsers and the coordinator ...")


def _print_usage(console: Console, fleet: Fleet) -> None:
    api = f"{fleet.coordinator.url}/v1"
    console.print()
    _print(console, f"Any OpenAI client:  OPENAI_BASE_URL={api} OPENAI_API_KEY={KEY}")
    _print(console, f"State of the fleet: {fleet.coordinator.url}/ready")
    _print(console, f"Log:                {fleet.coordinator.log}")
    _print(console, "\nSend a request from another terminal. Ctrl-C here stops everything and removes its files.\n")
    _print(console, _curl(f"{api}/chat/completions"), style="bold cyan")


def _curl(url: str) -> str:
    body = {"model": MODELS[0], "messages": [{"role": "user", "content": QUESTION}]}
    headers = [f"Authorization: Bearer {KEY}", "Content-Type: application/json"]
    # curl applies a proxy variable to 127.0.0.1 as well.
    proxied = any(os.environ.get(name) for name in ("http_proxy", "all_proxy", "ALL_PROXY"))
    direct = ["--noproxy", "127.0.0.1"] if proxied else []
    words = ["curl", url, *direct, *(word for header in headers for word in ("-H", header)), "-d", json.dumps(body)]
    return shlex.join(words).replace(" -", " \\\n  -")


def _print(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Run the whole product against the embedded demo site: log two users in with a real browser, then"
        " serve their two browsers behind one OpenAI-compatible API. Ctrl-C stops it.",
        epilog="BROWSER_EXECUTABLE is the Chromium to use; by default it is looked up on PATH."
        " Coordinator settings that the demo does not set itself are taken from the environment.",
    )
    parser.add_argument("--check", action="store_true", help="send one request, print the answer and exit")
    return parser
