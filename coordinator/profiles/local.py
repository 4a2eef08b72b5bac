"""Profiles from a local folder, which is used in place and never modified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from coordinator.errors import ProfileBackendError
from coordinator.profiles.discover import profile_names, resolved
from coordinator.profiles.model import ProfileHydrationResult

if TYPE_CHECKING:
    from pathlib import Path

    from coordinator.settings import Settings


class LocalProfileProvider:
    """The default: the profiles of a folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(settings.local_profile_dir)

    @property
    def location(self) -> str:
        return str(self._folder)

    @property
    def nothing_found(self) -> str:
        return f"no usable profile in {self._folder} (LOCAL_PROFILE_DIR, --profiles)"

    def hydrate(self) -> ProfileHydrationResult:
        """Give the folder as it is. Raises ProfileBackendError if it is not a folder that we can list."""
        try:
            resolved(self._folder)
            profile_names(self._folder)
        except ProfileBackendError as error:
            raise ProfileBackendError(
                f"{error}; LOCAL_PROFILE_DIR (--profiles) names the folder that holds the profiles (*.json)"
            ) from None
        return ProfileHydrationResult(profiles_dir=self._folder)
