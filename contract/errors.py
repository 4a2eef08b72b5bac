"""The base of every error that Tabfleet raises on purpose, and those that both programs raise.

Errors are named by condition and stand in the `errors` module of the package that raises them. HTTP status codes
belong to `contract.api_error`, exit codes to `contract.exit_codes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class TabfleetError(Exception):
    """Base of all our errors. `str(error)` is one line for people: what was wrong, where, and what to do.

    The line holds no cookie, key or prompt.
    """


class BadProfile(TabfleetError):
    """A profile cannot be used; `reason` completes the sentence "ann.json ..." and holds no secret and no path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@contextmanager
def reasons_only() -> Iterator[None]:
    """Make a BadProfile of every exception: what the checks did not foresee in one profile concerns no other one."""
    try:
        yield
    except BadProfile:
        raise
    except Exception as error:  # noqa: BLE001 - see above
        # Without its text, which may hold a cookie.
        raise BadProfile(f"cannot be checked ({type(error).__name__}); log in again and save it") from None
