"""`python -m demo`: a fleet of two logged-in browsers behind one API, until Ctrl-C."""

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
from demo.screen import Screen


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo. Returns the exit code: 0, 1 if a part failed, 130 when a signal ended a check."""
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
    """Run the demo in a task that each signal cancels: the first ends it in order, the next one at once."""
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
        with Screen(console) as screen:
            fleet = await stack.enter_async_context(run_fleet(screen))
        if check:
            _say(console, await fleet.check())
            return
        _introduce(console, fleet)
        stack.callback(_take_leave, console)
        await fleet.coordinator.wait()


def _take_leave(console: Console) -> None:
    with contextlib.suppress(OSError):  # a terminal that was closed takes no more words
        _say(console, "\nEnding the browsers and all else ...")


def _introduce(console: Console, fleet: Fleet) -> None:
    api = f"{fleet.coordinator.url}/v1"
    console.print()
    _say(console, f"Any OpenAI client:  OPENAI_BASE_URL={api} OPENAI_API_KEY={KEY}")
    _say(console, f"State of the fleet: {fleet.coordinator.url}/ready")
    _say(console, f"Log:                {fleet.coordinator.log}")
    _say(console, "\nAsk in another terminal; Ctrl-C here ends it all and leaves nothing behind.\n")
    _say(console, _curl(f"{api}/chat/completions"), style="bold cyan")


def _curl(url: str) -> str:
    body = {"model": MODELS[0], "messages": [{"role": "user", "content": QUESTION}]}
    headers = [f"Authorization: Bearer {KEY}", "Content-Type: application/json"]
    proxied = any(os.environ.get(name) for name in ("http_proxy", "all_proxy", "ALL_PROXY"))
    direct = ["--noproxy", "127.0.0.1"] if proxied else []
    words = ["curl", url, *direct, *(word for header in headers for word in ("-H", header)), "-d", json.dumps(body)]
    return shlex.join(words).replace(" -", " \\\n  -")


def _say(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Run the whole product against the embedded demo site: two users are logged in with a real"
        " browser, and their two browsers answer behind one OpenAI-compatible API. Ctrl-C ends it.",
        epilog="BROWSER_EXECUTABLE names the Chromium to use; without it the usual names are looked up on PATH."
        " The settings of the coordinator that the demo does not set itself may be given in the environment.",
    )
    parser.add_argument("--check", action="store_true", help="ask one question through the API, show the answer, end")
    return parser
