"""Failures after a possible submission, remembered so that a machine's repeat of the request is not submitted again.

Many clients send a request again after any 5xx, whatever `x-should-retry` says. All of them leave 400 alone.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Final

from contract.api_error import DO_NOT_RETRY, ApiError, ErrorCode
from coordinator.proxy.headers import HeaderMap

# https://github.com/openai/openai-python, `_build_headers`: "0" at first, then counted up.
_RETRY_COUNT: Final = b"x-stainless-retry-count"


def caller_digest(headers: HeaderMap, path: str) -> bytes:
    """Return the SHA-256 that stands for one API key on one route: what different callers send is never the same."""
    return hashlib.sha256(headers.owner + path.encode()).digest()


def repeated(why: str, how_to_submit: str) -> ApiError:
    """Return the error for a request that was submitted before and is not submitted again."""
    message = f"{why} It was not submitted again. To submit it anyway, {how_to_submit}."
    return ApiError(ErrorCode.REPEATED_AFTER_SUBMISSION, message, headers=DO_NOT_RETRY)


@dataclass
class _Failure:
    """One failed request. `until` is in the loop's time; `code` is None if nothing failed but the client left."""

    until: float
    length: int
    code: str | None


class Failures:
    """Failed requests of the last `window_s` seconds, as digests; at most `most`. Make it inside a running loop."""

    def __init__(self, *, window_s: float = 60.0, most: int = 10_000) -> None:
        self._window_s, self._most = window_s, most
        self._known: OrderedDict[bytes, _Failure] = OrderedDict()  # the first to expire comes first
        # Of the known ones: so that only a body of the same length is hashed, and none while nothing has failed.
        self._lengths: Counter[int] = Counter()
        self._now = asyncio.get_running_loop().time

    def __len__(self) -> int:
        return len(self._known)

    def check(self, headers: HeaderMap, path: str, body: bytes) -> None:
        """Raise ApiError (400) for a request that failed within the window, which begins anew then.

        After a client that left, only what its library says to be a retry is refused: a person who pressed stop may
        ask again.
        """
        if len(body) not in self._lengths:
            return
        self._expire()
        name = _name(headers, path, body)
        failure = self._known.get(name)
        if failure is None or (failure.code is None and not _is_retry(headers)):
            return
        failure.until = self._now() + self._window_s
        self._known.move_to_end(name)
        what = f"failed ({failure.code})" if failure.code else "was left by its client"
        raise repeated(
            f"The same request {what} a moment ago, after its prompt may have been submitted.",
            f"send it with an Idempotency-Key header, change its text, or wait {self._window_s:g} s",
        )

    def add(self, headers: HeaderMap, path: str, body: bytes, code: str | None) -> None:
        """Remember a request that failed with this code; None stands for a client that left."""
        self._expire()
        name = _name(headers, path, body)
        before = self._forget(name)
        if before is not None and code is None:
            code = before.code
        self._known[name] = _Failure(self._now() + self._window_s, len(body), code)
        self._lengths[len(body)] += 1
        if len(self._known) > self._most:
            self._forget(next(iter(self._known)))

    def discard_left(self, headers: HeaderMap, path: str, body: bytes) -> None:
        """Forget that a client left: its prompt was certainly not submitted."""
        name = _name(headers, path, body)
        if name in self._known and self._known[name].code is None:
            self._forget(name)

    def _expire(self) -> None:
        now = self._now()
        while self._known and next(iter(self._known.values())).until <= now:
            self._forget(next(iter(self._known)))

    def _forget(self, name: bytes) -> _Failure | None:
        failure = self._known.pop(name, None)
        if failure is not None:
            self._lengths[failure.length] -= 1
            if not self._lengths[failure.length]:
                del self._lengths[failure.length]
        return failure


def _name(headers: HeaderMap, path: str, body: bytes) -> bytes:
    digest = hashlib.sha256(caller_digest(headers, path))
    digest.update(body)
    return digest.digest()


def _is_retry(headers: HeaderMap) -> bool:
    count = headers.get(_RETRY_COUNT) or ""
    return count.isdecimal() and bool(count.strip("0"))
