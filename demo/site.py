"""Serve the demo site, as a program or inside a test.

`python -m demo.site --port 8800`, or `async with serve() as site: ...`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from aiohttp import web
from aiohttp.typedefs import Handler

from demo.accounts import REFRESH_TTL_S, Sessions
from demo.chat import Chat
from demo.control import ControlRoutes
from demo.faults import FAULT_HELP, Faults
from demo.images import Images
from demo.ledger import Ledger
from demo.one_time_code import CodeRoutes
from demo.pages import PageRoutes
from demo.shape import DIRECTIVE_HELP
from demo.transports import ChatRoutes
from demo.web import Authenticator, error_event

CONTROL_TOKEN_VARIABLE = "DEMO_CONTROL_TOKEN"  # noqa: S105 - the name of a variable
WEEK_S = 7 * 24 * 3600.0
MAX_BODY_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True)
class SiteOptions:
    """Options of the site; without a control token there is no `/control/`."""

    control_token: str | None = None
    session_ttl_s: float = WEEK_S
    refresh_ttl_s: float = REFRESH_TTL_S
    max_body_bytes: int = MAX_BODY_BYTES
    strict_csp: bool = False


@dataclass(frozen=True)
class DemoSite:
    """A running site: its URL, and its state for tests in the same process."""

    url: str
    options: SiteOptions
    sessions: Sessions
    ledger: Ledger
    faults: Faults
    chat: Chat


SITE = web.AppKey("site", DemoSite)


def make_app(options: SiteOptions | None = None) -> web.Application:
    """Return a new application; `app[SITE]` is its state."""
    options = options or SiteOptions()
    sessions = Sessions(ttl_s=options.session_ttl_s, refresh_ttl_s=options.refresh_ttl_s)
    ledger, faults = Ledger(), Faults()
    authenticator, images = Authenticator(sessions, faults), Images()
    chat = Chat(ledger, faults, images)
    pages = PageRoutes(authenticator, sessions, strict_csp=options.strict_csp)
    app = web.Application(client_max_size=options.max_body_bytes, middlewares=[_too_large])
    app.add_routes(pages.routes())
    app.add_routes(CodeRoutes(sessions).routes())
    chat_routes = ChatRoutes(authenticator, sessions, chat, images, options.max_body_bytes)
    app.add_routes(chat_routes.routes())
    if options.control_token:
        app.add_routes(ControlRoutes(options.control_token, ledger, faults, sessions, chat).routes())
    app.on_response_prepare.append(pages.add_headers)
    app[SITE] = DemoSite("", options, sessions, ledger, faults, chat)
    app.on_shutdown.append(chat_routes.close)
    return app


@web.middleware
async def _too_large(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        limit = request.client_max_size
        message = f"The message is too long: the limit is {limit} bytes. Shorten it and send it again."
        return web.json_response(error_event("too_large", message), status=413)


@asynccontextmanager
async def serve(
    options: SiteOptions | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[DemoSite]:
    """Serve the site while the context lasts; port 0 chooses a free one. Raise OSError if the port is in use."""
    app = make_app(options)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=2.0, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
        bound = runner.addresses[0]
        yield replace(app[SITE], url=f"http://{host}:{bound[1]}")
    finally:
        await runner.cleanup()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Return the exit code: 0, or 1 if the port cannot be bound."""
    parsed = _parser().parse_args(argv)
    options = SiteOptions(
        control_token=parsed.control_token or os.environ.get(CONTROL_TOKEN_VARIABLE) or None,
        session_ttl_s=parsed.session_ttl_s,
        refresh_ttl_s=parsed.refresh_ttl_s,
        max_body_bytes=parsed.max_body_bytes,
        strict_csp=parsed.strict_csp,
    )
    try:
        asyncio.run(_serve_until_signal(options, parsed.host, parsed.port))
    except OSError as error:
        sys.stderr.write(f"demo site: cannot listen on {parsed.host}:{parsed.port}: {error.strerror}\n")
        return 1
    return 0


async def _serve_until_signal(options: SiteOptions, host: str, port: int) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with serve(options, host=host, port=port) as site:
        sys.stdout.write(f"demo site on {site.url}\n")
        sys.stdout.flush()
        await ended.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo.site",
        description="Serve a web chat page with a login, to test a site file and the product against.",
        epilog="\n".join(
            [
                "Directives in a prompt, in [[...]], shape the answer:",
                *_rows(DIRECTIVE_HELP),
                'POST {"kind", "account", "count", "ms"} to /control/faults activates a fault:',
                *_rows(FAULT_HELP),
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8800, help="0 chooses a free one (default 8800)")
    parser.add_argument("--control-token", help=f"enables /control/; prefer the variable {CONTROL_TOKEN_VARIABLE}")
    parser.add_argument("--session-ttl-s", type=float, default=WEEK_S, help="lifetime of a session in seconds")
    parser.add_argument(
        "--refresh-ttl-s",
        type=float,
        default=REFRESH_TTL_S,
        help="lifetime in seconds of a session at /refresh/, from its last refresh",
    )
    parser.add_argument("--max-body-bytes", type=int, default=MAX_BODY_BYTES)
    parser.add_argument("--strict-csp", action="store_true", help="allow the page to connect to this site only")
    return parser


def _rows(table: Mapping[str, str]) -> list[str]:
    return [*(f"  {name:20} {text}" for name, text in table.items()), ""]


if __name__ == "__main__":
    sys.exit(main())
