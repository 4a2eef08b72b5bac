"""An HTTP client of the demo site that does what the page's script does, without a browser."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from demo.site import DemoSite

CONTROL_TOKEN = "made-up control token"


@dataclass
class Answer:
    """The events of an answer in order; `end` is the type of the last one."""

    events: list[dict[str, Any]]

    @property
    def text(self) -> str:
        """Return the text of all token events."""
        return "".join(event["text"] for event in self.events if event["type"] == "token")

    @property
    def end(self) -> str:
        """Return the type of the last event."""
        return str(self.events[-1]["type"])

    @property
    def digest(self) -> str:
        """Return the prompt's digest in the answer."""
        return self._found(r"sha256:([0-9a-f]{64}) ")

    @property
    def token(self) -> str:
        """Return the submission's token in the answer."""
        return self._found(r"token:([0-9a-f]{32})\n")

    def _found(self, pattern: str) -> str:
        match = re.search(pattern, self.text)
        assert match, self.text
        return match[1]


@dataclass
class Visitor:
    """A client with its own cookies or bearer header, and the conversation it submits to."""

    site: DemoSite
    http: aiohttp.ClientSession
    conversation: str = field(default_factory=lambda: secrets.token_hex(8))
    headers: dict[str, str] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)

    async def log_in(self, username: str = "ada", password: str = "lovelace") -> aiohttp.ClientResponse:
        """Log in by the form; the session cookie is kept."""
        form = {"username": username, "password": password}
        return await self.http.post(f"{self.site.url}/login", data=form, allow_redirects=False)

    async def log_in_by_token(self, username: str = "ada", password: str = "lovelace") -> None:
        """Log in by JSON; the bearer token is kept."""
        form = {"username": username, "password": password}
        async with self.http.post(f"{self.site.url}/token/login", json=form) as response:
            self.headers["Authorization"] = f"Bearer {(await response.json())['token']}"

    async def get(self, path: str) -> aiohttp.ClientResponse:
        """Send a GET request without following redirects."""
        return await self.http.get(self.site.url + path, headers=self.headers, allow_redirects=False)

    async def post(self, path: str, data: object) -> aiohttp.ClientResponse:
        """Post JSON."""
        return await self.http.post(self.site.url + path, json=data, headers=self.headers)

    def message(self, prompt: str, model: str = "demo-small") -> dict[str, object]:
        """Return the JSON of a submission in the open conversation."""
        return {"conversation": self.conversation, "model": model, "prompt": prompt, "images": self.images}

    async def submit(self, prompt: str, model: str = "demo-small") -> aiohttp.ClientResponse:
        """Submit a prompt and return the response, not yet read."""
        return await self.post("/api/chat", self.message(prompt, model))

    async def ask(self, prompt: str, model: str = "demo-small") -> Answer:
        """Submit a prompt over SSE and return the answer."""
        async with await self.submit(prompt, model) as response:
            assert response.status == 200, await response.text()
            return Answer([event async for event in sse_events(response)])

    async def ask_by_socket(self, prompt: str) -> Answer:
        """Submit a prompt over a new WebSocket and return the answer."""
        events: list[dict[str, Any]] = []
        async with self.http.ws_connect(f"{self.site.url}/api/ws") as socket:
            if self.headers:
                await socket.send_json({"type": "auth", "token": self.headers["Authorization"].split()[1]})
            await socket.send_json({"type": "ask", **self.message(prompt)})
            async for frame in socket:
                events.append(frame.json())
                if events[-1]["type"] in ("done", "stopped", "error"):
                    break
        return Answer(events)

    async def control(self, method: str, path: str, **more: Any) -> Any:
        """Call the control API and return its JSON."""
        headers = {"X-Demo-Control": CONTROL_TOKEN}
        url = f"{self.site.url}/control/{path}"
        async with self.http.request(method, url, headers=headers, **more) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def fault(self, kind: str, **more: object) -> None:
        """Activate a fault."""
        await self.control("POST", "faults", json={"kind": kind, **more})

    async def entry(self, **filters: str) -> dict[str, Any]:
        """Wait for the ledger's one entry that passes the filters."""
        ledger = await self.control("GET", "ledger", params={"wait_s": "10", **filters})
        (entry,) = ledger["entries"]
        assert isinstance(entry, dict)
        return entry


async def sse_events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """Yield the events of a response as they arrive."""
    async for line in response.content:
        if line.strip():
            assert line.startswith(b"data: "), line
            yield json.loads(line.removeprefix(b"data: "))


async def first_token(response: aiohttp.ClientResponse) -> None:
    """Read up to the first token. Raise TimeoutError after 10 s."""
    async with asyncio.timeout(10):
        async for event in sse_events(response):
            if event["type"] == "token":
                return
