"""Profiles from a local folder, which is used in place and never modified."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Self

from contract.keys import KeyFileError as BadKeyFile
from contract.keys import default_key_file
from coordinator.errors import ProfileBackendError
from coordinator.profiles.discover import examine_folder, profile_names, resolved
from coordinator.profiles.model import Examined, ProfileHydrationResult, Progress, no_progress
from coordinator.settings import Settings


class LocalProfileProvider:
    """The default: the profiles of a folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()  # children have a working directory of their own

    @classmethod
    def from_settings(cls, settings: Settings, progress: Progress = no_progress) -> Self:  # noqa: ARG003 - nothing to fetch
        """Make the provider of LOCAL_PROFILE_DIR."""
        return cls(settings.local_profile_dir)

    @property
    def location(self) -> str:
        """The folder, in full."""
        return str(self._folder)

    @property
    def nothing_found(self) -> str:
        """What to say when not one profile is usable."""
        return f"no usable profile in {self._folder} (LOCAL_PROFILE_DIR, --profiles)"

    def hydrate(self) -> ProfileHydrationResult:
        """Return the folder as it is. Raises ProfileBackendError if it is not a folder that we can list."""
        self._names()
        key_file = None
        with suppress(BadKeyFile):  # whoever needs it will come upon this too; the operator may have named another
            key_file = default_key_file()
        return ProfileHydrationResult(profiles_dir=self._folder, key_file=key_file and key_file.absolute())

    def inspect(self) -> tuple[Examined, ...]:
        """Check every profile in the folder. Raises ProfileBackendError."""
        self._names()
        return tuple(examine_folder(self._folder))

    def inspect_keys(self) -> None:
        """Return None: the default key file is the caller's business."""

    def _names(self) -> list[str]:
        try:
            resolved(self._folder)
            return profile_names(self._folder)
        except ProfileBackendError as error:
            raise ProfileBackendError(
                f"{error}; LOCAL_PROFILE_DIR (--profiles) names the folder that holds the profiles (*.json)"
            ) from None
