"""Each profile gets the login that the fleet file describes."""

from __future__ import annotations

from dataclasses import replace

from coordinator.fleet_file.load import FleetFile
from coordinator.profiles.model import Discovery, Rejected

_NO_SITE = "has no site: no [[login]] of the fleet file gives it one, and CHAT_SITE (--site) is not set"


def assign_logins(fleet: FleetFile, discovery: Discovery) -> tuple[Discovery, tuple[str, ...]]:
    """Return the profiles with their logins, those without a site left out, and what the operator should know.

    Raises FleetFileError.
    """
    logins = {profile.name: fleet.login_of(profile.name) for profile in discovery.accepted}
    accepted = tuple(
        replace(profile, login=logins[profile.name])
        for profile in discovery.accepted
        if logins[profile.name].site or fleet.default_site
    )
    without = [profile for profile in discovery.accepted if not (logins[profile.name].site or fleet.default_site)]
    rejected = (*discovery.rejected, *(Rejected(f"{profile.name}.json", _NO_SITE) for profile in without))
    return Discovery(accepted, tuple(sorted(rejected, key=lambda item: item.name))), fleet.warnings(logins)
