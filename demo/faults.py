"""Faults that a test switches on from outside, for everybody or one account, always or so many times."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from demo.shape import Shape


class BadFault(Exception):
    """The fault asked for is not one there is; the message says what there is."""


@dataclass
class Fault:
    """A fault in force; `count` is how many submissions it still hits (None: no limit)."""

    id: int
    kind: str
    account: str | None = None
    count: int | None = None
    ms: int | None = None

    def hits(self, account: str) -> bool:
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
    "expire_session": "end the sessions there are, now (account)",
    "stall_first": "no first token, for ms or until stopped or left",
    "stall_middle": "nothing more after half of the tokens, for ms or until stopped or left",
    "slow_tokens": "ms between tokens (1000)",
    "break_off": "drop the connection in the middle of the answer",
    "http_500": "refuse the submission with HTTP 500",
    "quota": "answer with the notice of a message limit",
    "refuse": "answer with the notice that the request is against the rules",
    "crash_page": "make the page crash in the middle of the answer (Chromium)",
    "hang_page": "keep the page's script busy for ms (10000) in the middle of the answer",
    "rotate_sessions": "give each request a new session cookie; the old one is dead",
}
ROTATE = "rotate_sessions"
KINDS = (*_CHANGES, ROTATE)


class Faults:
    """The faults in force, in the order they were set."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._last_id = 0

    def add(self, kind: str, *, account: str | None = None, count: int | None = None, ms: int | None = None) -> Fault:
        """Set a fault. `ms` is the length in milliseconds of a stall, a pause between tokens or a hang.

        Raises BadFault for a kind there is not.
        """
        if kind not in KINDS:
            raise BadFault(f"kind is {kind!r}; it must be one of {', '.join(FAULT_HELP)}")
        self._last_id += 1
        fault = Fault(self._last_id, kind, account, count, ms)
        self._faults.append(fault)
        return fault

    def clear(self, account: str | None = None) -> None:
        """Lift the account's faults (None: all there are)."""
        self._faults = [fault for fault in self._faults if account not in (None, fault.account)]

    def apply(self, account: str, shape: Shape) -> Shape:
        """Return the shape as the account's faults make it; uses each of them up by one."""
        for fault in self._faults:
            if fault.kind in _CHANGES and fault.hits(account):
                shape = _CHANGES[fault.kind](shape, fault.ms)
                fault.count = None if fault.count is None else fault.count - 1
        return shape

    def rotates(self, account: str) -> bool:
        """Tell whether a request of the account gets a new session token; uses the fault up by one."""
        for fault in self._faults:
            if fault.kind == ROTATE and fault.hits(account):
                fault.count = None if fault.count is None else fault.count - 1
                return True
        return False

    def view(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self._faults if fault.count != 0]
