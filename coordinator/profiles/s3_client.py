"""Listing, reading and writing one bucket: through obstore, and through boto3 wherever that cannot serve or fails.

boto3 is what operators know, so that what it makes of a failure is what they are told: an operation that
fails in obstore, for whatever reason, is done again by boto3.
"""

from __future__ import annotations

import gc
import os
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from obstore.exceptions import AlreadyExistsError, InvalidPathError, PermissionDeniedError, PreconditionError
from obstore.store import S3Store

from contract.storage_state.document import MAX_PROFILE_BYTES
from coordinator.profiles.errors import ObjectChanged, ObjectGone
from coordinator.profiles.s3_store import credentials_of_environment, endpoint_from_environment, open_store
from coordinator.profiles.s3_types import Fetched, S3Location, S3Object, S3Options, bare_etag

if TYPE_CHECKING:  # loading boto3 takes a third of a second; from stubs
    from obstore import ObjectMeta, UpdateVersion

    from coordinator.profiles.s3_boto import BotoBucket

Result = TypeVar("Result")
_PAGE: Final = 1000
"""So many objects are in one page of a listing, by S3's own limit."""
_OF_ONE_KEY: Final = (FileNotFoundError, PermissionDeniedError, InvalidPathError, ValueError)
"""What obstore raises for reasons that need not hold for the next key."""


def begin(work: Callable[[], Result]) -> Future[Result]:
    """Begin some work in a thread that no exit waits for, since a server may hang."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            future.set_exception(error)

    threading.Thread(target=run, name="s3", daemon=True).start()
    return future


class S3Client:
    """Lists, reads and writes one bucket over connections that stay open. To be used by one thread at a time."""

    def __init__(self, location: S3Location, options: S3Options) -> None:
        """Resolve the AWS chain as far as it takes to choose. Raises S3Refused, S3Unreachable."""
        self._location = location
        self._options = options
        self._boto_bucket: BotoBucket | None = None
        self._loading = threading.Lock()
        endpoint = endpoint_from_environment(location.bucket, options.region, os.environ)
        if endpoint:
            self._store = open_store(location.bucket, endpoint, credentials_of_environment, options)
        else:
            self._store = self._boto().open_store()
        self._store_works = True

    def list_folder(self, prefix: str) -> tuple[list[S3Object], list[str]]:
        """Return the objects directly under `prefix`, and the prefixes of those further down.

        Raises S3Refused, S3Unreachable.
        """
        self._store_works = True
        found = self._attempt_aside(lambda store: _list_folder(store, prefix))
        # Any XML is an empty listing to obstore; boto3 can tell.
        return found if found and any(found) else self._boto().list_folder(prefix)

    def find(self, key: str) -> S3Object | None:
        """Find one object; that it is absent is read from a listing, so that it differs from "not allowed".

        Raises S3Refused, S3Unreachable.
        """
        found = self._attempt_aside(lambda store: _find(store, key))
        return found[0] if found else self._boto().find(key)

    def read(self, key: str) -> Fetched:
        """Return an object's bytes, at most one more than a profile may have.

        Raises ObjectGone, S3Refused, S3Unreachable.
        """
        return self._attempt_aside(lambda store: _read(store, key)) or self._boto().read(key)

    def read_many(self, keys: Sequence[str]) -> Generator[tuple[str, Fetched | None]]:
        """Read several objects at a time; yield each as it comes, None for one that is gone.

        The caller's thread alone computes: of several that do, each waits for the interpreter, and takes a fifth more
        CPU. At most twice as many objects as there are workers are in memory. Raises S3Refused, S3Unreachable.
        """
        workers = min(self._options.workers, len(keys))
        todo, found = iter(keys), queue.SimpleQueue[tuple[str, Fetched | None] | BaseException]()
        room = threading.Semaphore(2 * workers)

        def read() -> None:
            try:
                while room.acquire() and (key := next(todo, None)) is not None:
                    found.put((key, self._read_unless_gone(key)))
            except BaseException as error:  # noqa: BLE001 - raised where the answers are awaited
                found.put(error)

        for _ in range(workers):
            begin(read)
        try:
            for _ in keys:
                answer = found.get()
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
                room.release()
        finally:
            # Nothing is left to read, so that each reader ends once it has an answer; none is waited for.
            for _ in todo:
                pass
            room.release(workers + 1)

    def _read_unless_gone(self, key: str) -> Fetched | None:
        try:
            return self._attempt(lambda store: _read(store, key)) or self._boto().read(key)
        except ObjectGone:
            return None

    def write(self, key: str, data: bytes, *, replaces: str | None) -> str:
        """Put an object in place of the one with the ETag `replaces`, or where there is none; return its ETag.

        The storage's answer may get lost after it has written: then this raises ObjectChanged, and the object is ours.
        Where the storage knows no conditions, whatever is there is replaced. Raises ObjectChanged, S3Refused,
        S3Unreachable.
        """
        self._store_works = True
        etag = self._attempt_aside(lambda store: _write(store, key, data, replaces))
        if etag is None:
            etag = self._boto().write(key, data, replaces)
        if isinstance(etag, ObjectChanged):
            raise etag
        return etag

    def _attempt_aside(self, operation: Callable[[S3Store], Result]) -> Result | None:
        """Do as `_attempt` in another thread: one that waits in Rust would not hear Ctrl-C."""
        return begin(lambda: self._attempt(operation)).result()

    def _attempt(self, operation: Callable[[S3Store], Result]) -> Result | None:
        """Return what an operation on the store gives, None if boto3 is to do it. Raises nothing."""
        if self._store is None or not self._store_works:
            return None
        try:
            return operation(self._store)
        except _OF_ONE_KEY:
            return None
        except BaseException:  # noqa: BLE001 - a panic of Rust is no Exception
            self._store_works = False
            return None

    def _boto(self) -> BotoBucket:
        """Return the bucket of boto3, loading it if need be. Raises S3Refused."""
        with self._loading:
            if self._boto_bucket is None:
                # Loading it makes so much garbage that stays that looking for some doubles the time.
                collects = gc.isenabled()
                gc.disable()
                try:
                    from coordinator.profiles.s3_boto import BotoBucket  # noqa: PLC0415 - it takes a third of a second

                    self._boto_bucket = BotoBucket(self._location, self._options)
                finally:
                    if collects:
                        gc.enable()
            return self._boto_bucket


def _list_folder(store: S3Store, prefix: str) -> tuple[list[S3Object], list[str]]:
    found = store.list_with_delimiter(prefix)
    return [_object(meta) for meta in found["objects"]], [f"{folder}/" for folder in found["common_prefixes"]]


def _find(store: S3Store, key: str) -> tuple[S3Object | None] | None:
    """Return the object or None in a tuple; no tuple if only a listing by the key's own name can tell.

    obstore lists folders and not prefixes, and a policy may allow the listing of ``PREFIX/key.txt*`` alone.
    """
    # Being there is what this shows; of being absent it is no proof, since storages may hide what is not allowed.
    with suppress(FileNotFoundError, PermissionDeniedError):
        return (_object(store.head(key)),)
    folder = key.rpartition("/")[0]
    page = next(iter(store.list(folder or None, offset=key[:-1], chunk_size=_PAGE)), ())
    found = next((_object(meta) for meta in page if meta["path"] == key), None)
    # Not every storage lists in the order of the keys, so that only a page that is the last one tells.
    return (found,) if found or len(page) < _PAGE else None


def _read(store: S3Store, key: str) -> Fetched:
    result = store.get(key)
    if result.meta["size"] <= MAX_PROFILE_BYTES:
        return Fetched(bytes(result.bytes()), bare_etag(result.meta["e_tag"]))
    data = bytearray()
    for part in result.stream(min_chunk_size=MAX_PROFILE_BYTES):
        data += part
        if len(data) > MAX_PROFILE_BYTES:
            break
    return Fetched(bytes(data[: MAX_PROFILE_BYTES + 1]), bare_etag(result.meta["e_tag"]))


def _write(store: S3Store, key: str, data: bytes, replaces: str | None) -> str | ObjectChanged:
    mode: UpdateVersion | Literal["create"] = "create" if replaces is None else {"e_tag": f'"{replaces}"'}
    try:
        return bare_etag(store.put(key, data, mode=mode, use_multipart=False)["e_tag"])
    except (AlreadyExistsError, PreconditionError):
        return ObjectChanged()


def _object(meta: ObjectMeta) -> S3Object:
    return S3Object(meta["path"], bare_etag(meta["e_tag"]), meta["size"])
