"""What a store of claims can do: the seam between `ClaimKeeper` and where claims are kept.

A cell has one lease. Its claims live as long as the lease does, which is for `ttl_s` seconds after the store has
received its last renewal, by the store's clock. A claim is there or not, and is made only where there is none: that is
all that keeps two cells apart, with the deadline that each keeps by itself (`ClaimKeeper`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from contract.errors import TabfleetError
from coordinator.claims.shared import SharedSettings


class ClaimStoreError(TabfleetError):
    """The store of claims did not do what it was asked; the message names its address and what to look at."""


class StoreUnreachable(ClaimStoreError):
    """No answer, or none in time: what was asked may have been done."""


class StoreRefused(ClaimStoreError):
    """The store answered, and refused: a wrong certificate, no right to a key, no space."""


class CellTaken(ClaimStoreError):
    """Another coordinator is registered by the name of this cell, or this one was until just now."""


class StoreNew(ClaimStoreError):
    """The store was empty until just now: it may have lost claims, and cells may not have heard of that yet."""


class LeaseGone(ClaimStoreError):
    """This cell's lease is over, and with it all its claims."""


class SettingsDiffer(ClaimStoreError):
    """This cell goes by other settings than those that are there; the message names no address."""


_MOST_LISTED: Final = 3


def require_alike(own: SharedSettings, others: Mapping[str, SharedSettings]) -> None:
    """Raise SettingsDiffer unless these settings fit those of all cells that have a lease, given by their names."""
    differences = {cell: difference for cell, theirs in others.items() if (difference := own.difference(theirs))}
    if not differences:
        return
    setting, here, there = first = differences[min(differences)]
    cells = sorted(cell for cell, difference in differences.items() if difference == first)
    more = f" and {len(cells) - _MOST_LISTED} more" if len(cells) > _MOST_LISTED else ""
    raise SettingsDiffer(
        f"This cell claims nothing: its {setting} is {here}, that of {', '.join(cells[:_MOST_LISTED])}{more} is"
        f" {there}, and all must have the same. Correct it; to change it everywhere, stop all that have the old one."
    )


@dataclass(frozen=True)
class View:
    """What stands in the store at one moment."""

    cells: Mapping[str, int] = field(default_factory=dict)
    """For how many logins each registered cell has room; one that leaves is none of them any more."""
    holders: Mapping[str, str] = field(default_factory=dict)
    """The cell of each login that is claimed, by the login's name."""
    own: frozenset[str] = frozenset()
    """The logins that are claimed with this lease."""


class ClaimStore(Protocol):
    """A store of claims. Every method may raise StoreUnreachable and StoreRefused."""

    async def register(self, cell: str, shared: SharedSettings, room: int) -> None:
        """Take a new lease of `shared.ttl_s` seconds and register the cell with it, its settings and its room.

        Raises CellTaken, and StoreNew for `ttl_s` seconds after the first call that found the store empty: for so long
        there may be cells that rely on claims which the store has lost. Raises SettingsDiffer where a lease is there
        that was taken with other settings (`require_alike`), in one step with the registration: the first cell decides,
        and when the last lease is over, whoever comes next.
        """

    async def renew(self) -> None:
        """Have the lease live for its whole time again, counted from when the store hears of it. Raises LeaseGone."""

    async def view(self) -> View:
        """Return what stands in the store now: no older than the call."""

    async def claim(self, login: str, fingerprint: str | None) -> int | None:
        """Claim the login of this name; return the claim's number. None: another cell has it, or its double.

        The number is above those of all earlier claims of it (a fencing token: whoever is shown two of them knows which
        holder came later).
        `fingerprint` stands for what the site knows the login by, None where it has nothing such: of two names with the
        same one, only one can be claimed. Raises LeaseGone.
        """

    async def release(self, login: str) -> None:
        """Give a claim back. Does nothing if it is not ours any more."""

    async def leave(self) -> None:
        """Have the cell be none of those that share logins; its name and its claims stay as long as its lease."""

    async def rejoin(self) -> None:
        """Have the cell be one of those that share logins again, after `leave`. Does nothing if the lease is over."""

    async def revoke(self) -> None:
        """End the lease, and with it registration and claims."""

    async def read(self, kind: str, login: str) -> bytes | None:
        """Return what cells leave each other about a login, of this kind; None: nothing. It outlives claims."""

    async def write(self, kind: str, login: str, data: bytes | None) -> None:
        """Write it, or delete it with None, in one step with the look whether this lease has the login's claim.

        Raises LeaseGone if it has not, and then nothing is written.
        """

    async def close(self) -> None:
        """Close connections. The lease stays as it is. Idempotent."""
