"""Repeats of a request over real browsers: whoever sends it again, the site gets its prompt once."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import struct
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from tests.e2e.fleet import MODEL, Fleet, Site, eventually, fleet
from tests.support.size import size
from tests.support.waiting import HANG_LIMIT_S

STREAMS, CONCURRENCY = size(16, 40), 8


def _post(running: Fleet, prompt: str, key: str) -> tuple[HTTPConnection, HTTPResponse]:
    """Send a streamed request with an Idempotency-Key; return when its head is there."""
    connection = HTTPConnection("127.0.0.1", running.port, timeout=2 * HANG_LIMIT_S)
    body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": True}
    headers = {"authorization": f"Bearer {running.key}", "content-type": "application/json", "idempotency-key": key}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    return connection, connection.getresponse()


def _cut(running: Fleet, prompt: str, key: str, tokens: int, *, reset: bool) -> None:
    connection, answer = _post(running, prompt, key)
    while tokens and (line := answer.readline()):
        tokens -= line.startswith(b"data:")
    if reset:
        assert isinstance(connection.sock, socket.socket)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    answer.close()
    connection.close()


def _whole(running: Fleet, prompt: str, key: str) -> tuple[int, list[tuple[str, str]], bytes]:
    connection, answer = _post(running, prompt, key)
    own = ("date", "idempotent-replayed")
    seen = (answer.status, [pair for pair in answer.getheaders() if pair[0].lower() not in own], answer.read())
    connection.close()
    return seen


def _text(body: bytes) -> str:
    events = [line.removeprefix(b"data: ") for line in body.splitlines() if line.startswith(b"data: {")]
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_streams_cut_at_any_token_and_repeated_are_submitted_once_each(two: Fleet, site: Site) -> None:
    before, dice = site.last_id(), random.Random(12)
    jobs = [(number, dice.randrange(20), dice.random() < 0.5) for number in range(STREAMS)]

    def cut_and_repeat(job: tuple[int, int, bool]) -> tuple[str, str]:
        number, tokens, reset = job
        prompt, key = f"[[tokens=20 delay_ms=10]] cut {number}", f"cut-{number}"
        _cut(two, prompt, key, tokens, reset=reset)
        joined, replayed = _whole(two, prompt, key), _whole(two, prompt, key)
        assert joined == replayed
        assert joined[0] == 200
        assert joined[2].endswith(b"data: [DONE]\n\n")
        return prompt, _text(joined[2])

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        texts = dict(pool.map(cut_and_repeat, jobs))
    entries = site.ledger(since=before)
    assert Counter(entry["prompt"] for entry in entries) == Counter(list(texts))
    assert {entry["prompt"]: entry["answer"] for entry in entries} == texts
    eventually(lambda: all(not child["in_flight"] for child in two.children().values()), timeout_s=HANG_LIMIT_S)


def _fail(client: OpenAI, prompt: str, *, stream: bool) -> openai.APIError:
    with pytest.raises(openai.APIError) as failed:
        _complete(client, prompt, stream=stream)
    return failed.value


def _complete(client: OpenAI, prompt: str, *, stream: bool) -> None:
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": prompt}]
    if stream:
        for _ in client.chat.completions.create(model=MODEL, messages=messages, stream=True):
            pass
    else:
        client.chat.completions.create(model=MODEL, messages=messages)


@pytest.mark.slow  # tests/coordinator/proxy/test_repeats.py shows it without browsers
def test_a_prompt_whose_child_is_killed_is_not_submitted_again(site: Site, profiles: Path, tmp_path: Path) -> None:
    """The real client, with its retries and again by its user, with a key and without; the child is back by then."""
    # tests/coordinator/proxy/test_repeats.py has the other two, without browsers
    ways = [(False, True), (True, False), *size(0, 1) * [(False, False), (True, True)]]
    with fleet(site, profiles, tmp_path / "fleet", BACKOFF_MAX_S="0.5", MAX_CHILDREN="1") as running:
        running.wait_for(ada="READY")
        for kills, (keyed, stream) in enumerate(ways, 1):
            headers = {"Idempotency-Key": f"key-{stream}"} if keyed else {}
            client = running.client(max_retries=3, default_headers=headers)
            prompt = f"[[tokens=2000 delay_ms=10]] keyed: {keyed}, stream: {stream}"
            before = site.last_id()
            with ThreadPoolExecutor(1) as pool:
                first = pool.submit(_fail, client, prompt, stream=stream)
                eventually(lambda since=before: site.ledger(since=since), timeout_s=HANG_LIMIT_S, what="the submission")  # type: ignore[misc]
                os.kill(running.child_pid("ada"), signal.SIGKILL)
                failure = first.result(2 * HANG_LIMIT_S)
            assert failure.code == "child_lost"
            eventually(lambda: running.children()["ada"]["restarts"] == kills, timeout_s=HANG_LIMIT_S)  # noqa: B023
            running.wait_for(ada="READY")
            for _ in range(2):
                again = _fail(client, prompt, stream=stream)
                assert again.code == ("child_lost" if keyed else "repeated_after_submission")
            assert [entry["prompt"] for entry in site.ledger(since=before)] == [prompt]
        _complete(running.client(), "another prompt", stream=True)
