"""Profiles and keys from an S3 bucket, through the cache folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

import structlog

from contract.keys import KeyFileError as BadKeyFile
from contract.keys import KeyStore
from coordinator.errors import FleetFileError, KeyFileError, NoUsableProfile
from coordinator.fleet_file.load import FleetFile, FleetFileReader
from coordinator.profiles.assignment import assign_logins
from coordinator.profiles.cache import ACTIVE, FLEET_FILE, KEY_FILE, Cache, Entry, FileSet, is_full
from coordinator.profiles.discover import examine, no_profiles_message, select_profiles
from coordinator.profiles.errors import CacheError, ObjectGone, S3Refused, S3Unreachable
from coordinator.profiles.model import Discovery, Examined, ProfileHydrationResult, Progress, no_progress
from coordinator.profiles.s3_listing import Listing, list_bucket
from coordinator.profiles.s3_types import Fetched, S3Location, S3Object, S3Options
from coordinator.profiles.s3_update import Obtained, Update
from coordinator.settings import Settings

if TYPE_CHECKING:  # imported where S3 is used: obstore takes 40 ms
    from coordinator.profiles.s3_client import S3Client

log = structlog.get_logger(__name__)


class S3ProfileProvider:
    """Profiles from ``s3://bucket/prefix/active/*.json``, keys from ``s3://bucket/prefix/key.txt``.

    Needs s3:ListBucket and s3:GetObject; never writes to S3.
    """

    def __init__(  # noqa: PLR0913 - most by keyword
        self,
        location: S3Location,
        cache_dir: Path,
        *,
        options: S3Options | None = None,
        allow_stale: bool = False,
        progress: Progress = no_progress,
        fleet_file: FleetFileReader | None = None,
    ) -> None:
        """`fleet_file` reads the one beside the profiles, which must then be there."""
        self._location = location
        self._fleet_file = fleet_file
        self._options = options or S3Options()
        self._allow_stale = allow_stale
        self._progress = progress
        self._cache = Cache(cache_dir, location.uri(location.prefix))
        self._client: S3Client | None = None
        self._has_run = False
        self._has_keys = False

    @classmethod
    def from_settings(cls, settings: Settings, progress: Progress = no_progress) -> Self:
        """Make the provider from the AUTH_PROFILE_ settings; does no I/O."""
        location = S3Location(settings.auth_profile_s3_bucket or "", settings.auth_profile_s3_prefix.strip("/"))
        return cls(
            location,
            settings.auth_profile_cache_dir,
            options=S3Options.from_settings(settings),
            allow_stale=settings.auth_profile_allow_stale,
            progress=progress,
            fleet_file=FleetFileReader(settings.chat_site) if settings.fleet_file == "s3" else None,
        )

    @property
    def location(self) -> str:
        """``s3://bucket/prefix/active/``."""
        return self._location.uri(self._location.active)

    @property
    def nothing_found(self) -> str:
        """What to say when not one profile is usable."""
        return f"S3 backend configured but no auth profiles downloaded from {self.location}"

    def hydrate(self) -> ProfileHydrationResult:
        """Bring the cache up to date; what has not changed is not fetched again.

        Raises S3Refused, S3Unreachable, CacheError, KeyFileError, NoUsableProfile; then the current set
        is as it was. With `allow_stale`, the first call falls back on it when S3 cannot be reached.
        """
        with self._cache_errors(), self._cache.opened():
            # While S3 lists, what is in the cache is read and checked.
            listed = self._begin_listing()
            old = self._cache.current()
            update = Update(self._cache, old)
            try:
                result = self._update(update, *listed.result())
            except S3Unreachable as error:
                if self._has_run or not (self._allow_stale and old):
                    raise
                result = self._stale(old, update, error)
        self._has_run = True
        return result

    def inspect(self) -> tuple[Examined, ...]:
        """Check every profile in the bucket without writing anything. Raises S3Refused, S3Unreachable."""
        client, listing = self._list()
        return _in_order(listing, (examined for _, _, examined in self._read(client, listing.profiles)))

    def inspect_keys(self) -> KeyStore | None:
        """Return the keys in the bucket, None without a key file. Raises KeyFileError and as `inspect`."""
        client, listing = self._list()
        if listing.key_file is None:
            return None
        try:
            answer = client.read(listing.key_file.key)
        except ObjectGone:
            return None
        self._check_key_file_given(answer.refused)
        # KeyStore reads a path, and keys that are only looked at are not to come on a disk.
        with os.fdopen(os.memfd_create(KEY_FILE), "wb", buffering=0) as file:
            file.write(answer.data)
            return self._keys(Path(f"/proc/self/fd/{file.fileno()}"))

    def _update(self, update: Update, client: S3Client, listing: Listing) -> ProfileHydrationResult:
        try:
            key_file, keys, warnings = self._key_file(client, update, listing)
            fleet_object = None if self._fleet_file is None else self._fleet_object(client, update, listing)
            fleet = self._read_fleet_file(update.path(fleet_object)) if fleet_object else None
            obtained = self._obtain(client, update, listing.profiles)
            discovery = self._select(listing, obtained)
            if fleet:  # before anything is switched: a wrong file changes nothing
                assign_logins(fleet, discovery)
            files = [*(item for item, _ in obtained), *(item for item in (key_file, fleet_object) if item)]
            changed = update.finish(files, frozenset(f"{profile.name}.json" for profile in discovery.accepted))
        finally:
            update.abandon()
        self._has_keys = bool(keys)
        fetched = sum(item.fetched for item in files)
        log.info("s3_read", location=self.location, listed=len(listing.profiles), fetched=fetched, changed=changed)
        return self._result(discovery, has_key_file=key_file is not None, fleet_file=fleet, warnings=warnings)

    def _fleet_object(self, client: S3Client, update: Update, listing: Listing) -> Obtained:
        """Return the fleet file, fetched if it is new. Raises FleetFileError, S3Refused."""
        uri, obtained = self._location.uri(self._location.fleet_file), None
        if listing.fleet_file:
            with suppress(ObjectGone):
                key, known = listing.fleet_file.key, update.unchanged(listing.fleet_file)
                obtained = Obtained(key, known) if known else update.store(key, client.read(key), FLEET_FILE)
        if obtained is None:
            raise FleetFileError(f"FLEET_FILE=s3, but there is no {uri}; put one there, or name a file.")
        if obtained.refused:
            raise S3Refused(f"{uri} cannot be read: {obtained.refused}")
        return obtained

    def _read_fleet_file(self, path: Path) -> FleetFile | None:
        if self._fleet_file is None:
            return None
        return self._fleet_file.read(path, shown=self._location.uri(self._location.fleet_file))

    def _begin_listing(self) -> Future[tuple[S3Client, Listing]]:
        """Begin `_list` in another thread."""
        from coordinator.profiles.s3_client import begin  # noqa: PLC0415 - see `_connect`

        return begin(self._list)

    def _list(self) -> tuple[S3Client, Listing]:
        """Return a client that can list, and what it lists. Raises S3Refused, S3Unreachable."""
        client, reused = self._client or self._connect(), self._client is not None
        try:
            listing = list_bucket(client, self._location, with_fleet_file=self._fleet_file is not None)
        except S3Refused:
            if not reused:
                raise
            # Credentials in files may have been replaced since this client read them.
            client = self._connect()
            listing = list_bucket(client, self._location, with_fleet_file=self._fleet_file is not None)
        self._client = client
        return client, listing

    def _connect(self) -> S3Client:
        from coordinator.profiles.s3_client import S3Client  # noqa: PLC0415 - 40 ms that a local folder does without

        return S3Client(self._location, self._options)

    def _key_file(
        self, client: S3Client, update: Update, listing: Listing
    ) -> tuple[Obtained | None, KeyStore, tuple[str, ...]]:
        obtained, keys = None, KeyStore()
        if listing.key_file:
            with suppress(ObjectGone):
                key, known = listing.key_file.key, update.unchanged(listing.key_file)
                obtained = Obtained(key, known) if known else update.store(key, client.read(key), KEY_FILE)
                self._check_key_file_given(obtained.refused)
                keys = self._keys(update.path(obtained))
        if keys or not self._has_keys:
            return obtained, keys, ()
        # Without keys the API would be open: what a reload does not find stays.
        kept = update.keep(self._location.key_file)
        uri = self._location.uri(self._location.key_file)
        warning = f"{uri} has no keys any more; those of the last hydration stay in force"
        return kept, KeyStore() if kept is None else self._keys(update.path(kept)), (warning,)

    def _obtain(self, client: S3Client, update: Update, items: Sequence[S3Object]) -> list[tuple[Obtained, Examined]]:
        pairs, missing = [], []
        for item in items:
            entry = update.unchanged(item)
            if entry:
                examined = self._examine_kept(item.key, entry, update.read)
                if examined.state is not entry.state:
                    entry = replace(entry, state=examined.state)
                pairs.append((Obtained(item.key, entry), examined))
            else:
                missing.append(item)

        # Closed, so that a full disk ends the reading too.
        with closing(self._read(client, missing)) as answers:
            for key, answer, examined in answers:
                pairs.append((update.store(key, answer, f"{ACTIVE}/{examined.file_name}", examined), examined))
        return pairs

    def _read(self, client: S3Client, items: Sequence[S3Object]) -> Generator[tuple[str, Fetched, Examined]]:
        with closing(client.read_many([item.key for item in items])) as answers:
            for done, (key, answer) in enumerate(answers, 1):
                if answer:
                    yield key, answer, self._examine(key, answer)
                self._progress(done, len(items))

    def _examine(self, key: str, answer: Fetched) -> Examined:
        name = key.rpartition("/")[2]
        path = self._cache.profiles_dir / name
        if answer.refused:
            return Examined(name, path, reason=f"cannot be read: {answer.refused}")
        return examine(name, path, lambda: answer.data)

    def _examine_kept(self, key: str, entry: Entry, read: Callable[[str], bytes]) -> Examined:
        """Check a file of the cache unless it is known what is in it."""
        name = key.rpartition("/")[2]
        path = self._cache.profiles_dir / name
        if entry.state:
            return Examined(name, path, entry.sha256, entry.state)
        return examine(name, path, lambda: read(key))

    def _select(self, listing: Listing, obtained: list[tuple[Obtained, Examined]]) -> Discovery:
        discovery = select_profiles(_in_order(listing, (examined for _, examined in obtained)), time.time())
        if discovery.accepted:
            return discovery
        # A refusal of everything is one of permissions, and has another exit code.
        if obtained and all(item.refused for item, _ in obtained):
            raise S3Refused(f"{self.location}: no profile can be read: {obtained[0][0].refused}")
        raise NoUsableProfile(no_profiles_message(self.nothing_found, discovery))

    def _stale(self, old: FileSet, update: Update, error: S3Unreachable) -> ProfileHydrationResult:
        """Return what an earlier hydration left. Raises `error` if that holds no usable profile, KeyFileError."""
        examined = []
        for key, entry in sorted(old.entries.items()):
            if entry.file not in (KEY_FILE, FLEET_FILE):
                known = entry if key in update.intact else replace(entry, state=None)
                examined.append(self._examine_kept(key, known, update.read))
        discovery = select_profiles(examined, time.time())
        if not discovery.accepted:
            raise error
        has_key_file = self._location.key_file in old.entries
        self._has_keys = has_key_file and bool(self._keys(self._cache.key_file))
        when = f"{datetime.fromtimestamp(old.confirmed_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
        warning = f"stale profiles: S3 cannot be reached, these are of {when} ({error})"
        if self._fleet_file and self._location.fleet_file not in old.entries:
            raise error
        fleet = self._read_fleet_file(self._cache.fleet_file)
        result = self._result(discovery, has_key_file=has_key_file, fleet_file=fleet, warnings=(warning,))
        return result.model_copy(update={"stale": True})

    def _result(
        self, discovery: Discovery, *, has_key_file: bool, fleet_file: FleetFile | None, warnings: tuple[str, ...]
    ) -> ProfileHydrationResult:
        return ProfileHydrationResult(
            profiles_dir=self._cache.profiles_dir,
            key_file=self._cache.key_file if has_key_file else None,
            discovery=discovery,
            fleet_file=fleet_file,
            warnings=warnings,
        )

    def _check_key_file_given(self, refused: str) -> None:
        if refused:
            raise S3Refused(f"{self._location.uri(self._location.key_file)} cannot be read: {refused}")

    def _keys(self, path: Path) -> KeyStore:
        try:
            return KeyStore.from_file(path)
        except BadKeyFile as error:
            raise KeyFileError(f"{self._location.uri(self._location.key_file)}: {error}") from None

    @contextmanager
    def _cache_errors(self) -> Iterator[None]:
        try:
            yield
        except CacheError as error:
            raise CacheError(f"{self.location}: cannot be kept in AUTH_PROFILE_CACHE_DIR: {error}") from None
        except OSError as error:
            cause = "no space is left there" if is_full(error) else str(error.strerror)
            raise CacheError(
                f"{self.location}: cannot be kept in AUTH_PROFILE_CACHE_DIR ({self._cache}): {cause}"
            ) from None


def _in_order(listing: Listing, examined: Iterable[Examined]) -> tuple[Examined, ...]:
    return tuple(sorted([*listing.left_out, *examined], key=lambda item: item.file_name))
