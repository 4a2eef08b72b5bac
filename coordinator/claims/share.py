"""Which logins a cell claims and which it gives up: pure, from what stands in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping


def fair_shares(rooms: Mapping[str, int], logins: int) -> dict[str, int]:
    """Share out so many logins among cells that have room for `rooms` of them each; return how many each is to have.

    As evenly as the rooms let it be: what a small cell has no room for goes to the others. What is left over by the
    division goes to the cells that come first by name, so that all cells come to the same result.
    """
    shares = dict.fromkeys(sorted(rooms), 0)
    left = logins
    while left > 0 and (with_room := [cell for cell in shares if shares[cell] < rooms[cell]]):
        for cell in with_room[:left]:
            shares[cell] += 1
        left -= len(with_room)
    return shares


def preferred(cell: str, logins: Collection[str]) -> list[str]:
    """Return logins in the order in which this cell claims them: another order for each cell, and always the same.

    By rendezvous hashing, so that cells that claim at the same time seldom want the same login, and a login tends to
    come back to the cell that had it.
    """

    def rank(login: str) -> bytes:
        return hashlib.sha256(f"{cell}\0{login}".encode("utf-8", "surrogateescape")).digest()

    return sorted(logins, key=rank)


class Waits:
    """How long each login has been without a claim, by one cell's clock, in seconds."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def see(self, free: Collection[str], now: float) -> None:
        """Take in which logins are without a claim now."""
        self._since = {login: self._since.get(login, now) for login in free}

    def longer_than(self, wait_s: float, now: float) -> set[str]:
        """Return those that have been seen without a claim for so long."""
        return {login for login, since in self._since.items() if now - since >= wait_s}
