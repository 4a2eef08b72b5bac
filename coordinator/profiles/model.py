"""What passes between providers, discovery and the coordinator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from contract.keys import KeyStore
from contract.storage_state.summary import ProfileSummary
from coordinator.fleet_file.load import FleetFile
from coordinator.fleet_file.login import PLAIN, Login
from coordinator.settings import Settings


@dataclass(frozen=True)
class Profile:
    """One accepted login profile.

    `name` is the file's name without ``.json``. `sha256` is the hex digest of the file's bytes: it
    changes when the profile does. `fingerprint` is the hex digest of what makes the login: it is the
    same in two files of one login. `expires_at` is when the login expires by its cookies, in
    Unix seconds; None if none of them says so. `login` is what the fleet file says of it.
    """

    name: str
    path: Path
    sha256: str
    fingerprint: str
    expires_at: float | None
    login: Login = PLAIN


@dataclass(frozen=True)
class Examined:
    """One file and what was found in it: `state` if it is valid by itself, else `reason`."""

    file_name: str
    path: Path
    sha256: str = ""
    state: ProfileSummary | None = None
    reason: str = ""


@dataclass(frozen=True)
class Rejected:
    """A profile that was left out, by its file's name, and why. The reason holds no path and no secret."""

    name: str
    reason: str


@dataclass(frozen=True)
class Discovery:
    """What a folder of profiles holds, both in the order of names."""

    accepted: tuple[Profile, ...]
    rejected: tuple[Rejected, ...]


class _AsGiven:
    """Marks a field that pydantic leaves alone: a schema of its type would take 10 ms of each start."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.any_schema()


class ProfileHydrationResult(BaseModel):
    """Where a provider has put the profiles and, if it has one, the key file.

    Both paths stay the same over reloads; what they show is switched as a whole. The other fields are
    notes for the coordinator and not part of the JSON.
    """

    model_config = ConfigDict(frozen=True)

    profiles_dir: Path
    key_file: Path | None = None
    discovery: Annotated[Discovery | None, _AsGiven] = Field(default=None, exclude=True)
    """What the folder holds, if the provider has looked already; with what it left out itself."""
    stale: bool = Field(default=False, exclude=True)
    """Whether this is an earlier hydration, used because the backend cannot be reached."""
    fleet_file: Annotated[FleetFile | None, _AsGiven] = Field(default=None, exclude=True)
    """The fleet file that lies beside the profiles, if the provider was asked for it."""
    warnings: tuple[str, ...] = Field(default=(), exclude=True)
    """One line each, for the log and for ``/ready``."""


Progress = Callable[[int, int], object]
"""Called with how many objects are done, and of how many."""


def no_progress(_done: int, _of: int) -> None:
    """Shows nothing."""


class ProfileProvider(Protocol):
    """Brings profiles from somewhere to a local folder. How to add one: see the package's docstring."""

    @classmethod
    def from_settings(cls, settings: Settings, progress: Progress = no_progress) -> Self:
        """Make the provider from its own settings; does no I/O."""

    @property
    def location(self) -> str:
        """Where the profiles come from, for people: ``s3://bucket/prefix/active/`` or a folder."""

    @property
    def nothing_found(self) -> str:
        """What to say when not one profile is usable."""

    def hydrate(self) -> ProfileHydrationResult:
        """Make the profiles available locally; called again, bring them up to date.

        Raises TabfleetError, and then whatever an earlier call made available is as it was.
        """

    def inspect(self) -> tuple[Examined, ...]:
        """Check every profile at its place without writing anything. Raises TabfleetError."""

    def inspect_keys(self) -> KeyStore | None:
        """The keys that the backend itself holds, None without a key file. Raises TabfleetError."""
