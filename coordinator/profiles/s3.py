"""Profiles and keys from an S3 bucket, through the cache folder."""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Self

import structlog

from contract.keys import KeyFileError as BadKeyFile
from contract.keys import KeyStore
from coordinator.errors import KeyFileError, NoUsableProfile
from coordinator.profiles import verdicts
from coordinator.profiles.cache import ACTIVE, KEY_FILE, Cache, is_full
from coordinator.profiles.discover import Examined, examine, judge, why_nothing
from coordinator.profiles.errors import CacheError, ObjectGone, S3Refused, S3Unreachable
from coordinator.profiles.memory_file import memory_file
from coordinator.profiles.model import Discovery, ProfileHydrationResult, Progress, no_progress
from coordinator.profiles.parallel import Parallel
from coordinator.profiles.s3_listing import Listing, take_stock
from coordinator.profiles.s3_place import S3Connection, S3Place
from coordinator.profiles.s3_update import Obtained, Update

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from contract.storage_state.summary import ProfileSummary
    from coordinator.profiles.cache import FileSet
    from coordinator.profiles.s3_bucket import Fetched, S3Bucket, S3Object
    from coordinator.settings import Settings

    Keep = Callable[[str, Fetched, str], Obtained]

log = structlog.get_logger(__name__)


class S3ProfileProvider:
    """Profiles from ``s3://bucket/prefix/active/*.json``, keys from ``s3://bucket/prefix/key.txt``.

    Needs s3:ListBucket and s3:GetObject; never writes to S3.
    """

    def __init__(
        self,
        place: S3Place,
        cache_dir: Path,
        *,
        connection: S3Connection | None = None,
        allow_stale: bool = False,
        progress: Progress = no_progress,
    ) -> None:
        self._place = place
        self._connection = connection or S3Connection()
        self._allow_stale = allow_stale
        self._progress = progress
        self._cache = Cache(cache_dir, place.uri(place.prefix))
        self._bucket: S3Bucket | None = None
        self._has_run = False
        self._has_keys = False
        self._states: dict[str, ProfileSummary] = {}

    @classmethod
    def from_settings(cls, settings: Settings, progress: Progress = no_progress) -> Self:
        connection = S3Connection(
            settings.auth_profile_s3_region,
            settings.auth_profile_s3_connect_timeout_s,
            settings.auth_profile_s3_read_timeout_s,
            settings.extra_ca_file,
        )
        place = S3Place(settings.auth_profile_s3_bucket or "", settings.auth_profile_s3_prefix.strip("/"))
        return cls(
            place,
            settings.auth_profile_cache_dir,
            connection=connection,
            allow_stale=settings.auth_profile_allow_stale,
            progress=progress,
        )

    @property
    def location(self) -> str:
        return self._place.uri(self._place.active)

    @property
    def nothing_found(self) -> str:
        return f"S3 backend configured but no auth profiles downloaded from {self.location}"

    def hydrate(self) -> ProfileHydrationResult:
        """Bring the cache up to date; what has not changed is not fetched again.

        Raises S3Refused, S3Unreachable, CacheError, KeyFileError, NoUsableProfile; then the current set
        is as it was. With `allow_stale`, the first call falls back on it when S3 cannot be reached.
        """
        with self._cache_errors(), self._cache.opened():
            old = self._cache.current()
            if old and not self._has_run:
                self._states = verdicts.load(old.folder)
            try:
                result = self._update(old)
            except S3Unreachable as error:
                if self._has_run or not (self._allow_stale and old):
                    raise
                result = self._stale(old, error)
        self._has_run = True
        return result

    def inspect(self) -> tuple[Examined, ...]:
        """Check every profile in the bucket without writing anything. Raises S3Refused, S3Unreachable."""
        bucket, listing = self._listing()

        def keep(key: str, answer: Fetched, _file: str) -> Obtained:
            return Obtained(key, answer.data, refused=answer.refused)

        return _in_order(listing, self._fetched(bucket, keep, listing.profiles))

    def inspect_keys(self) -> KeyStore | None:
        """The keys in the bucket, None without a key file; writes nothing. Raises KeyFileError and as `inspect`."""
        bucket, listing = self._listing()
        if listing.key_file is None:
            return None
        try:
            answer = bucket.read(listing.key_file.key)
        except ObjectGone:
            return None
        self._check_key_file_given(answer.refused)
        return self._keys(memory_file(KEY_FILE, answer.data))

    def _update(self, old: FileSet | None) -> ProfileHydrationResult:
        bucket, listing = self._listing()
        noted = self._states.keys()
        update = Update(self._cache, old)
        try:
            key_file, keys, warnings = self._key_file(bucket, update, listing)
            obtained = self._obtain(bucket, update, listing)
            discovery = self._judge(listing, obtained)
            files = [item for item, _ in obtained] + ([key_file] if key_file else [])
            active = frozenset(f"{profile.name}.json" for profile in discovery.accepted)
            changed = update.finish(files, active, self._states)
            if old and not changed and self._states.keys() - noted:
                verdicts.renew(old.folder, self._states)
        finally:
            update.abandon()
        self._has_keys = bool(keys)
        fetched = sum(item.fetched for item in files)
        log.info("s3_read", location=self.location, listed=len(listing.profiles), fetched=fetched, changed=changed)
        return self._result(discovery, has_key_file=key_file is not None, warnings=warnings)

    def _listing(self) -> tuple[S3Bucket, Listing]:
        bucket, reused = self._bucket or self._connect(), self._bucket is not None
        try:
            listing = take_stock(bucket, self._place)
        except S3Refused:
            if not reused:
                raise
            # Credentials in files may have been replaced since this client read them.
            bucket = self._connect()
            listing = take_stock(bucket, self._place)
        self._bucket = bucket
        return bucket, listing

    def _connect(self) -> S3Bucket:
        with _garbage_left():
            from coordinator.profiles.s3_bucket import S3Bucket  # noqa: PLC0415 - the SDK takes a third of a second

            return S3Bucket(self._place, self._connection)

    def _key_file(
        self, bucket: S3Bucket, update: Update, listing: Listing
    ) -> tuple[Obtained | None, KeyStore, tuple[str, ...]]:
        obtained, keys = None, KeyStore()
        if listing.key_file:
            with suppress(ObjectGone):
                key = listing.key_file.key
                obtained = update.unchanged(listing.key_file) or update.store(key, bucket.read(key), KEY_FILE)
                self._check_key_file_given(obtained.refused)
                keys = self._keys(update.path(obtained))
        if keys or not self._has_keys:
            return obtained, keys, ()
        kept = update.keep(self._place.key_file)
        warning = (
            f"{self._place.uri(self._place.key_file)} has no keys any more; those of the last hydration stay in force"
        )
        return kept, KeyStore() if kept is None else self._keys(update.path(kept)), (warning,)

    def _obtain(self, bucket: S3Bucket, update: Update, listing: Listing) -> list[tuple[Obtained, Examined]]:
        pairs, missing = [], []
        for item in listing.profiles:
            obtained = update.unchanged(item)
            if obtained:
                pairs.append((obtained.without_data(), self._examine(obtained)))
            else:
                missing.append(item)
        pairs += self._fetched(bucket, update.store, missing)
        self._states = {examined.sha256: examined.state for _, examined in pairs if examined.state}
        return pairs

    def _fetched(self, bucket: S3Bucket, keep: Keep, items: Sequence[S3Object]) -> list[tuple[Obtained, Examined]]:
        """Fetch, keep and check objects; the first failure ends it."""
        found: list[tuple[Obtained, Examined]] = []

        def take(key: str, answer: Fetched) -> None:
            found.append(self._kept(keep, key, answer))
            self._progress(len(found), len(items))

        left = bucket.read_many([item.key for item in items], take)
        done = len(items) - len(left)
        parallel = Parallel(partial(self._fetch_one, bucket, keep), left, self._connection.workers)
        rest = parallel.results(lambda more, _of: self._progress(done + more, len(items)))
        return found + [pair for pair in rest if pair]

    def _fetch_one(self, bucket: S3Bucket, keep: Keep, key: str) -> tuple[Obtained, Examined] | None:
        try:
            return self._kept(keep, key, bucket.read(key))
        except ObjectGone:
            return None

    def _kept(self, keep: Keep, key: str, answer: Fetched) -> tuple[Obtained, Examined]:
        obtained = keep(key, answer, f"{ACTIVE}/{key.rpartition('/')[2]}")
        return obtained.without_data(), self._examine(obtained)

    def _examine(self, obtained: Obtained) -> Examined:
        name = obtained.key.rpartition("/")[2]
        path = self._cache.profiles_dir / name
        if obtained.refused:
            return Examined(name, path, reason=f"cannot be read: {obtained.refused}")
        digest = obtained.entry.sha256 if obtained.entry else ""
        if digest in self._states:
            return Examined(name, path, digest, self._states[digest])
        return examine(name, path, lambda: obtained.data)

    def _judge(self, listing: Listing, obtained: list[tuple[Obtained, Examined]]) -> Discovery:
        discovery = judge(_in_order(listing, obtained), time.time())
        if discovery.accepted:
            return discovery
        if obtained and all(item.refused for item, _ in obtained):
            raise S3Refused(f"{self.location}: no profile can be read: {obtained[0][0].refused}")
        raise NoUsableProfile(why_nothing(self.nothing_found, discovery))

    def _stale(self, old: FileSet, error: S3Unreachable) -> ProfileHydrationResult:
        """What an earlier hydration left. Raises NoUsableProfile, KeyFileError."""
        examined = [
            examine(
                key.rpartition("/")[2], self._cache.profiles_dir / key.rpartition("/")[2], partial(_bytes, old, key)
            )
            for key, entry in sorted(old.entries.items())
            if entry.file != KEY_FILE
        ]
        discovery = judge(examined, time.time())
        if not discovery.accepted:
            raise error
        has_key_file = self._place.key_file in old.entries
        self._has_keys = has_key_file and bool(self._keys(self._cache.key_file))
        when = f"{datetime.fromtimestamp(old.confirmed_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
        warning = f"stale profiles: S3 cannot be reached, these are of {when} ({error})"
        result = self._result(discovery, has_key_file=has_key_file, warnings=(warning,))
        return result.model_copy(update={"stale": True})

    def _result(self, discovery: Discovery, *, has_key_file: bool, warnings: tuple[str, ...]) -> ProfileHydrationResult:
        return ProfileHydrationResult(
            profiles_dir=self._cache.profiles_dir,
            key_file=self._cache.key_file if has_key_file else None,
            discovery=discovery,
            warnings=warnings,
        )

    def _check_key_file_given(self, refused: str) -> None:
        if refused:
            raise S3Refused(f"{self._place.uri(self._place.key_file)} cannot be read: {refused}")

    def _keys(self, path: Path) -> KeyStore:
        try:
            return KeyStore.from_file(path)
        except BadKeyFile as error:
            raise KeyFileError(f"{self._place.uri(self._place.key_file)}: {error}") from None

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


@contextmanager
def _garbage_left() -> Iterator[None]:
    """Collect no garbage: loading the SDK makes so much that stays that looking for it doubles the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _bytes(files: FileSet, key: str) -> bytes:
    return files.read(key) or b""


def _in_order(listing: Listing, obtained: list[tuple[Obtained, Examined]]) -> tuple[Examined, ...]:
    everything = [*listing.left_out, *(examined for _, examined in obtained)]
    return tuple(sorted(everything, key=lambda examined: examined.file_name))
