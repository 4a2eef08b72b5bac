"""Faults and directives of the demo site."""

from __future__ import annotations

import time

import aiohttp
import pytest
from yarl import URL

from demo.shape import FAILURES, QUOTA
from tests.demo.conftest import NewVisitor
from tests.demo.visitor import Visitor, first_token
from tests.support.waiting import HANG_LIMIT_S


async def test_expired_session_is_out_at_once(ada: Visitor, new_visitor: NewVisitor) -> None:
    grace = await new_visitor()
    await grace.log_in("grace", "hopper")
    await ada.fault("expire_session", account="ada")
    assert (await ada.submit("hello")).status == 401
    assert (await ada.get("/chat")).headers["Location"] == "/login?next=/chat"
    assert (await grace.ask("hello")).end == "done"
    await ada.log_in()
    assert (await ada.ask("hello")).end == "done"


async def test_expired_session_closes_an_open_socket_at_the_next_question(ada: Visitor) -> None:
    async with ada.http.ws_connect(f"{ada.site.url}/api/ws") as socket:
        await ada.fault("expire_session")
        await socket.send_json({"type": "ask", **ada.message("hello")})
        await socket.receive()
        assert socket.close_code == 4401


@pytest.mark.parametrize("kind", ["stall_first", "stall_middle"])
async def test_stall_lasts_as_long_as_it_says(ada: Visitor, kind: str) -> None:
    await ada.fault(kind, ms=300, count=1)
    begun = time.monotonic()
    answer = await ada.ask("[[delay_ms=0]]")
    assert answer.end == "done"
    assert 0.3 <= time.monotonic() - begun < HANG_LIMIT_S


@pytest.mark.parametrize("where", ["first", "middle"])
async def test_a_stall_without_an_end_is_over_when_faults_are_lifted(ada: Visitor, where: str) -> None:
    async with await ada.submit(f"[[stall={where}]]") as response:
        assert await response.content.readline()
        await ada.control("DELETE", "faults", params={"account": "grace"})
        assert (await ada.entry())["outcome"] is None
        await ada.control("DELETE", "faults", params={"account": "ada"})
        assert (await response.text()).endswith('data: {"type":"done"}\n\n')


async def test_slow_tokens(ada: Visitor) -> None:
    await ada.fault("slow_tokens", ms=40, account="ada")
    begun = time.monotonic()
    await ada.ask("[[tokens=8]]")
    assert time.monotonic() - begun >= 9 * 0.04


async def test_break_off_cuts_the_stream_without_an_end(ada: Visitor) -> None:
    await ada.fault("break_off", count=1)
    response = await ada.submit("hello")
    with pytest.raises(aiohttp.ClientPayloadError):
        await response.read()
    assert (await ada.entry(outcome="error"))["answer"]
    assert (await ada.ask("hello")).end == "done"


async def test_break_off_cuts_the_socket(ada: Visitor) -> None:
    await ada.fault("break_off", count=1)
    answer = await ada.ask_by_socket("hello")
    assert answer.end == "token"


async def test_http_500_counts_as_a_submission(ada: Visitor) -> None:
    await ada.fault("http_500", count=2)
    assert [(await ada.submit("hello")).status for _ in range(3)] == [500, 500, 200]
    outcomes = [entry.outcome for entry in ada.site.ledger.entries()]
    assert outcomes[:2] == ["error", "error"]


@pytest.mark.parametrize("transport", ["sse", "ws"])
async def test_quota(ada: Visitor, transport: str) -> None:
    await ada.fault("quota")
    answer = await (ada.ask("hello") if transport == "sse" else ada.ask_by_socket("hello"))
    assert answer.events[-1] == {"type": "error", "code": "quota", "message": QUOTA}
    assert answer.text == ""


async def test_rotating_session_kills_the_old_cookie(ada: Visitor, new_visitor: NewVisitor) -> None:
    await ada.fault("rotate_sessions", account="ada")
    (old,) = ada.http.cookie_jar
    assert (await ada.ask("by SSE")).end == "done"
    assert (await ada.ask_by_socket("by WebSocket")).end == "done"
    (new,) = ada.http.cookie_jar
    assert old.value != new.value
    thief = await new_visitor()
    thief.http.cookie_jar.update_cookies({old.key: old.value}, response_url=URL(ada.site.url))
    assert (await thief.get("/api/me")).status == 401
    assert (await ada.get("/api/me")).status == 200


async def test_hang_page_says_so_in_the_stream(ada: Visitor) -> None:
    await ada.fault("hang_page", ms=5)
    assert {"type": "busy", "ms": 5} in (await ada.ask("hello")).events


async def test_crash_page_says_so_in_the_stream(ada: Visitor) -> None:
    await ada.fault("crash_page", count=1)
    assert {"type": "crash"} in (await ada.ask("hello")).events


@pytest.mark.parametrize("transport", ["sse", "ws"])
async def test_refuse(ada: Visitor, transport: str) -> None:
    await ada.fault("refuse", count=1)
    answer = await (ada.ask("hello") if transport == "sse" else ada.ask_by_socket("hello"))
    assert answer.events[-1] == {"type": "error", "code": "refused", "message": FAILURES["refused"]}
    assert answer.text == ""


async def test_faults_are_listed_and_lifted(ada: Visitor) -> None:
    await ada.fault("quota", account="ada")
    await ada.fault("http_500", count=1, account="grace")
    kinds = [fault["kind"] for fault in (await ada.control("GET", "faults"))["faults"]]
    assert kinds == ["quota", "http_500"]
    await ada.control("DELETE", "faults", params={"account": "ada"})
    assert (await ada.ask("hello")).end == "done"
    assert (await ada.control("DELETE", "faults"))["faults"] == []


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({}, "expire_session"),
        ({"kind": "x"}, "quota"),
        ({"kind": "quota", "count": -1}, "count"),
        ({"kind": 1}, "kind"),
    ],
)
async def test_broken_fault_is_refused(ada: Visitor, fault: dict[str, object], word: str) -> None:
    headers = {"X-Demo-Control": "made-up control token"}
    async with ada.http.post(f"{ada.site.url}/control/faults", json=fault, headers=headers) as response:
        assert response.status == 400
        assert word in (await response.json())["message"]


async def test_prompt_can_end_its_own_session(ada: Visitor) -> None:
    assert (await ada.submit("[[error=expired]]")).status == 401
    assert (await ada.get("/api/me")).status == 401


async def test_error_in_the_middle_comes_after_text(ada: Visitor) -> None:
    answer = await ada.ask("[[error=middle]]")
    assert answer.end == "error"
    assert "token:" in answer.text


async def test_split_body_is_the_same_answer(ada: Visitor) -> None:
    answer = await ada.ask("[[split unicode tokens=50]]")
    assert answer.end == "done"
    assert (await ada.entry(token=answer.token))["answer"] == answer.text


async def test_empty_answer(ada: Visitor) -> None:
    assert [event["type"] for event in (await ada.ask("[[empty]]")).events] == ["start", "done"]


async def test_leaving_a_stalled_answer_frees_its_conversation(ada: Visitor) -> None:
    await ada.fault("stall_middle", count=1)
    response = await ada.submit("hello")
    await first_token(response)
    response.close()
    await ada.entry(outcome="left")
    assert (await ada.ask("hello")).end == "done"
