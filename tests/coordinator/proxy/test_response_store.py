"""Kept responses under any order of use: within their bytes and their time, and each for its own key alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from contract.api_error import ApiError
from coordinator.proxy.headers import HeaderMap
from coordinator.proxy.response_store import ENTRY_BYTES, Kept, ResponseStore, StoreLimits
from tests.support.manual_loop import ManualLoop

TTL_S = 100.0
MOST = 8 * ENTRY_BYTES
OWNERS = (b"one", b"two")


def kept(size: int = 0, previous: str | None = None) -> Kept:
    return Kept(b"r" * size, b"i", b"o", previous)


@contextmanager
def store(limits: StoreLimits) -> Iterator[tuple[ManualLoop, ResponseStore]]:
    loop = ManualLoop()
    try:
        yield loop, loop.call(ResponseStore, limits)
    finally:
        loop.close()


class KeptResponses(RuleBasedStateMachine):
    """A model of which responses may still be there, beside the store."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.loop = ManualLoop()
        self.store = self.loop.call(ResponseStore, StoreLimits(TTL_S, MOST))
        self.last_use: dict[tuple[bytes, str], float] = {}
        self.previous: dict[tuple[bytes, str], str | None] = {}
        self.number = 0

    def teardown(self) -> None:
        self.loop.close()

    @rule(
        target=ids,
        owner=st.sampled_from(OWNERS),
        size=st.sampled_from([0, 1, ENTRY_BYTES, 3 * ENTRY_BYTES, MOST]),
        previous=st.one_of(st.none(), ids),
    )
    def keep(self, owner: bytes, size: int, previous: str | None) -> str:
        self.number += 1
        new = f"resp_{self.number}"
        was_kept = self.loop.call(self.store.keep, owner, new, kept(size, previous))
        assert was_kept == (kept(size).size <= MOST)
        if was_kept:
            self.last_use[owner, new] = self.loop.now
            self.previous[owner, new] = previous
            # What was used longest ago is dropped for want of bytes, never the newest.
            assert self.loop.call(self._find, owner, new) is not None
        return new

    @rule(owner=st.sampled_from(OWNERS), response_id=ids)
    def go_on(self, owner: bytes, response_id: str) -> None:
        try:
            turns = self.loop.call(self.store.conversation, owner, response_id)
        except ApiError as error:
            assert (error.status, error.code, error.param) == (  # noqa: PT017 - only some raise
                404,
                "previous_response_not_found",
                "previous_response_id",
            )
            return
        chain: list[str] = []
        at: str | None = response_id
        while at is not None:
            chain.append(at)
            assert self.loop.now < self.last_use[owner, at] + TTL_S
            self.last_use[owner, at] = self.loop.now
            at = self.previous[owner, at]
        assert [turn.previous for turn in turns] == [self.previous[owner, one] for one in reversed(chain)]

    @rule(owner=st.sampled_from(OWNERS), response_id=ids)
    def forget(self, owner: bytes, response_id: str) -> None:
        self.loop.call(self.store.forget, owner, response_id)
        self.last_use.pop((owner, response_id), None)

    @rule(seconds=st.sampled_from([1.0, TTL_S / 2, TTL_S]))
    def wait(self, seconds: float) -> None:
        self.loop.advance(seconds)

    @invariant()
    def nothing_is_kept_too_long_or_for_others_and_the_bytes_are_bounded(self) -> None:
        there = {
            (owner, f"resp_{number}"): self.loop.call(self._find, owner, f"resp_{number}")
            for owner in OWNERS
            for number in range(self.number + 1)
        }
        sizes = [found.size for found in there.values() if found is not None]
        assert (sum(sizes), len(sizes)) == (self.store.size, len(self.store))
        assert self.store.size <= MOST
        for key, found in there.items():
            assert found is None or self.loop.now < self.last_use[key] + TTL_S

    def _find(self, owner: bytes, response_id: str) -> Kept | None:
        try:
            return self.store.find(owner, response_id)
        except ApiError:
            return None


TestKeptResponses = KeptResponses.TestCase


def test_what_nobody_asks_for_is_dropped_when_its_time_is_over() -> None:
    with store(StoreLimits(TTL_S, MOST)) as (loop, kept_here):
        loop.call(kept_here.keep, b"one", "resp_1", kept())
        loop.advance(TTL_S - 1)
        loop.call(kept_here.keep, b"one", "resp_2", kept())
        assert len(kept_here) == 2
        loop.advance(1)
        assert len(kept_here) == 1
        loop.advance(TTL_S)
        assert (len(kept_here), kept_here.size) == (0, 0)


def test_nothing_is_kept_where_the_time_is_zero() -> None:
    with store(StoreLimits(0, MOST)) as (loop, kept_here):
        assert not loop.call(kept_here.keep, b"one", "resp_1", kept())
        assert len(kept_here) == 0


def test_what_is_kept_again_is_no_news_and_counts_once() -> None:
    with store(StoreLimits(TTL_S, MOST)) as (loop, kept_here):
        assert loop.call(kept_here.keep, b"one", "resp_1", kept(5))
        assert not loop.call(kept_here.keep, b"one", "resp_1", kept(5))
        assert kept_here.size == kept(5).size


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        ([(b"authorization", b"Bearer one")], True),
        ([(b"x-api-key", b"one")], True),
        ([(b"authorization", b"Bearer two")], False),
        ([], False),
    ],
)
def test_a_key_is_its_owner_however_it_is_sent(headers: list[tuple[bytes, bytes]], *, same: bool) -> None:
    assert (HeaderMap(headers).owner == HeaderMap([(b"authorization", b"bearer one")]).owner) is same
