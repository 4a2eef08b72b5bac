"""Which provider serves which PROFILE_BACKEND."""

from __future__ import annotations

from typing import Final

from coordinator.profiles.local import LocalProfileProvider
from coordinator.profiles.model import ProfileProvider, Progress, no_progress
from coordinator.profiles.s3 import S3ProfileProvider
from coordinator.settings import Settings

PROVIDERS: Final[dict[str, type[ProfileProvider]]] = {
    "local": LocalProfileProvider,
    "s3": S3ProfileProvider,
}


def provider_for(settings: Settings, progress: Progress = no_progress) -> ProfileProvider:
    """Return the provider that PROFILE_BACKEND names; does no I/O."""
    return PROVIDERS[settings.profile_backend].from_settings(settings, progress)
