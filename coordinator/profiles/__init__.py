"""Profiles and keys: fetched, checked and kept up to date."""

from coordinator.profiles.discover import discover_profiles
from coordinator.profiles.hydration import Hydration, Hydrator, hydrate
from coordinator.profiles.local import LocalProfileProvider
from coordinator.profiles.model import Discovery, Profile, ProfileHydrationResult, ProfileProvider, Rejected
from coordinator.profiles.registry import provider_for

__all__ = [
    "Discovery",
    "Hydration",
    "Hydrator",
    "LocalProfileProvider",
    "Profile",
    "ProfileHydrationResult",
    "ProfileProvider",
    "Rejected",
    "discover_profiles",
    "hydrate",
    "provider_for",
]
