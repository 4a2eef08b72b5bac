"""The ledger: a record of every submission, which tests compare answers with."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from demo.images import ImageRecord

Outcome = Literal["done", "stopped", "left", "error"]
Transport = Literal["sse", "ws"]

MAX_ENTRIES = 20_000


def digest(prompt: str) -> str:
    """Return the SHA-256 of the prompt's UTF-8 bytes as 64 hex digits."""
    return hashlib.sha256(prompt.encode()).hexdigest()


@dataclass
class Entry:
    """One submission and its answer. `*_at` is Unix time, `*_mono` is CLOCK_MONOTONIC, both in seconds."""

    id: int
    account: str
    conversation: str
    transport: Transport
    model: str
    prompt: str
    images: tuple[ImageRecord, ...] = ()
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    started_at: float = field(default_factory=time.time)
    started_mono: float = field(default_factory=time.monotonic)
    ended_at: float | None = None
    ended_mono: float | None = None
    outcome: Outcome | None = None
    error: str | None = None
    revision: int = 0
    pieces: list[str] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self.prompt_sha256 = digest(self.prompt)

    def view(self) -> dict[str, Any]:
        """Return the entry as JSON data; `answer` is the text sent so far."""
        names = (
            "id account conversation transport model prompt prompt_sha256 token "
            "started_at started_mono ended_at ended_mono outcome error revision"
        )
        view = {name: getattr(self, name) for name in names.split()}
        return view | {"answer": "".join(self.pieces), "images": [asdict(image) for image in self.images]}


class Ledger:
    """The last MAX_ENTRIES submissions in order. Every start and end of one increments `revision`."""

    def __init__(self) -> None:
        self.revision = 0
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._last_id = 0
        self._changed = asyncio.Event()

    def start(  # noqa: PLR0913 - all by keyword
        self,
        *,
        account: str,
        conversation: str,
        transport: Transport,
        model: str,
        prompt: str,
        images: tuple[ImageRecord, ...] = (),
    ) -> Entry:
        """Add and return the entry of a new submission."""
        self._last_id += 1
        entry = Entry(self._last_id, account, conversation, transport, model, prompt, images)
        self._entries[entry.id] = entry
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)
        self._touch(entry)
        return entry

    def end(self, entry: Entry, outcome: Outcome) -> None:
        """Close the entry with its outcome and the current time."""
        entry.outcome, entry.ended_at, entry.ended_mono = outcome, time.time(), time.monotonic()
        self._touch(entry)

    def _touch(self, entry: Entry) -> None:
        self.revision += 1
        entry.revision = self.revision
        # Whoever waits now holds the old event; later waiters need one that is not set.
        self._changed.set()
        self._changed = asyncio.Event()

    def entries(self, matches: Callable[[Entry], bool] = lambda _: True) -> list[Entry]:
        """Return the entries that match, oldest first."""
        return [entry for entry in self._entries.values() if matches(entry)]

    async def wait(self, matches: Callable[[Entry], bool], timeout_s: float) -> list[Entry]:
        """Return the entries that match as soon as there is one; return an empty list after timeout_s seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (found := self.entries(matches)):
                    await self._changed.wait()
        except TimeoutError:
            return []
        return found
