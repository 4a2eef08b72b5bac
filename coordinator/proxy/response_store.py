"""Responses that are kept for `previous_response_id`: in memory only, each for the API key that asked for it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from contract.api_error import ApiError, ErrorCode

ENTRY_BYTES = 1024
"""What an entry takes besides its texts, about."""


@dataclass(frozen=True)
class StoreLimits:
    """How many seconds a response is kept after its last use, and how many bytes all take together; 0 keeps none."""

    ttl_s: float = 3600.0
    max_bytes: int = 32 * 1024 * 1024


@dataclass(frozen=True)
class Kept:
    """A complete response as it was sent, and the items of its turn as JSON with commas between.

    `inputs` are those of its own request, `outputs` those of its answer; `previous` is the response that it continues.
    """

    response: bytes = field(repr=False)
    inputs: bytes = field(repr=False)
    outputs: bytes = field(repr=False)
    previous: str | None = None

    @property
    def size(self) -> int:
        """Return how many bytes it is counted as."""
        return len(self.response) + len(self.inputs) + len(self.outputs) + ENTRY_BYTES


class ResponseStore:
    """Keeps responses within the limits; what was used longest ago goes first. Make it inside a running loop."""

    def __init__(self, limits: StoreLimits) -> None:
        self.limits = limits
        self._loop = asyncio.get_running_loop()
        # In the order of their last use, and so of their expiry.
        self._kept: OrderedDict[tuple[bytes, str], tuple[Kept, float]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self.size = 0
        """How many bytes are kept."""

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, owner: bytes, response_id: str, kept: Kept) -> bool:
        """Keep a response; return whether it was kept and is new."""
        if self.limits.ttl_s <= 0 or kept.size > self.limits.max_bytes or (owner, response_id) in self._kept:
            return False
        self._kept[owner, response_id] = kept, self._loop.time() + self.limits.ttl_s
        self.size += kept.size
        while self.size > self.limits.max_bytes:
            self._drop(next(iter(self._kept)))
        self._wait_for_oldest()
        return True

    def find(self, owner: bytes, response_id: str) -> Kept:
        """Return a response of this owner. Raises ApiError (404)."""
        kept = self.peek(owner, response_id)
        if kept is None:
            raise ApiError(ErrorCode.RESPONSE_NOT_FOUND, self._missing("response"))
        return kept

    def peek(self, owner: bytes, response_id: str) -> Kept | None:
        """Return a response of this owner, None if there is none."""
        kept, expires = self._kept.get((owner, response_id), (None, 0.0))
        return None if expires <= self._loop.time() else kept

    def forget(self, owner: bytes, response_id: str) -> None:
        """Forget a response, if it is there."""
        if (owner, response_id) in self._kept:
            self._drop((owner, response_id))

    def conversation(self, owner: bytes, response_id: str) -> list[Kept]:
        """Return a response and all that it continues, the first one first; that is a use of each. Raises ApiError."""
        found = list(self._back_from(owner, response_id))
        expires = self._loop.time() + self.limits.ttl_s
        for one_id, kept in found:
            self._kept[owner, one_id] = kept, expires
            self._kept.move_to_end((owner, one_id))
        return [kept for _, kept in reversed(found)]

    def _back_from(self, owner: bytes, response_id: str) -> Iterator[tuple[str, Kept]]:
        at: str | None = response_id
        while at is not None:
            kept = self.peek(owner, at)
            if kept is None:
                name = "previous_response_id"
                message = self._missing("previous response")
                raise ApiError(ErrorCode.PREVIOUS_RESPONSE_NOT_FOUND, f"{name}: {message}", param=name)
            yield at, kept
            at = kept.previous

    def _missing(self, what: str) -> str:
        kept = f"responses are kept for {self.limits.ttl_s:g} s (RESPONSES_TTL_S), and less where memory is short"
        return f"no {what} with this id is kept for this API key; {kept}."

    def _drop(self, key: tuple[bytes, str]) -> None:
        self.size -= self._kept.pop(key)[0].size

    def _wait_for_oldest(self) -> None:
        """Make sure that what expires is dropped, also while nobody asks for anything."""
        if self._timer is None and self._kept:
            _, expires = next(iter(self._kept.values()))
            self._timer = self._loop.call_at(expires, self._drop_expired)

    def _drop_expired(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._kept and next(iter(self._kept.values()))[1] <= now:
            self._drop(next(iter(self._kept)))
        self._wait_for_oldest()
