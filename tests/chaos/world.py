"""What chaos needs of a world: how to ask there, what was submitted there, what can go wrong there."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from tests.chaos.clients import Question
from tests.chaos.evidence import Submission
from tests.chaos.fleet import Fleet
from tests.chaos.sources import Source

Fault: TypeAlias = Callable[[str, random.Random], Awaitable[None]]


@dataclass(frozen=True)
class Setting:
    """Where and with what a world's coordinator runs."""

    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    source: Source
    names: tuple[str, ...]  # of the children


class World(Protocol):
    """Fake children, or browsers at the demo site."""

    setting: Setting
    fleet: Fleet

    def question(self, number: int, rng: random.Random) -> Question:
        """Make up one request."""

    def faults(self) -> Mapping[Fault, int]:
        """What can happen to a child (its name is given), and how often each beside the others."""

    async def calm(self) -> None:
        """Take back every fault that would stay."""

    async def log_in(self, name: str) -> None:
        """Give a child whose login has expired a new one, and reload."""

    async def submissions(self) -> list[Submission]:
        """The ledger: everything that was submitted to any page."""
