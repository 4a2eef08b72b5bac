"""Bodies of `/ready` that no child sends are a probe's result, never an error."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from coordinator.supervision.child_client import ChildClient
from coordinator.supervision.lifecycle import Reason


@pytest.mark.parametrize("body", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "", "\x00"])
async def test_a_strange_body_is_a_failed_probe(body: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    client = ChildClient(probe_timeout_s=30.0)
    async with TestServer(application) as server:
        url = str(server.make_url("")).rstrip("/")
        assert (await client.probe(url, "id")).reason in (Reason.PROBE_FAILED, Reason.PORT_TAKEN)
        assert not await client.cancel(url, "token", "r-1")
    await client.close()
