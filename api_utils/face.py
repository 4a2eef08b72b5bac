"""What a child shows of its page over HTTP, put together."""

from __future__ import annotations

import asyncio
import socket

from api_utils.app import make_app
from api_utils.request_queue import Desk
from api_utils.server import serve
from api_utils.settings import ChildSettings
from api_utils.state import ChildState
from browser.page.chat_page import ChatPage
from contract.exit_codes import ExitCode
from contract.keys import FollowedKeys


async def show(  # noqa: PLR0913 - a child's parts
    page: ChatPage,
    starting: asyncio.Task[None],
    listener: socket.socket,
    *,
    settings: ChildSettings,
    keys: FollowedKeys,
    site: str,
    engine: str,
) -> ExitCode:
    """Serve a page that is starting until its child is to end."""
    state = ChildState(page, Desk(page), settings, keys, site, engine)
    return await serve(make_app(state), listener, page, state.desk, starting)
