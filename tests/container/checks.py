"""Register checks of the images, and run them one after the other; a failure does not end the run."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.container.podman import say
from tests.container.services import Services

Remark = str | None
# Far more than any check takes; it bounds the time that a hang costs.
CHECK_LIMIT_S = 900


@dataclass(frozen=True)
class Check:
    """A claim, and the function that verifies it: it raises if the claim is wrong, and may return a remark."""

    claim: str
    function: Callable[[Services], Remark]

    def matches(self, words: str) -> bool:
        """Return whether the claim or the name of the function contains these words."""
        return words in self.claim or words in self.function.__name__


CHECKS: list[Check] = []


def check(claim: str) -> Callable[[Callable[[Services], Remark]], Callable[[Services], Remark]]:
    """Register the decorated function under this claim."""

    def add(function: Callable[[Services], Remark]) -> Callable[[Services], Remark]:
        CHECKS.append(Check(claim, function))
        return function

    return add


def run_checks(services: Services, checks: Iterable[Check]) -> int:
    """Run the checks and print the result of each. Return how many failed."""
    return sum(not passes(item.claim, lambda item=item: item.function(services)) for item in checks)  # type: ignore[misc]


def passes(claim: str, function: Callable[[], Remark]) -> bool:
    """Run one check with a time limit, print its result, and return whether it passed."""
    began = time.monotonic()
    try:
        with limited(CHECK_LIMIT_S):
            remark = function()
    except Exception as error:  # noqa: BLE001 - one failure must not end the run
        print_failure(error)
        say(f"FAILED {time.monotonic() - began:6.1f} s  {claim}")
        return False
    say(f"ok     {time.monotonic() - began:6.1f} s  {claim}")
    if remark:
        say("\n".join(f"                 {line}" for line in remark.splitlines()))
    return True


@contextmanager
def limited(limit_s: int) -> Iterator[None]:
    """Raise TimeoutError in the block if it takes longer than limit_s. Works in the main thread only."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"not finished after {limit_s} s")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(limit_s)
    try:
        yield
    finally:
        signal.alarm(0)


def print_failure(error: BaseException) -> None:
    """Print the place and the message of an error."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/checks.py" not in frame.filename]
    where = f"{frames[0].filename.rpartition('/')[2]}:{frames[0].lineno}: {frames[0].line}" if frames else ""
    say(f"    {where}\n    {type(error).__name__}: {str(error)[:3000]}")
