"""What no child sends is a probe's result, never an error: bodies of `/ready`, and bytes that are no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.api_error import to_json
from contract.child_api import Readiness, UnreadyReason
from coordinator.errors import PageFailed
from coordinator.supervision.child_client import ChildClient
from coordinator.supervision.health import Health
from coordinator.supervision.lifecycle import Reason, State
from coordinator.supervision.policy import Policy
from coordinator.supervision.ready_probe import ProbeResult, ReadyProbe
from tests.coordinator.proxy.proxied import Conversation, upstream

NOT_OURS = (Reason.PROBE_FAILED, Reason.PORT_TAKEN)
HEAD = b"HTTP/1.1 200 OK\r\n"
TEXT = st.text(st.characters(), max_size=5) | st.just("\ud800")
STRANGE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats() | TEXT | st.sampled_from([0, -1, 10**400, -(10**400)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)
FIELDS = {
    **dict.fromkeys(Readiness(None).to_json(), STRANGE),
    "instance_id": st.just("id") | STRANGE,
    "status": st.just("ready") | STRANGE,
    "reason": st.sampled_from(list(UnreadyReason)) | STRANGE,
}
BODIES = st.one_of(
    st.binary(max_size=100),
    STRANGE.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries({}, optional=FIELDS).map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b"[" * 100_000, b'{"instance_id":"id","detail":' * 30_000, b"9" * 5000, b" " * 3_000_000 + b"{}"]),
)


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    """Return what a child might write: mostly HTTP with a strange body, else no HTTP at all."""
    body = draw(BODIES)
    status = draw(st.sampled_from([b"200 OK", b"503 Unready", b"204 None", b"999 Odd", b"302 Found"]))
    length = draw(st.sampled_from([b"content-length: %d\r\n" % len(body), b"", b"content-length: 7\r\n"]))
    packed = draw(st.sampled_from([b"", b"", b"", b"content-encoding: gzip\r\n", b"set-cookie: \xff=;;\r\n"]))
    kind = draw(st.sampled_from([b"content-type: application/json\r\n", b"content-type: \xff; charset=none\r\n"]))
    whole = b"HTTP/1.1 " + status + b"\r\n" + kind + length + packed + b"\r\n" + body
    return draw(st.sampled_from([whole, whole, whole, body, HEAD + b"transfer-encoding: chunked\r\n\r\nx\r\n" + body]))


async def probed(responses: list[bytes]) -> list[ProbeResult]:
    """Return what a probe makes of each; a cancel meets the same."""

    async def script(conversation: Conversation) -> None:
        await conversation.send(responses[len(results)])

    results: list[ProbeResult] = []
    client = ChildClient(probe_timeout_s=30.0)
    async with upstream(script) as url:
        with contextlib.closing(client.ready_probe(url, "id")) as probe:
            while len(results) < len(responses):
                assert await client.cancel(url, "token", "r-1") in (True, False)
                results.append(await probe.probe())
    await client.close()
    return results


async def probed_once(url: str, timeout_s: float = 30.0) -> ProbeResult:
    with contextlib.closing(ReadyProbe(url, "id", timeout_s=timeout_s)) as probe:
        return await probe.probe()


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))  # the machine may be busy
@given(st.lists(responses(), min_size=5, max_size=10))
def test_whatever_a_child_answers_is_the_result_of_a_probe(strange: list[bytes]) -> None:
    for result in asyncio.run(probed(strange)):
        assert (result.reason is None) == (result.readiness is not None and result.readiness.reason is None)
        Health(Policy(), lambda: 0.0).judge(result, State.READY)
        to_json([result.detail, result.readiness.to_json() if result.readiness else None])


@pytest.mark.parametrize("body", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "", "\x00"])
async def test_a_strange_body_is_a_failed_probe(body: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    client = ChildClient()
    async with TestServer(application) as server:
        url = str(server.make_url("")).rstrip("/")
        assert (await probed_once(url)).reason in NOT_OURS
        assert not await client.cancel(url, "token", "r-1")
    await client.close()


async def test_a_body_without_end_is_given_up() -> None:
    async def flood(conversation: Conversation) -> None:
        kind = b"image/png" if b"/screenshot" in conversation.head else b"application/json"
        await conversation.send(HEAD + b"content-type: %b\r\n\r\n" % kind)
        while True:
            await conversation.send(b" " * (1 << 20))

    client = ChildClient(cancel_timeout_s=600.0, screenshot_timeout_s=600.0)
    async with upstream(flood) as url, asyncio.timeout(60):
        assert (await probed_once(url, 600.0)).reason in NOT_OURS
        assert not await client.cancel(url, "token", "r-1")
        with pytest.raises(PageFailed):
            await client.screenshot(url, "token")
    await client.close()
