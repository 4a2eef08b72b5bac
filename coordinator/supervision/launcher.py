"""How children are started: the seam between supervision and where a child runs.

The supervisor knows `Launcher` and `RunningChild` only. `coordinator.local.launcher.LocalLauncher` makes processes
on this machine; another one may place children elsewhere, where the profile travels as bytes and the url
is not loopback.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from contract.keys import KeyStore


TOKEN_HEADER: Final = "x-tabfleet-token"  # noqa: S105 - the header's name
"""The header by which a child knows its coordinator."""


@dataclass(frozen=True)
class ChildSpec:
    """One start of one child. `instance_id` and `control_token` are random and new for every start."""

    name: str
    profile_path: Path
    api_port: int
    stream_port: int
    generation: int
    instance_id: str
    control_token: str = field(repr=False)


class RunningChild(Protocol):
    """A child that was started: where it answers, its end, and what it leaves."""

    @property
    def url(self) -> str:
        """Base URL of its HTTP face, without a slash at the end."""

    @property
    def pid(self) -> int | None:
        """Its process id, where it has one here."""

    async def wait(self) -> int:
        """Return its exit code once it has ended; negative for the signal that ended it."""

    def terminate(self) -> None:
        """Ask it to end. Does nothing if it has ended."""

    def kill(self) -> None:
        """End it at once. Does nothing if it has ended."""

    def submitted(self) -> frozenset[str] | None:
        """Ids of the requests whose prompts may have reached the page; None if that cannot be read."""

    def last_lines(self) -> tuple[str, ...]:
        """Return the last lines of its output, without secrets."""

    def memory_bytes(self) -> int | None:
        """Memory of the child with driver and browser, proportional share; may block for a while."""

    async def clean_up(self) -> int:
        """After its end: kill what outlived it, empty its run folder; return how many were killed."""


class Launcher(Protocol):
    """Starts children."""

    def use_keys(self, keys: KeyStore) -> None:
        """From now on children accept these API keys, those that run too. Raises LaunchError."""

    async def start(self, spec: ChildSpec) -> RunningChild:
        """Start a child. Raises LaunchError if it cannot even begin to run."""

    async def forget(self, name: str) -> None:
        """Remove what is kept between the starts of a child that will not come back."""

    async def close(self) -> None:
        """Remove everything that is kept. All children have ended."""
