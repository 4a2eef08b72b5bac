"""Profiles and keys as the coordinator takes them, at start and at each reload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import structlog

from contract.keys import KeyFileError as BadKeyFile
from contract.keys import KeyStore, default_key_file
from coordinator.errors import KeyFileError, NoUsableProfile
from coordinator.fleet_file.load import FleetFile, FleetFileReader
from coordinator.profiles.assignment import assign_logins
from coordinator.profiles.discover import SUFFIX, discover_profiles, no_profiles_message
from coordinator.profiles.model import Discovery, ProfileHydrationResult, ProfileProvider, Progress, no_progress
from coordinator.profiles.registry import provider_for
from coordinator.settings import Settings
from coordinator.shard import Shard

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Hydration:
    """All that one hydration brought.

    `key_file` is the file whose keys count, None if there is none; `keys` are its keys. `stale` says
    that the backend could not be reached and these are the profiles of an earlier hydration.
    `warnings` are lines for ``/ready``. `fleet_file` has given the profiles their logins, where there is one.
    `discovery` has those of this coordinator's share alone, where it takes one.
    """

    result: ProfileHydrationResult
    discovery: Discovery
    key_file: Path | None
    keys: KeyStore
    stale: bool
    warnings: tuple[str, ...]
    fleet_file: FleetFile | None = None

    @property
    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        """The fleet file's names for models."""
        return self.fleet_file.aliases if self.fleet_file else {}


class Hydrator:
    """Hydrates again and again with one provider, and so with one connection to its backend."""

    def __init__(  # noqa: PLR0913 - most by keyword
        self,
        provider: ProfileProvider,
        *,
        operator_key_file: Path | None = None,
        require_key: bool = False,
        fleet_file: Path | None = None,
        default_site: str | None = None,
        shard: Shard | None = None,
    ) -> None:
        """`fleet_file` is one that does not come from the provider; `default_site` is CHAT_SITE.

        `shard` is the share of the profiles to take; None is all.
        """
        self._provider, self._shard = provider, shard
        self._fleet_file, self._fleet_reader = fleet_file, FleetFileReader(default_site)
        self._operator_key_file = operator_key_file
        self._require_key = require_key
        self._last: Hydration | None = None

    @classmethod
    def from_settings(cls, settings: Settings, progress: Progress = no_progress) -> Self:
        """Wire it up; does no I/O."""
        return cls(
            provider_for(settings, progress),
            operator_key_file=settings.auth_key_file_path,
            require_key=settings.require_api_key,
            fleet_file=Path(settings.fleet_file) if settings.fleet_file not in (None, "s3") else None,
            default_site=settings.chat_site,
            shard=settings.own_shard,
        )

    def hydrate(self) -> Hydration:
        """Bring profiles and keys up to date. Blocks; call it in a thread while serving.

        Raises TabfleetError, and then what the last call returned stays in force.
        """
        # First, for what a remote provider fetches is switched to at once, and a wrong file changes nothing.
        path = self._fleet_file
        fleet = self._fleet_reader.read(path, folder=path.parent) if path else None
        result = self._provider.hydrate()
        discovery = result.discovery or discover_profiles(result.profiles_dir)
        fleet = fleet or result.fleet_file
        fleet_warnings: tuple[str, ...] = ()
        if fleet:
            discovery, fleet_warnings = assign_logins(fleet, discovery)
        if not discovery.accepted:
            raise NoUsableProfile(no_profiles_message(self._provider.nothing_found, discovery))
        # Last: which of two files of one login counts must not depend on whose share they are in.
        discovery, shard_warnings = take_share(self._shard, discovery)
        key_file, keys, key_warnings = self._keys(result)
        warnings = (*result.warnings, *key_warnings, *fleet_warnings, *shard_warnings)
        hydration = Hydration(result, discovery, key_file, keys, result.stale, warnings, fleet)
        self._report(hydration)
        self._last = hydration
        return hydration

    def _keys(self, result: ProfileHydrationResult) -> tuple[Path | None, KeyStore, tuple[str, ...]]:
        key_file, keys = read_keys(self._operator_key_file, result.key_file)
        last = self._last
        # Without keys the API is open: a file that got lost must not open it.
        if last and last.keys and not keys:
            return last.key_file, last.keys, ("the reload found no API keys; the earlier ones stay in force",)
        if self._require_key and not keys:
            where = f"{key_file} holds none" if key_file else "there is no key file"
            cure = "put a key into key.txt or name a file in AUTH_KEY_FILE_PATH"
            raise KeyFileError(f"REQUIRE_API_KEY is set, but {where}; {cure}")
        return key_file, keys, ()

    def _report(self, hydration: Hydration) -> None:
        last = self._last
        # With AUTH_PROFILE_REFRESH_S this runs again and again: what was said once is not said at every reload.
        for item in hydration.discovery.rejected:
            if last is None or item not in last.discovery.rejected:
                log.warning("profile_rejected", profile=item.name, reason=item.reason)
        for line in hydration.warnings:
            if last is None or line not in last.warnings:
                log.warning("hydration_warning", message=line)
        log.info(
            "profiles_hydrated",
            message=f"Hydrated profiles from {self._provider.location}",
            accepted=len(hydration.discovery.accepted),
            rejected=len(hydration.discovery.rejected),
            keys=len(hydration.keys),
            stale=hydration.stale,
            **({"shard": str(self._shard)} if self._shard else {}),
        )


def take_share(shard: Shard | None, discovery: Discovery) -> tuple[Discovery, tuple[str, ...]]:
    """Return what of a discovery is in this share, rejected profiles too, and what the operator should know.

    Without any profile in the share there is nothing to start, which is no error: a later reload may bring one.
    """
    if shard is None:
        return discovery, ()
    mine = Discovery(
        tuple(profile for profile in discovery.accepted if shard.holds(profile.name)),
        tuple(item for item in discovery.rejected if shard.holds(item.name.removesuffix(SUFFIX))),
    )
    if mine.accepted:
        return mine, ()
    count = len(discovery.accepted)
    others = "the only usable login is" if count == 1 else f"all {count} usable logins are"
    return mine, (f"No login is in this cell's share, SHARD={shard}: {others} in other shares.",)


def hydrate(settings: Settings) -> Hydration:
    """Hydrate once, as the settings say. Raises TabfleetError."""
    return Hydrator.from_settings(settings).hydrate()


def key_file_that_counts(operators: Path | None, hydrated: Path | None) -> Path | None:
    """Return the key file that applies: AUTH_KEY_FILE_PATH, the hydrated one, auth_profiles/key.txt if it exists.

    Raises `contract.keys.KeyFileError` if that cannot be seen.
    """
    return operators or hydrated or default_key_file()


def read_keys(operators: Path | None, hydrated: Path | None) -> tuple[Path | None, KeyStore]:
    """Return the key file that counts and its keys. Raises KeyFileError if it is given and cannot be used."""
    key_file = None
    try:
        key_file = key_file_that_counts(operators, hydrated)
        return key_file, KeyStore() if key_file is None else KeyStore.from_file(key_file)
    except BadKeyFile as error:
        variable = " (AUTH_KEY_FILE_PATH)" if operators else ""
        raise KeyFileError(f"{error}{variable}") from None
