"""How children are started: the seam between supervision and where a child runs.

The supervisor knows `Launcher` and `ChildProcess` only. `coordinator.local.launcher.LocalLauncher` makes processes
on this machine; another one may place children elsewhere, where the profile travels as bytes and the URL
is not loopback.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from contract.keys import KeyStore
from coordinator.fleet_file.login import PLAIN, Login
from coordinator.supervision.ports import Slot


class Profile(Protocol):
    """A login file, as supervision needs to know it."""

    @property
    def name(self) -> str:
        """Its name, which is also that of its child."""

    @property
    def path(self) -> Path:
        """Where the file is."""

    @property
    def sha256(self) -> str:
        """The digest of the file: another one is another version, and replaces the child."""

    @property
    def fingerprint(self) -> str:
        """What stands for the login in it: of two with the same one only one may run."""

    @property
    def login(self) -> Login:
        """What the fleet file says of it."""


@dataclass(frozen=True)
class RenewedLogin:
    """A storage_state that takes the place of the profile's with this SHA-256, and of what was saved of it."""

    source_sha256: str
    state: Mapping[str, Any] = field(repr=False)


class Company(StrEnum):
    """Whom a child may share its browser with, as far as the settings let it share one.

    NONE and SUSPECTS are for those that may be the ones that end browsers: alone, or with others such alone.
    """

    ANY = "any"
    SUSPECTS = "suspects"
    NONE = "none"


@dataclass(frozen=True)
class ChildSpec:
    """What a launcher is given for one start. `instance_id` and `control_token` are random and new for every start.

    `renewed` is what the child opens, and saves as its own session from then on. With `remote_login` the child has a
    person log in, and takes no requests; it has neither profile nor stream.
    """

    name: str
    profile_path: Path
    api_port: int
    stream_port: int
    generation: int
    instance_id: str
    control_token: str = field(repr=False)
    login: Login = PLAIN
    renewed: RenewedLogin | None = None
    remote_login: bool = False
    company: Company = Company.ANY

    @classmethod
    def for_start(
        cls,
        profile: Profile,
        slot: Slot,
        generation: int,
        renewed: RenewedLogin | None = None,
        *,
        company: Company = Company.ANY,
    ) -> ChildSpec:
        """Return the spec of a new start."""
        return cls(
            name=profile.name,
            profile_path=profile.path,
            api_port=slot.api_port,
            stream_port=slot.stream_port,
            generation=generation,
            instance_id=secrets.token_hex(8),
            control_token=secrets.token_urlsafe(24),
            login=profile.login,
            renewed=renewed,
            company=company,
        )


_FAILURES_TO_WARN: Final = 2
"""So many spare browsers lost in a row are no accident."""


@dataclass(frozen=True)
class SpareBrowsers:
    """The browsers without a login that are kept for the next starts.

    `wanted` of them are to be ready, and `ready` are. `taken` counts the starts that took one, `failures` those that
    were lost, and `failures_in_a_row` those that were lost at once since one was of use.
    """

    wanted: int
    ready: int = 0
    taken: int = 0
    failures: int = 0
    failures_in_a_row: int = 0

    @property
    def warning(self) -> str | None:
        """What the operator should know, in one line."""
        if self.ready or self.failures_in_a_row < _FAILURES_TO_WARN:
            return None
        return (
            f"No spare browser can be had (SPARE_BROWSERS={self.wanted}): the last {self.failures_in_a_row} ended at "
            "once, the log says why. Each start takes a browser of its own meanwhile."
        )


class ChildProcess(Protocol):
    """What a launcher gives back: where the child answers, its end, and what it leaves."""

    @property
    def url(self) -> str:
        """Base URL of its HTTP face, without a slash at the end."""

    @property
    def pid(self) -> int | None:
        """The id of its process, where it has one here; children that share a browser share a process."""

    async def wait(self) -> int:
        """Return its exit code once it has ended; negative for the signal that ended it."""

    def terminate(self) -> None:
        """Ask it to end. Does nothing if it has ended."""

    def kill(self) -> None:
        """End it at once. Does nothing if it has ended."""

    def fence(self) -> None:
        """End it, and everything that shares its browser, at once: the claim is over. Does nothing if it has ended."""

    def submitted(self) -> frozenset[str] | None:
        """Return the ids of the requests whose prompts may have reached the page; None if that cannot be read."""

    def has_folder(self) -> bool:
        """Return whether its run folder is still there: without it, it can note no request, and so takes none."""

    def last_lines(self) -> tuple[str, ...]:
        """Return the last lines of its output, without secrets."""

    def memory_bytes(self) -> int | None:
        """Return the memory of child, driver and browser, each page shared out among its users; may block.

        Of a browser that several children share it is an equal part.
        """

    def retire_browser(self) -> None:
        """Have no further child start in its browser, if it shares one: that takes too much memory."""

    async def clean_up(self) -> int:
        """After its end: kill what outlived it, empty its run folder; return how many were killed.

        May raise OSError or RuntimeError, and be called again then.
        """


class Launcher(Protocol):
    """Starts children."""

    def open(self) -> None:
        """Take what children need here. Raises TabfleetError if it cannot be had."""

    def use_keys(self, keys: KeyStore) -> None:
        """Have children accept these API keys from now on, those that run too. Raises LaunchError."""

    def use_site(self, site: str, file: str, text: str) -> None:
        """Have children of this site that start from now on use a site file of this text; `file` is its own name.

        Raises LaunchError.
        """

    def forget_site(self, site: str) -> None:
        """Have children that start from now on use the site's own file again: nobody follows it any more."""

    async def start(self, spec: ChildSpec) -> ChildProcess:
        """Start a child. Raises LaunchError if it cannot even begin to run."""

    def allow_spares(self, *, allowed: bool) -> None:
        """Say whether spare browsers may be started now: not while starts go on that somebody waits for."""

    def end_spares(self) -> None:
        """End spare browsers at once, and start none any more. Idempotent, and harmless before `open`."""

    def spares(self) -> SpareBrowsers | None:
        """Return what there is of spare browsers; None where none are wanted."""

    async def forget(self, name: str) -> None:
        """Remove what is kept between the starts of a child that will not come back."""

    async def close(self) -> None:
        """Remove everything that is kept; all children have ended. Idempotent, and harmless before `open`."""
