"""Which requests are not admitted, in which order they are checked, and that none of them reaches a child."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import itertools
import json
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import openai
import pytest
from starlette.types import Message
from structlog.testing import capture_logs

from contract.dialects.chat import CHAT
from contract.hosts import names_address
from contract.keys import KeyStore
from coordinator.proxy import admission
from coordinator.proxy.admission import BodyLimits, BodyReader, ChatBody, parse_chat_body
from coordinator.proxy.exchange import Outcome
from coordinator.proxy.headers import HeaderMap
from coordinator.proxy.pool import Pool
from tests.coordinator.proxy.proxied import (
    KEY,
    SOON,
    Caller,
    Conversation,
    ScriptedChildren,
    Served,
    ask,
    backend,
    chat,
    chunked_head,
    request,
    scripted,
    served,
)
from tests.support.waiting import eventually

Encode = Callable[[bytes], bytes]


async def answer_ok(conversation: Conversation) -> None:
    await conversation.whole(b'{"ok":true}')


@pytest.fixture(scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """Shared by all tests that leave it as it was."""
    async with scripted(tmp_path_factory.mktemp("api"), answer_ok) as running:
        yield running


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (request(chat(), key=None), 401, "missing_api_key"),
        (request(chat(), key="wrong"), 401, "invalid_api_key"),
        (request(chat(), "authorization: Basic dGVzdC1rZXk="), 401, "missing_api_key"),
        (request(chat(), "x-api-key: wrong", key=None), 401, "invalid_api_key"),
        (request(method="GET", path="/v1/models", key=None), 401, "missing_api_key"),
        (request(method="GET", path="/v1/nowhere", key=None), 401, "missing_api_key"),
        (request(chat(), "content-type: text/plain"), 415, "unsupported_media_type"),
        (request(chat(), "content-type: application/x-www-form-urlencoded"), 415, "unsupported_media_type"),
        (request(chat(), "content-type: application/jsonp"), 415, "unsupported_media_type"),
        (request(chat("x" * 200_000)), 413, "body_too_large"),
        (request(b"", "content-length: 9999999999999999"), 413, "body_too_large"),
        (request(b"{"), 400, "invalid_request"),
        (request(b""), 400, "invalid_request"),
        (request(b"[]"), 400, "invalid_request"),
        (request(b'"text"'), 400, "invalid_request"),
        (request(b"\xff\xfe{}"), 400, "invalid_request"),
        (request(json.dumps({"model": "fake"}).encode("utf-16")), 400, "invalid_request"),
        (request(b'{"model":"fake","messages":[{"role":"user","content":"\\ud800"}]}'), 400, "invalid_request"),
        (request(b"[" * 50_000), 400, "invalid_request"),
        (request(b'{"a":' * 10_000 + b"1" + b"}" * 10_000), 400, "invalid_request"),
        (request(b'{"model":"fake"}'), 400, "invalid_request"),
        (request(b'{"model":"fake","messages":[]}'), 400, "invalid_request"),
        (request(b'{"model":"fake","messages":"hi"}'), 400, "invalid_request"),
        (request(b'{"messages":[{}]}'), 400, "invalid_request"),
        (request(b'{"model":7,"messages":[{}]}'), 400, "invalid_request"),
        (request(b'{"model":"fake","messages":[{}],"x":NaN}'), 400, "invalid_request"),
        (request(chat(model="gpt-9")), 404, "model_not_found"),
        (request(method="GET", path="/v1/models/gpt-9"), 404, "model_not_found"),
        (request(chat(), path="/v1/embeddings"), 404, "not_found"),
        (request(method="GET", path="/v1"), 404, "not_found"),
        (request(method="GET", path="/v1/chat/completions"), 405, "method_not_allowed"),
        (request(chat(), path="/v1/models"), 405, "method_not_allowed"),
        (request(method="OPTIONS", path="/v1/chat/completions"), 405, "method_not_allowed"),
        (request(chat(), "host: attacker.example"), 421, "misdirected_request"),
        (request(chat(), "host: 127.0.0.1.attacker.example:2048"), 421, "misdirected_request"),
        (request(b"", "host: attacker.example", method="GET", path="/live"), 421, "misdirected_request"),
    ],
)  # fmt: skip
async def test_refused(api: Served, data: bytes, status: int, code: str) -> None:
    answer = await ask(api.port, data)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.header("content-type") == "application/json"
    assert KEY not in answer.body.decode()
    assert api.quiet


async def test_checks_come_in_order(api: Served) -> None:
    """A request with several faults gets the error of the first; each step mends one."""
    big = b"x" * 200_000
    steps = [
        (request(big, "content-type: text/plain", key=None), 401),
        (request(big, "content-type: text/plain"), 415),
        (request(big), 413),
        (request(b"x"), 400),
        (request(chat(model="none")), 404),
        (request(chat()), 200),
    ]
    assert [(await ask(api.port, data)).status for data, _ in steps] == [status for _, status in steps]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/chat", 404),
        ("POST", "/v1/chat/completions/chat/completions", 404),
        ("POST", "/api/v1/chat/completions", 404),
        ("POST", "/completions/chat", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/", 404),
        ("GET", "/", 404),
        ("OPTIONS", "*", 404),
        ("PUT", "/v1/chat/completions", 405),
        ("OPTIONS", "/v1/models", 405),
        ("POST", "/ready", 405),
        ("GET", "/admin/reload", 405),
    ],
)
async def test_what_no_route_takes_gets_an_error_with_a_request_id(
    api: Served, method: str, path: str, status: int
) -> None:
    first, second = [await ask(api.port, request(method=method, path=path)) for _ in range(2)]
    code = {404: "not_found", 405: "method_not_allowed"}[status]
    assert (first.status, first.error["code"], first.header("content-type")) == (status, code, "application/json")
    ids = [value for answer in (first, second) for name, value in answer.headers if name == "x-request-id"]
    assert len(set(ids)) == 2


@pytest.mark.parametrize(
    "path",
    [
        "/v1//chat/completions",
        "//v1/chat//completions",
        "/v1/chat/completions/",
        "/chat/completions",
        "/v1/v1/chat/completions",
    ],
)
async def test_a_path_that_a_client_has_put_together_wrongly_is_its_route(api: Served, path: str) -> None:
    done = len(api.done)
    assert (await ask(api.port, request(chat(), path=path))).status == 200
    assert (await ask(api.port, request(chat(), path=path, key=None))).status == 401
    wrong = await ask(api.port, request(method="GET", path=path))
    assert (wrong.status, wrong.header("allow"), wrong.error["message"]) == (405, "POST", "This route takes POST only.")
    assert len(api.done) == done + 3  # counted as what they are


@pytest.mark.parametrize(
    "path", ["/models", "/models/", "//v1//models", "/v1/models/", "/models/fake", "/v1/v1/models/fake"]
)
async def test_models_are_shown_by_such_paths_too(api: Served, path: str) -> None:
    answer = await ask(api.port, request(method="GET", path=path))
    assert (answer.status, json.loads(answer.body)["object"]) == (200, "model" if "fake" in path else "list")


@pytest.mark.parametrize("path", ["/v1/embeddings", "/", "/v1", "/api/chat"])
async def test_a_path_that_is_no_route_gets_their_names_and_the_usual_mistake(api: Served, path: str) -> None:
    answer = await ask(api.port, request(chat(), path=path))
    assert answer.status == 404
    for words in ("POST /v1/chat/completions", "GET /v1/models", "base_url"):
        assert words in answer.error["message"]


@pytest.mark.parametrize("path", ["/live", "/ready", "/metrics", "/admin/children/ada"])
async def test_every_response_has_a_request_id(api: Served, path: str) -> None:
    assert (await ask(api.port, request(method="GET", path=path))).header("x-request-id")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\r\n\r\n",
        b"GET http://[x HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nno colon\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
        request(chat(), "connection: upgrade", "upgrade: websocket", key=None),
        request(chat(), "host: evil.example", key=None),
        request(chat(), key=None),
        request(b"x", key="wrong"),
        request(method="GET", path="/%ff%00", key=None),
    ],
)
async def test_a_bad_request_without_a_key_leaves_no_warning(
    api: Served, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as logs:
        assert 400 <= (await ask(api.port, data)).status < 500
    assert not [line for line in logs if line["log_level"] != "info"]
    assert not caplog.records


async def test_a_method_that_is_not_allowed_names_the_one_that_is(api: Served) -> None:
    assert (await ask(api.port, request(method="DELETE", path="/v1/models"))).header("allow") == "GET"
    assert (await ask(api.port, request(method="GET"))).header("allow") == "POST"


@pytest.mark.parametrize("header", ["authorization: bearer test-key", "x-api-key: test-key", "X-API-Key:  test-key "])
async def test_a_key_is_taken_from_either_header(api: Served, header: str) -> None:
    assert (await ask(api.port, request(chat(), header, key=None))).status == 200


async def test_a_hashed_key_counts_like_the_key_itself(tmp_path: Path) -> None:
    hashed = f"sha256:{hashlib.sha256(b'the key').hexdigest()}"
    pool = Pool(max_queue=100)
    pool.put(backend("http://127.0.0.1:1"))
    async with served(pool, ScriptedChildren(), tmp_path, keys=(hashed,)) as api:
        listing = request(method="GET", path="/v1/models", key="the key")
        assert (await ask(api.port, listing)).status == 200
        assert (await ask(api.port, request(method="GET", path="/v1/models", key=hashed))).status == 401


async def test_keys_can_be_replaced_while_serving(tmp_path: Path) -> None:
    listing = request(method="GET", path="/v1/models", key="next")
    (tmp_path / "next.txt").write_text("next\n")
    async with scripted(tmp_path, answer_ok) as api:
        assert (await ask(api.port, listing)).status == 401
        api.access.keys = KeyStore.from_file(tmp_path / "next.txt")
        assert (await ask(api.port, listing)).status == 200
        assert (await ask(api.port, request(method="GET", path="/v1/models"))).status == 401


async def test_nobody_is_admitted_before_the_keys_are_known(tmp_path: Path) -> None:
    async with scripted(tmp_path, answer_ok) as api:
        api.access.keys = None
        answer = await ask(api.port, request(chat(), key=None))
        assert (answer.status, answer.error["code"]) == (503, "starting")
        assert answer.header("retry-after")


async def test_without_keys_the_api_is_open(tmp_path: Path) -> None:
    async with scripted(tmp_path, answer_ok, keys=()) as api:
        assert (await ask(api.port, request(chat(), key=None))).status == 200


@pytest.mark.parametrize("size", [99_000, 101_000])
async def test_a_chunked_body_is_measured_as_it_comes(api: Served, size: int) -> None:
    body = chat("x" * size)
    parts = [body[at : at + 7000] for at in range(0, len(body), 7000)]
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))
    answer = await ask(api.port, chunked_head() + chunked)
    assert answer.status == (200 if size < 100_000 else 413)


async def test_an_endless_body_is_refused_without_being_kept(api: Served) -> None:
    caller = await Caller.connect(api.port)
    caller.writer.write(
        request(b"", "transfer-encoding: chunked", "content-length:").replace(b"content-length:\r\n", b"")
    )
    answering = asyncio.ensure_future(caller.head())
    part = b"10000\r\n%b\r\n" % (b"x" * 65536)
    for _ in range(1000):
        if answering.done():
            break
        caller.writer.write(part)
        await caller.writer.drain()
        await asyncio.sleep(0)
    assert (await answering)[0] == 413
    caller.close()


async def test_a_body_that_stops_coming_is_given_up(tmp_path: Path) -> None:
    pool = Pool(max_queue=100)
    pool.put(backend("http://127.0.0.1:1"))
    async with served(pool, ScriptedChildren(), tmp_path, limits=replace(SOON, idle_s=0.1)) as api:
        answer = await ask(api.port, request(b"{", "content-length: 100"))
        assert (answer.status, answer.error["code"]) == (408, "request_timeout")
        assert answer.header("connection") == "close"


async def test_a_body_that_comes_too_slowly_is_given_up(tmp_path: Path) -> None:
    """Each byte comes in time, and the whole would take a day."""
    async with served(Pool(max_queue=100), ScriptedChildren(), tmp_path, limits=replace(SOON, idle_s=0.2)) as api:
        caller = await Caller.connect(api.port)
        caller.writer.write(request(b"", "content-length: 90000").replace(b"content-length: 0\r\n", b""))
        answering = asyncio.ensure_future(caller.head())
        for _ in range(1000):
            if answering.done():
                break
            caller.writer.write(b" ")
            await asyncio.sleep(0.02)
        assert (await asyncio.wait_for(answering, 30))[0] == 408
        caller.close()


async def test_all_bodies_together_have_a_limit(tmp_path: Path) -> None:
    async with scripted(tmp_path, answer_ok, max_buffered_bytes=100_000) as api:
        half = request(b"x" * 60_000, "content-length: 90000")
        unfinished = await Caller.connect(api.port)
        unfinished.writer.write(half)
        await eventually(lambda: api.proxy._bodies._buffered_bytes == 60_000)
        answer = await ask(api.port, request(chat("y" * 50_000)))
        assert (answer.status, answer.error["code"]) == (503, "buffer_full")
        assert answer.header("retry-after") == "5"
        assert (await ask(api.port, request(chat("y" * 20_000)))).status == 200
        unfinished.reset()
        await eventually(lambda: api.proxy._bodies._buffered_bytes == 0)
        assert (await ask(api.port, request(chat("y" * 50_000)))).status == 200
        assert api.proxy._bodies._buffered_bytes == 0


@pytest.mark.parametrize(
    "messages",
    [[{"content": "x"}] * 4097, [{}] * 5000, [{"role": "user", "content": [{"type": "text", "text": ""}] * 50}] * 100],
)
async def test_more_messages_or_parts_than_a_page_could_take_are_refused(tmp_path: Path, messages: object) -> None:
    async with served(Pool(max_queue=100), ScriptedChildren(), tmp_path, max_body_bytes=10_000_000) as api:
        answer = await ask(api.port, request(json.dumps({"model": "fake", "messages": messages}).encode()))
        assert (answer.status, answer.error["param"]) == (400, "messages")


def packed(data: bytes) -> bytes:
    """Return the same bytes at any time: they name a test, and every worker must name it alike."""
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(("coding", "encode"), [("gzip", packed), ("Deflate", zlib.compress)])
async def test_a_compressed_body_reaches_the_child_as_plain_json(tmp_path: Path, coding: str, encode: Encode) -> None:
    reached: list[Conversation] = []

    async def note(conversation: Conversation) -> None:
        reached.append(conversation)
        await answer_ok(conversation)

    async with scripted(tmp_path, note) as api:
        answer = await ask(api.port, request(encode(chat("x" * 90_000)), f"content-encoding: {coding}"))
        assert answer.status == 200
        assert reached[0].body == chat("x" * 90_000)
        assert not reached[0].header("content-encoding")
        assert api.proxy._bodies._buffered_bytes == 0


@pytest.mark.parametrize(
    ("coding", "body", "status", "words"),
    [
        ("br", chat(), 415, "gzip or deflate"),
        ("gzip, gzip", packed(packed(chat())), 415, "gzip or deflate"),
        ("gzip", chat(), 400, "gzip"),
        ("gzip", packed(chat())[:-1], 400, "ends too early"),
        ("gzip", packed(chat()) * 2, 400, "after its end"),
        ("gzip", packed(b"{"), 400, "JSON"),
        ("gzip", packed(b" " * 100_001), 413, "MAX_BODY_BYTES"),
        ("deflate", zlib.compress(b" " * 50_000_000), 413, "MAX_BODY_BYTES"),
    ],
)
async def test_a_compressed_body_that_is_refused(
    api: Served, coding: str, body: bytes, status: int, words: str
) -> None:
    answer = await ask(api.port, request(body, f"content-encoding: {coding}"))
    assert (answer.status, words in answer.error["message"]) == (status, True), answer.error
    assert (answer.header("accept-encoding") == "gzip, deflate") is (status == 415)
    assert api.proxy._bodies._buffered_bytes == 0
    assert api.quiet


async def test_a_coding_that_says_nothing_with_many_bytes_has_the_same_limit(api: Served) -> None:
    nothing = b"\x00\x00\x00\xff\xff"  # a stored block of no bytes: RFC 1951, section 3.2.4
    caller = await Caller.connect(api.port)
    head = chunked_head().replace(b"\r\n\r\n", b"\r\ncontent-encoding: deflate\r\n\r\n")
    caller.writer.write(head + b"2\r\n\x78\x9c\r\n")
    answering = asyncio.ensure_future(caller.head())
    for _ in range(1000):
        if answering.done():
            break
        caller.writer.write(b"1388\r\n%b\r\n" % (nothing * 1000))
        await caller.writer.drain()
        await asyncio.sleep(0)
    assert (await asyncio.wait_for(answering, 30))[0] == 413
    caller.close()


async def test_decoded_bytes_count_in_the_limit_of_all_bodies(tmp_path: Path) -> None:
    async with scripted(tmp_path, answer_ok, max_buffered_bytes=50_000) as api:
        answer = await ask(api.port, request(gzip.compress(chat("y" * 60_000)), "content-encoding: gzip"))
        assert (answer.status, answer.error["code"]) == (503, "buffer_full")
        assert (await ask(api.port, request(gzip.compress(chat("y" * 40_000)), "content-encoding: gzip"))).status == 200


async def test_others_have_turns_between_two_large_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    turns, parsed_at = 0, list[int]()

    def note(raw: bytes, *_: object) -> ChatBody:
        parsed_at.append(turns)
        return parse_chat_body(raw)  # by the name that is imported here, which stays what it is

    async def read() -> None:
        async def receive() -> Message:
            return {"type": "http.request", "body": chat("x" * 300_000)}

        await reader.read(HeaderMap([(b"content-type", b"application/json")]), receive, CHAT)

    monkeypatch.setattr(admission, "parse_chat_body", note)
    reader = BodyReader(BodyLimits(10**6, 10**8, 30))
    async with asyncio.TaskGroup() as group:
        reading = [group.create_task(read()) for _ in range(8)]
        while not all(task.done() for task in reading):
            turns += 1
            await asyncio.sleep(0)
    assert len(parsed_at) == 8
    assert all(later - earlier >= 10 for earlier, later in itertools.pairwise(parsed_at))


async def test_a_client_that_leaves_within_its_body_is_forgotten(api: Served) -> None:
    caller = await Caller.connect(api.port)
    caller.writer.write(request(b"{", "content-length: 100"))
    await caller.writer.drain()
    caller.reset()
    await eventually(
        lambda: [one.stats.outcome for one in api.done][-1:] == [Outcome.CLIENT_LEFT], what=lambda: api.done
    )


async def test_every_answer_has_an_id_of_its_own_and_no_cors(api: Served) -> None:
    answers = [await ask(api.port, request(chat(), "x-request-id: mine", "origin: http://page.example")) for _ in "12"]
    answers.append(await ask(api.port, request(b"{", "origin: http://page.example")))
    ids = [answer.header("x-request-id") for answer in answers]
    assert len(set(ids)) == 3
    assert "mine" not in ids
    for answer in answers:
        assert not [name for name, _ in answer.headers if name.startswith("access-control-")]


async def test_a_malformed_request_does_not_disturb_the_server(api: Served) -> None:
    caller = await Caller.connect(api.port)
    caller.writer.write(b"NONSENSE\r\n\r\n")
    assert (await caller.head())[0] == 400
    assert (await ask(api.port, request(chat()))).status == 200


@pytest.mark.parametrize("unit", [b"x", b"x-many: 1\r\n"])
async def test_an_endless_head_is_cut_off(api: Served, unit: bytes) -> None:
    caller = await Caller.connect(api.port)
    caller.writer.write(b"GET /live HTTP/1.1\r\nhost: localhost\r\nx-long: ")
    answering = asyncio.ensure_future(caller.head())
    with contextlib.suppress(ConnectionError):
        for _ in range(1000):
            if answering.done():
                break
            caller.writer.write(unit * (4096 // len(unit)))
            await caller.writer.drain()
            await asyncio.sleep(0)
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        assert (await asyncio.wait_for(answering, 30))[0] == 400
    caller.close()


async def test_models_are_those_of_the_children(tmp_path: Path) -> None:
    pool = Pool(max_queue=100)
    async with served(pool, ScriptedChildren(), tmp_path) as api:
        client = api.client(max_retries=0)
        with pytest.raises(openai.InternalServerError) as early:
            await client.models.list()
        assert early.value.status_code == 503
        assert early.value.response.headers["retry-after"]
        pool.put(backend("http://127.0.0.1:1", "a", models=("small", "org/large")))
        pool.put(backend("http://127.0.0.1:1", "b", models=("small", "other")))
        assert [model.id async for model in client.models.list()] == ["small", "org/large", "other"]
        assert (await client.models.retrieve("org/large")).owned_by == "fake"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("huge")
        pool.remove("a")
        pool.remove("b")
        assert [model.id async for model in client.models.list()] == ["small", "org/large", "other"]


async def test_a_known_model_without_a_child_is_503_not_404(tmp_path: Path) -> None:
    pool = Pool(max_queue=100)
    pool.put(backend("http://127.0.0.1:1"))
    async with served(pool, ScriptedChildren(), tmp_path) as api:
        assert (await ask(api.port, request(method="GET", path="/v1/models"))).status == 200
        pool.remove("a")
        answer = await ask(api.port, request(chat()))
        assert (answer.status, answer.error["code"]) == (503, "none_ready")
        assert int(answer.header("retry-after") or 0) >= 1


async def test_the_client_raises_its_own_errors(api: Served) -> None:
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "x"}]
    with pytest.raises(openai.AuthenticationError):
        await api.client("wrong").models.list()
    with pytest.raises(openai.NotFoundError):
        await api.client().chat.completions.create(model="gpt-9", messages=messages)
    with pytest.raises(openai.BadRequestError):
        await api.client().chat.completions.create(model="fake", messages=[])


@pytest.mark.parametrize(
    ("host", "fine"),
    [
        (b"localhost", True),
        (b"LOCALHOST:2048", True),
        (b"127.0.0.1:2048", True),
        (b"127.1.2.3", True),
        (b"[::1]:2048", True),
        (b"[::1]", True),
        (b"", False),
        (b"10.0.0.1", False),
        (b"localhost.attacker.example", False),
        (b"[::2]:80", False),
        (b"0.0.0.0", False),
        (b"\xff\xfe", False),
    ],
)
async def test_which_hosts_are_loopback(host: bytes, fine: bool) -> None:
    assert names_address(host, loopback=True) is fine


@pytest.mark.parametrize(
    ("host", "bound", "keys", "taken"),
    [
        ("llm.example", "loopback", True, False),
        ("llm.example", "loopback", False, False),
        ("10.0.0.1:2048", "loopback", True, False),
        ("allowed.example:80", "loopback", True, True),
        ("llm.example", "any", True, True),
        ("llm.example", "any", False, False),
        ("10.0.0.1.llm.example", "any", False, False),
        ("10.0.0.1:2048", "any", False, True),
        ("[fd00::1]:2048", "any", False, True),
        ("localhost:2048", "any", False, True),
        ("Allowed.example:2048", "any", False, True),
        ("allowed.example.llm.example", "any", False, False),
    ],
)
async def test_which_hosts_are_taken(tmp_path: Path, host: str, bound: str, keys: bool, taken: bool) -> None:
    pool = Pool(max_queue=100)
    pool.put(backend("http://127.0.0.1:1"))
    in_force = (KEY,) if keys else ()
    async with served(pool, ScriptedChildren(), tmp_path, loopback_only=bound == "loopback", keys=in_force) as api:
        for path in ("/v1/models", "/health"):
            answer = await ask(api.port, request(b"", f"host: {host}", method="GET", path=path))
            assert (answer.status != 421) is taken
            assert taken or "ALLOWED_HOSTS" in answer.error["message"]
        probe = await ask(api.port, request(b"", f"host: {host}", method="GET", path="/live"))
        assert (probe.status == 200) is (taken or bound == "any")
