"""Submissions and answers over both transports, and their ledger entries."""

from __future__ import annotations

import asyncio
import hashlib
import time

import aiohttp
import pytest

from demo.chat import MODELS
from tests.demo.conftest import NewVisitor
from tests.demo.visitor import Answer, Visitor, first_token


async def ask(visitor: Visitor, transport: str, prompt: str) -> Answer:
    """Submit a prompt over this transport and return the answer."""
    return await (visitor.ask(prompt) if transport == "sse" else visitor.ask_by_socket(prompt))


@pytest.mark.parametrize("transport", ["sse", "ws"])
async def test_answer_carries_digest_and_token_of_its_own_submission(ada: Visitor, transport: str) -> None:
    prompt = f"Grüße,\n{time.time()} 👩‍🚀"
    answer = await ask(ada, transport, prompt)
    entry = await ada.entry(token=answer.token)
    assert answer.digest == entry["prompt_sha256"] == hashlib.sha256(prompt.encode()).hexdigest()
    assert entry["prompt"] == prompt
    assert entry["answer"] == answer.text
    assert (entry["account"], entry["transport"], entry["outcome"]) == ("ada", transport, "done")
    assert entry["conversation"] == ada.conversation
    assert entry["started_mono"] < entry["ended_mono"] <= time.monotonic()
    assert entry["started_at"] < entry["ended_at"] <= time.time()


async def test_same_prompt_gets_the_same_words_but_another_token(ada: Visitor) -> None:
    first, second = await ada.ask("again"), await ada.ask("again")
    assert first.text.split("\n\n")[1] == second.text.split("\n\n")[1]
    assert first.token != second.token


@pytest.mark.parametrize("transport", ["sse", "ws"])
async def test_token_variant_asks_too(new_visitor: NewVisitor, transport: str) -> None:
    visitor = await new_visitor()
    await visitor.log_in_by_token("user3", "demo3")
    answer = await ask(visitor, transport, "hello")
    assert (await visitor.entry(token=answer.token))["account"] == "user3"


async def test_echo_model_says_the_prompt(ada: Visitor) -> None:
    prompt = "line one\n  <line> two\t" + "x" * 5000
    answer = await ada.ask(prompt, model="demo-echo")
    assert answer.text.split("\n\n", 1)[1] == prompt


@pytest.mark.parametrize("transport", ["sse", "ws"])
async def test_a_prompt_scripts_the_answers_to_those_that_follow(ada: Visitor, transport: str) -> None:
    script = f"[[say={b'one'.hex()}]] [[next say={b'two'.hex()}]] [[next say={b'three'.hex()}]]"
    texts = [(await ask(ada, transport, prompt)).text for prompt in (script, "and", "[[say=00]]")]
    assert texts == ["one", "two", "three"]
    assert (await ask(ada, transport, "[[echo]] as usual")).text.endswith("[[echo]] as usual")


async def test_conversation_remembers_and_a_fresh_one_does_not(ada: Visitor) -> None:
    first = await ada.ask("my secret")
    assert f"1. {first.digest}\n" in (await ada.ask("So, what did I say before?")).text
    ada.conversation = "another-one"
    assert "Earlier prompts: 0\n" in (await ada.ask("[[memory]]")).text


async def test_conversation_belongs_to_one_account(ada: Visitor, new_visitor: NewVisitor) -> None:
    await ada.ask("my secret")
    grace = await new_visitor()
    await grace.log_in("grace", "hopper")
    grace.conversation = ada.conversation
    response = await grace.submit("[[memory]]")
    assert response.status == 404
    assert (await (await grace.post("/api/stop", grace.message(""))).json()) == {"stopped": False}


async def test_stop_ends_a_stalled_answer_at_once(ada: Visitor) -> None:
    async with await ada.submit("[[stall=middle]]") as response:
        await first_token(response)
        stopped_at = time.monotonic()
        assert (await (await ada.post("/api/stop", ada.message(""))).json()) == {"stopped": True}
        assert (await response.content.read()).endswith(b'data: {"type":"stopped"}\n\n')
    entry = await ada.entry(outcome="stopped")
    assert 0 <= entry["ended_mono"] - stopped_at < 1
    assert (await ada.ask("next")).end == "done"


async def test_stop_by_socket(ada: Visitor) -> None:
    async with ada.http.ws_connect(f"{ada.site.url}/api/ws") as socket:
        await socket.send_json({"type": "ask", **ada.message("[[stall=first]]")})
        assert (await socket.receive_json())["type"] == "start"
        await socket.send_json({"type": "stop"})
        assert await socket.receive_json() == {"type": "stopped"}
        await socket.send_json({"type": "ask", **ada.message("[[tokens=0]]")})
        assert (await socket.receive_json())["type"] == "start"
    assert (await ada.entry(outcome="stopped"))["transport"] == "ws"


@pytest.mark.parametrize("where", ["first", "middle"])
async def test_reader_who_leaves_is_noticed_at_once(ada: Visitor, where: str) -> None:
    response = await ada.submit(f"[[stall={where}]]")
    if where == "middle":
        await first_token(response)
    left_at = time.monotonic()
    response.close()
    entry = await ada.entry(outcome="left")
    assert 0 <= entry["ended_mono"] - left_at < 1
    assert (await ada.ask("next")).end == "done"


async def test_socket_that_closes_is_noticed_at_once(ada: Visitor) -> None:
    async with ada.http.ws_connect(f"{ada.site.url}/api/ws") as socket:
        await socket.send_json({"type": "ask", **ada.message("[[stall=first]]")})
        assert (await socket.receive_json())["type"] == "start"
        left_at = time.monotonic()
    assert 0 <= (await ada.entry(outcome="left"))["ended_mono"] - left_at < 1


async def test_second_submission_to_a_busy_conversation_is_refused(ada: Visitor) -> None:
    async with await ada.submit("[[stall=middle]]") as response:
        await first_token(response)
        assert (await ada.submit("me too")).status == 409
        assert (await ada.ask_by_socket("me too")).events[0]["code"] == "conflict"
        ada.conversation = "another-one"
        assert (await ada.ask("me too")).end == "done"


@pytest.mark.parametrize(
    "wrong",
    [
        {"conversation": "short"},
        {"conversation": None},
        {"model": "gpt"},
        {"prompt": " \n"},
        {"prompt": 3},
        {"prompt": "\ud800"},
    ],
)
async def test_broken_submission_is_refused(ada: Visitor, wrong: dict[str, object]) -> None:
    response = await ada.post("/api/chat", ada.message("x") | wrong)
    assert response.status == 400
    (name,) = wrong
    assert f"`{name}`" in (await response.json())["message"]
    assert ada.site.ledger.entries() == []


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"[]", 400), (b"\xff", 400), (b'{"x":1}', 400)])
async def test_broken_body_is_refused(ada: Visitor, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    async with ada.http.post(f"{ada.site.url}/api/chat", data=body, headers=headers) as response:
        assert response.status == status
        assert (await response.json())["type"] == "error"


async def test_form_post_from_another_page_is_refused(ada: Visitor) -> None:
    async with ada.http.post(f"{ada.site.url}/api/chat", data='{"prompt": "x"}') as response:
        assert response.status == 415


async def test_long_body_is_refused_by_name_of_the_limit(ada: Visitor) -> None:
    response = await ada.submit("x" * 200_000)
    assert response.status == 413
    assert "the limit is 100000 bytes" in (await response.json())["message"]


async def test_asking_needs_a_login(new_visitor: NewVisitor) -> None:
    visitor = await new_visitor()
    assert (await visitor.submit("hello")).status == 401
    async with visitor.http.ws_connect(f"{visitor.site.url}/api/ws") as socket:
        await socket.send_json({"type": "ask", **visitor.message("hello")})
        await socket.receive()
        assert socket.close_code == 4401
    assert visitor.site.ledger.entries() == []


async def test_many_streams_at_once(ada: Visitor) -> None:
    async def one(number: int) -> Answer:
        mine = Visitor(ada.site, ada.http, conversation=f"conversation-{number}")
        return await mine.ask(f"[[tokens=20 delay_ms=50]] {number}")

    answers = await asyncio.gather(*(one(number) for number in range(250)))
    entries = {entry.token: entry for entry in ada.site.ledger.entries()}
    assert len(entries) == 250
    for number, answer in enumerate(answers):
        assert answer.end == "done"
        assert entries[answer.token].prompt == f"[[tokens=20 delay_ms=50]] {number}"
    starts = [entry.started_mono for entry in entries.values()]
    ends = [entry.ended_mono or 0 for entry in entries.values()]
    assert max(starts) < min(ends), "the answers did not all run at the same time"


async def test_ledger_waits_for_a_change(ada: Visitor) -> None:
    await ada.ask("one")
    before = await ada.control("GET", "ledger")
    assert [entry["prompt"] for entry in before["entries"]] == ["one"]
    params = {"after": str(before["revision"]), "wait_s": "10"}
    waiting = asyncio.create_task(ada.control("GET", "ledger", params=params))
    async with await ada.submit("[[stall=middle]] two") as response:
        await first_token(response)
        (entry,) = (await waiting)["entries"]
    assert (entry["id"], entry["outcome"]) == (2, None)
    later = await ada.control("GET", "ledger", params={"after": str(entry["revision"]), "wait_s": "10"})
    assert later["entries"][0]["outcome"] == "left"


async def test_ledger_filters(ada: Visitor) -> None:
    for number in range(3):
        await ada.ask(f"prompt {number}")
    assert (await ada.entry(id="2"))["prompt"] == "prompt 1"
    assert (await ada.entry(since="2"))["prompt"] == "prompt 2"
    none = await ada.control("GET", "ledger", params={"account": "grace", "wait_s": "0.01"})
    assert none["entries"] == []


async def test_me_names_the_models(ada: Visitor) -> None:
    assert (await (await ada.get("/api/me")).json())["models"] == list(MODELS)


async def upload(visitor: Visitor, data: bytes, media_type: str = "image/png") -> aiohttp.ClientResponse:
    """Upload an image and return the response."""
    headers = {**visitor.headers, "Content-Type": media_type}
    return await visitor.http.post(f"{visitor.site.url}/api/images", data=data, headers=headers)


@pytest.mark.parametrize("transport", ["sse", "ws"])
async def test_images_are_noted_and_shown_by_their_digests(ada: Visitor, transport: str) -> None:
    files = {b"first": "image/png", b"second": "image/webp"}
    ada.images = [(await (await upload(ada, data, kind)).json())["id"] for data, kind in files.items()]
    answer = await ask(ada, transport, "look")
    entry = await ada.entry(token=answer.token)
    digests = [hashlib.sha256(data).hexdigest() for data in files]
    assert [(one["type"], one["bytes"], one["sha256"]) for one in entry["images"]] == [
        ("image/png", 5, digests[0]),
        ("image/webp", 6, digests[1]),
    ]
    assert all(f"image-sha256:{digest}" in answer.text for digest in digests)


async def test_an_image_is_its_uploaders_own(ada: Visitor, new_visitor: NewVisitor) -> None:
    grace = await new_visitor()
    await grace.log_in("grace", "hopper")
    grace.images = [(await (await upload(ada, b"mine")).json())["id"]]
    assert (await grace.submit("look")).status == 404
    grace.images = ["unknown"]
    assert (await grace.submit("look")).status == 404


async def test_only_images_can_be_attached(ada: Visitor, new_visitor: NewVisitor) -> None:
    assert (await upload(ada, b"{}", "application/json")).status == 415
    assert (await upload(ada, b"x" * 100_001)).status == 413
    assert (await upload(await new_visitor(), b"mine")).status == 401
