"""Concurrent requests, and clients that disconnect: every answer is right, every prompt is submitted once."""

from __future__ import annotations

import collections
import json
import random
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from openai import OpenAI

from tests.e2e.fleet import MODEL, Fleet, Site, eventually
from tests.support.size import size

REQUESTS, CONCURRENCY = size(60, 200), 8
DISCONNECTS = size(16, 100)
HANG_LIMIT_S = 30.0


def _ask(client: OpenAI, prompt: str, *, stream: bool) -> str:
    if stream:
        chunks = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": prompt}], stream=True
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": prompt}])
    return answer.choices[0].message.content or ""


def test_many_requests_8_at_a_time_over_2_children(two: Fleet, site: Site) -> None:
    before = site.last_id()
    client = two.client()
    prompts = [f"[[tokens=5 delay_ms=1]] request {number} {random.random()}" for number in range(REQUESTS)]
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        answers = list(pool.map(lambda job: _ask(client, job[1], stream=job[0] % 2 == 0), enumerate(prompts)))
    entries = site.ledger(since=before)
    assert collections.Counter(entry["prompt"] for entry in entries) == collections.Counter(prompts)
    by_prompt = {entry["prompt"]: entry for entry in entries}
    for prompt, answer in zip(prompts, answers, strict=True):
        entry = by_prompt[prompt]
        assert answer == entry["answer"]
        assert entry["prompt_sha256"] in answer
        assert entry["token"] in answer
    assert {entry["account"] for entry in entries} == {"ada", "grace"}


def test_many_clients_that_disconnect_during_the_answer(two: Fleet, site: Site) -> None:
    """Half of them close, half reset the connection; the site sees the stop, and no lease is leaked."""
    for number in range(DISCONNECTS):
        before = site.last_id()
        _disconnect_during_answer(two, f"[[tokens=2000 delay_ms=10]] disconnect {number}", reset=number % 2 == 1)
        (entry,) = eventually(lambda since=before: _ended(site, since), timeout_s=HANG_LIMIT_S, what="the stop")  # type: ignore[misc]
        assert entry["outcome"] in ("stopped", "left")
    eventually(lambda: _in_flight(two) == 0, timeout_s=HANG_LIMIT_S, what="the release of all leases")
    for number in range(4):
        assert _ask(two.client(), f"after all {number}", stream=False)


def _disconnect_during_answer(two: Fleet, prompt: str, *, reset: bool) -> None:
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": True}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {two.key}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", two.port), timeout=20) as connection:
        connection.sendall(head.encode() + body)
        received = b""
        while b'"content":"' not in received.replace(b'"content":""', b""):
            piece = connection.recv(65536)
            assert piece, received
            received += piece
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _ended(site: Site, since: int) -> list[dict[str, Any]]:
    return [entry for entry in site.ledger(since=since) if entry["outcome"] is not None]


def _in_flight(two: Fleet) -> int:
    return sum(child["in_flight"] for child in two.children().values())
