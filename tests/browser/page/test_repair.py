"""A second prompt in the same conversation, on real pages: asked where the first answer cannot be passed on."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import aiohttp
import pytest

from api_utils.tools import write_call
from browser.page.chat_page import ChatPage
from contract.child_api import CANCEL_PATH
from contract.run_folder import read_submitted
from demo.site import DemoSite
from tests.api.conftest import serve_page
from tests.api.test_tools import NOW, OSLO, TOOLS
from tests.browser.asking import ask, check_answer, last
from tests.browser.capture.test_ways import NO_NETWORK, WEBSOCKET
from tests.browser.conftest import Pages, demo_file
from tests.browser.profiles import cookie_state
from tests.support.waiting import HANG_LIMIT_S, eventually

# tests/api/test_repair.py shows most of it without a browser.
pytestmark = pytest.mark.slow

URL = "/v1/chat/completions"
ID = {"x-request-id": "one"}
BAD = write_call("weather", '{"city": 7}')
NO_STOP = {"stop": '[stop]\nanswering = "[data-testid=stop]"\nactions = [{ click = "[data-testid=stop]" }]\n|'}


def says(*lines: str) -> str:
    text = "\n".join(lines)
    return f"say={text.encode().hex()}"


def body(script: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Weather? {script}"}]
    return {"model": "demo-small", "messages": messages, "tools": TOOLS, **more}


async def asked(page: ChatPage, script: str, **more: Any) -> tuple[aiohttp.ClientResponse, Any]:
    async with serve_page(page) as client, asyncio.timeout(HANG_LIMIT_S):
        response = await client.post(URL, json=body(script, **more), headers=ID)
        return response, await response.json()


def names(answer: Any) -> list[str]:
    return [call["function"]["name"] for call in answer["choices"][0]["message"]["tool_calls"]]


@pytest.fixture(params=["network", "websocket", "dom", "looks"])
async def read_so(request: pytest.FixtureRequest, shared_pages: Pages, demo: DemoSite) -> ChatPage:
    """A page whose answers are read in one of the ways there are."""
    path = "/chat?transport=ws" if request.param == "websocket" else "/chat"
    change = {"dom": NO_NETWORK, "looks": NO_NETWORK, "websocket": WEBSOCKET}.get(request.param, {})
    page = shared_pages.make(demo_file(demo, path, **change), cookie_state(demo))
    if request.param == "looks":
        page._capture.init_script = lambda: ""  # type: ignore[method-assign]
    await page.start()
    return page


async def test_the_second_answer_of_a_conversation_is_read_in_every_way(read_so: ChatPage, demo: DemoSite) -> None:
    script = f"[[{says('I look it up.', BAD)}]] [[next {says(OSLO, NOW)}]]"
    response, answer = await asked(read_so, script)
    assert response.status == 200, answer
    assert names(answer) == ["weather", "now"]
    first, second = demo.ledger.entries()
    assert first.conversation == second.conversation
    assert second.prompt.startswith("Your last answer cannot be used: it calls weather with wrong arguments")
    assert (first.model, second.model, second.outcome) == ("demo-small", "demo-small", "done")
    assert read_submitted(read_so._run_dir) == frozenset(("one", "one#2"))
    check_answer(await ask(read_so, "next"), "next", last(demo))
    assert last(demo).conversation != first.conversation


async def test_answers_that_say_the_same_are_told_apart(read_so: ChatPage, demo: DemoSite) -> None:
    async with read_so.converse("one", "demo-small") as conversation:
        for prompt in ("a [[say=61]] [[next say=61]] [[next empty]] [[next say=6162]]", "b", "c", "d"):
            pieces = [str(piece) async for piece in conversation.ask(prompt)]
            assert "".join(pieces) == {"c": "", "d": "ab"}.get(prompt, "a")
    assert len({entry.conversation for entry in demo.ledger.entries()}) == 1


@pytest.mark.parametrize(
    ("change", "rest", "outcome"),
    [({}, "and more " * 200, "stopped"), (NO_STOP, "and more " * 200, "done"), ({}, "", "done")],
    ids=["stop", "no stop", "at its end"],
)
async def test_the_page_is_at_rest_before_it_is_asked_again(
    shared_pages: Pages, demo: DemoSite, change: dict[str, str], rest: str, outcome: str
) -> None:
    """An answer that goes on after a bad call is stopped, or where a page has no stop, awaited."""
    page = await shared_pages.open(demo_file(demo, **change), cookie_state(demo))
    _, answer = await asked(page, f"[[{says(BAD, rest)}]] [[next {says(NOW)}]]")
    assert names(answer) == ["now"]
    assert [entry.outcome for entry in demo.ledger.entries()] == [outcome, "done"]


@pytest.mark.parametrize(
    ("script", "code", "reason", "is_taken"),
    [
        ("error=quota", "quota", "quota", False),
        ("error=expired", "login_expired", "login_expired", False),
        ("error=refused", "refused", None, True),
        ("break_off", "site_error", None, True),
        ("crash", "page_broken", None, True),
    ],
)
async def test_a_repair_that_fails_is_never_submitted_elsewhere(
    shared_page: ChatPage, demo: DemoSite, *, script: str, code: str, reason: str | None, is_taken: bool
) -> None:
    """Though the site may not have taken the repair, it has answered the request's own prompt."""
    response, answer = await asked(shared_page, f"[[{says(BAD)}]] [[next {script}]]")
    assert answer["error"]["code"] == code
    assert response.headers["x-should-retry"] == "false"
    assert response.status in (400, 502)
    assert read_submitted(shared_page._run_dir) == frozenset(("one", "one#2") if is_taken else ("one",))
    assert len(demo.ledger.entries()) == 2
    if reason:
        assert shared_page.status.reason == reason
    else:
        await eventually(lambda: shared_page.status.ready and not shared_page.busy)
        check_answer(await ask(shared_page, "next", request_id="two"), "next", last(demo))


async def test_a_client_that_leaves_in_the_middle_of_a_repair(shared_page: ChatPage, demo: DemoSite) -> None:
    async with serve_page(shared_page) as client:
        script = f"[[{says('So.', BAD)}]] [[next {says('It rains. ' * 5)} stall=middle]]"
        response = await client.post(URL, json=body(script, stream=True), headers=ID)
        await eventually(lambda: len(demo.ledger.entries()) == 2 and last(demo).pieces)
        response.close()
        await eventually(lambda: last(demo).outcome == "stopped")
    check_answer(await ask(shared_page, "next", request_id="two"), "next", last(demo))


async def test_a_repair_is_cancelled_as_its_request_is(shared_page: ChatPage, demo: DemoSite) -> None:
    async with serve_page(shared_page) as client:
        script = f"[[{says(BAD)}]] [[next {says(NOW)} stall=middle]]"
        asking = asyncio.create_task(client.post(URL, json=body(script), headers=ID))
        await eventually(lambda: len(demo.ledger.entries()) == 2 and last(demo).pieces)
        cancelled = await client.post(CANCEL_PATH.format(request_id="one"))
        assert cancelled.status == 200
        assert not shared_page.busy
        assert last(demo).outcome == "stopped"
        response = await asking
        assert (response.status, response.headers["x-should-retry"]) == (502, "false")


async def test_leaving_between_the_two_prompts_stops_the_first_answer(shared_page: ChatPage, demo: DemoSite) -> None:
    async with shared_page.converse("one", "demo-small") as conversation:
        async with aclosing(conversation.ask("[[tokens=2000]]")) as pieces:
            await anext(pieces)
        assert last(demo).outcome is None
    await eventually(lambda: last(demo).outcome == "stopped")


async def test_reasoning_is_read_apart_from_the_answer_in_every_way(read_so: ChatPage, demo: DemoSite) -> None:
    """Also that of a second answer, in a conversation that shows the first one's."""
    hm, ah = "Hm, which one?\nThe first.", "Ah, the other one."
    script = (
        f"[[think={hm.encode().hex()} {says('I look it up.', BAD)}]] [[next think={ah.encode().hex()} {says(NOW)}]]"
    )
    response, answer = await asked(read_so, script)
    assert response.status == 200, answer
    message = answer["choices"][0]["message"]
    assert message["content"] == "I look it up."
    assert names(answer) == ["now"]
    assert message["reasoning_content"] == hm + ah
    streamed = [piece async for piece in read_so.ask("two", f"[[think={hm.encode().hex()} say=6f6b]]", "demo-small")]
    assert "".join(streamed) == "ok"
