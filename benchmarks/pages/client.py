"""A client of the API that records when each token of an answer arrives."""

from __future__ import annotations

import http.client
import json
import re
import time
from dataclasses import dataclass

_TOKEN = re.compile(r"token(\d+) ")
LIMIT_S = 120.0


@dataclass(frozen=True)
class TimedAnswer:
    """When an answer was requested, and when each of its tokens arrived, by number; time.monotonic()."""

    began: float
    token_at: dict[int, float]


def stream_completion(port: int, key: str, model: str, prompt: str) -> TimedAnswer:
    """Request a streamed completion. Raise ValueError unless it is complete, with all tokens in order."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": True}
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    data = json.dumps(body).encode()
    began = time.monotonic()
    connection.request("POST", "/v1/chat/completions", data, headers)
    response = connection.getresponse()
    if response.status != 200:
        raise ValueError(f"status {response.status}: {response.read(500)!r}")
    lines = []
    while line := response.readline():
        lines.append((time.monotonic(), line))
    connection.close()
    events = [(at, line.removeprefix(b"data: ").strip()) for at, line in lines if line.startswith(b"data: ")]
    if not events or events.pop()[1] != b"[DONE]":
        raise ValueError("an answer was truncated")
    found: dict[int, float] = {}
    for at, event in events:
        text = json.loads(event)["choices"][0]["delta"].get("content") or ""
        found |= {int(number): at for number in _TOKEN.findall(text)}
    if list(found) != list(range(len(found))):
        raise ValueError("an answer lacks a token")
    return TimedAnswer(began, found)
