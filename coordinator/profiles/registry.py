"""Which provider serves which PROFILE_BACKEND."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coordinator.profiles.local import LocalProfileProvider

if TYPE_CHECKING:
    from coordinator.profiles.model import ProfileProvider
    from coordinator.settings import Settings

PROVIDERS: Final[dict[str, type[ProfileProvider]]] = {"local": LocalProfileProvider}


def provider_for(settings: Settings) -> ProfileProvider:
    """The provider that PROFILE_BACKEND names; does no I/O."""
    return PROVIDERS[settings.profile_backend].from_settings(settings)
