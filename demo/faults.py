"""Faults that a test activates from outside: for all accounts or one, permanently or a number of times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from demo.errors import DemoError
from demo.shape import Shape


class UnknownFault(DemoError):
    """There is no fault of this kind; the message lists the kinds."""


@dataclass
class Fault:
    """An active fault; `count` is the number of submissions it still applies to (None: no limit)."""

    id: int
    kind: str
    account: str | None = None
    count: int | None = None
    ms: int | None = None

    def applies_to(self, account: str) -> bool:
        """Return whether the fault affects the next submission of this account."""
        return self.account in (None, account) and self.count != 0


_CHANGES: dict[str, Callable[[Shape, int | None], Shape]] = {
    "stall_first": lambda shape, ms: replace(shape, stall="first", stall_ms=ms),
    "stall_middle": lambda shape, ms: replace(shape, stall="middle", stall_ms=ms),
    "slow_tokens": lambda shape, ms: replace(shape, delay_ms=ms or 1000),
    "break_off": lambda shape, _: replace(shape, break_off=True),
    "http_500": lambda shape, _: replace(shape, error="server"),
    "quota": lambda shape, _: replace(shape, error="quota"),
    "refuse": lambda shape, _: replace(shape, error="refused"),
    "crash_page": lambda shape, _: replace(shape, crash=True),
    "hang_page": lambda shape, ms: replace(shape, busy_ms=ms or 10_000),
}
FAULT_HELP = {
    "expire_session": "end all sessions (of account) now",
    "stall_first": "no first token, for ms or until the answer is stopped or the client disconnects",
    "stall_middle": "nothing after half of the tokens, for ms or until the answer is stopped or the client disconnects",
    "slow_tokens": "pause of ms between tokens (1000)",
    "break_off": "drop the connection in the middle of the answer",
    "http_500": "refuse the submission with HTTP 500",
    "quota": "answer with an error: message limit reached",
    "refuse": "answer with an error: request against the rules",
    "crash_page": "make the page crash in the middle of the answer (Chromium)",
    "hang_page": "keep the page's script busy for ms (10000) in the middle of the answer",
    "rotate_sessions": "give each request a new session cookie and invalidate the old one",
}
ROTATE = "rotate_sessions"
KINDS = (*_CHANGES, ROTATE)


class Faults:
    """The active faults, in the order of their activation."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._last_id = 0

    def add(self, kind: str, *, account: str | None = None, count: int | None = None, ms: int | None = None) -> Fault:
        """Activate a fault; `ms` is the duration in milliseconds of a stall, a pause between tokens or a hang.

        Raise UnknownFault if `kind` is not one of KINDS.
        """
        if kind not in KINDS:
            raise UnknownFault(f"kind is {kind!r}; it must be one of {', '.join(FAULT_HELP)}")
        self._last_id += 1
        fault = Fault(self._last_id, kind, account, count, ms)
        self._faults.append(fault)
        return fault

    def clear(self, account: str | None = None) -> None:
        """Clear the account's faults (None: all)."""
        self._faults = [fault for fault in self._faults if account not in (None, fault.account)]

    def apply(self, account: str, shape: Shape) -> Shape:
        """Return the shape changed by the account's active faults; count each as used once."""
        for fault in self._faults:
            if fault.kind in _CHANGES and fault.applies_to(account):
                shape = _CHANGES[fault.kind](shape, fault.ms)
                fault.count = None if fault.count is None else fault.count - 1
        return shape

    def rotates(self, account: str) -> bool:
        """Return whether this request gets a new session token; count the fault as used once."""
        for fault in self._faults:
            if fault.kind == ROTATE and fault.applies_to(account):
                fault.count = None if fault.count is None else fault.count - 1
                return True
        return False

    def view(self) -> list[dict[str, Any]]:
        """Return the active faults as JSON data."""
        return [asdict(fault) for fault in self._faults if fault.count != 0]
