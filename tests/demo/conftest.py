from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp
import pytest

from demo.site import DemoSite, SiteOptions, serve
from tests.demo.visitor import CONTROL_TOKEN, Visitor

NewVisitor = Callable[[], Awaitable[Visitor]]


@pytest.fixture
async def site() -> AsyncIterator[DemoSite]:
    """Serve the demo site with its control API."""
    async with serve(SiteOptions(control_token=CONTROL_TOKEN, max_body_bytes=100_000)) as served:
        yield served


@pytest.fixture
async def new_visitor(site: DemoSite) -> AsyncIterator[NewVisitor]:
    """Return a function that makes clients without a login, each with its own cookies."""
    async with AsyncExitStack() as stack:

        async def make() -> Visitor:
            session = aiohttp.ClientSession(
                cookie_jar=aiohttp.CookieJar(unsafe=True), connector=aiohttp.TCPConnector(limit=0)
            )
            return Visitor(site, await stack.enter_async_context(session))

        yield make


@pytest.fixture
async def ada(new_visitor: NewVisitor) -> Visitor:
    """Return a client that is logged in as ada."""
    visitor = await new_visitor()
    await visitor.log_in()
    return visitor
