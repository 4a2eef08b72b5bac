"""What was really submitted to the site: the record that tests hold answers against."""

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Outcome = Literal["done", "stopped", "left", "error"]
Transport = Literal["sse", "ws"]

MAX_ENTRIES = 20_000


def digest(prompt: str) -> str:
    """Return the SHA-256 of the prompt's UTF-8 bytes as 64 hex digits."""
    return hashlib.sha256(prompt.encode()).hexdigest()


@dataclass(frozen=True)
class ImageNote:
    """What is kept of an image: its media type, its size in bytes, and the SHA-256 of its bytes as 64 hex digits."""

    type: str
    bytes: int
    sha256: str


@dataclass
class Entry:
    """One submission. Times come in pairs: `*_at` is Unix time, `*_mono` CLOCK_MONOTONIC, in seconds."""

    id: int
    account: str
    conversation: str
    transport: Transport
    model: str
    prompt: str
    images: tuple[ImageNote, ...] = ()
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    started_at: float = field(default_factory=time.time)
    started_mono: float = field(default_factory=time.monotonic)
    ended_at: float | None = None
    ended_mono: float | None = None
    outcome: Outcome | None = None
    revision: int = 0
    pieces: list[str] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self.prompt_sha256 = digest(self.prompt)

    def view(self) -> dict[str, Any]:
        """Return the entry as JSON data; `answer` is what was sent of the answer so far."""
        names = (
            "id account conversation transport model prompt prompt_sha256 token "
            "started_at started_mono ended_at ended_mono outcome revision"
        )
        view = {name: getattr(self, name) for name in names.split()}
        return view | {"answer": "".join(self.pieces), "images": [asdict(image) for image in self.images]}


class Ledger:
    """The submissions in order; the last `MAX_ENTRIES` are kept. Every start and end is a revision."""

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
        images: tuple[ImageNote, ...] = (),
    ) -> Entry:
        self._last_id += 1
        entry = Entry(self._last_id, account, conversation, transport, model, prompt, images)
        self._entries[entry.id] = entry
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)
        self._touch(entry)
        return entry

    def end(self, entry: Entry, outcome: Outcome) -> None:
        entry.outcome, entry.ended_at, entry.ended_mono = outcome, time.time(), time.monotonic()
        self._touch(entry)

    def _touch(self, entry: Entry) -> None:
        self.revision += 1
        entry.revision = self.revision
        self._changed.set()
        self._changed = asyncio.Event()

    def entries(self, wanted: Callable[[Entry], bool] = lambda _: True) -> list[Entry]:
        return [entry for entry in self._entries.values() if wanted(entry)]

    async def wait(self, wanted: Callable[[Entry], bool], timeout_s: float) -> list[Entry]:
        """Return the wanted entries as soon as there is one; an empty list after timeout_s seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (found := self.entries(wanted)):
                    await self._changed.wait()
        except TimeoutError:
            return []
        return found
