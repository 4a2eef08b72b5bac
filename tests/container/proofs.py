"""A list of proofs, run one after the other; a failed one does not end the run."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.container.podman import say
from tests.container.world import World

Remark = str | None
# Far above what any of them takes: a hang must not eat the time of the others.
PROOF_LIMIT_S = 900


@dataclass(frozen=True)
class Proof:
    """What is proven, in words, and the function that proves it: it raises, or may return a remark."""

    claim: str
    check: Callable[[World], Remark]

    def is_wanted(self, words: str) -> bool:
        return words in self.claim or words in self.check.__name__


PROOFS: list[Proof] = []


def proof(claim: str) -> Callable[[Callable[[World], Remark]], Callable[[World], Remark]]:
    """Add a function to the list, in the order of the source."""

    def add(check: Callable[[World], Remark]) -> Callable[[World], Remark]:
        PROOFS.append(Proof(claim, check))
        return check

    return add


def failures(world: World, wanted: Iterable[Proof]) -> int:
    """Run the proofs and print how each went; returns how many failed."""
    return sum(not holds(item.claim, lambda item=item: item.check(world)) for item in wanted)  # type: ignore[misc]


def holds(claim: str, check: Callable[[], Remark]) -> bool:
    """Run one check, for a limited time, and print how it went."""
    began = time.monotonic()
    try:
        with limited(PROOF_LIMIT_S):
            remark = check()
    except Exception as error:  # noqa: BLE001 - one failed proof must not hide the others
        explain(error)
        say(f"FAILED {time.monotonic() - began:6.1f} s  {claim}")
        return False
    say(f"ok     {time.monotonic() - began:6.1f} s  {claim}")
    if remark:
        say("\n".join(f"                 {line}" for line in remark.splitlines()))
    return True


@contextmanager
def limited(limit_s: int) -> Iterator[None]:
    """Raise TimeoutError in the block if it takes longer. In the main thread only."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"it hangs: not done after {limit_s} s")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(limit_s)
    try:
        yield
    finally:
        signal.alarm(0)


def explain(error: BaseException) -> None:
    """Print where it failed and why."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/proofs.py" not in frame.filename]
    where = f"{frames[0].filename.rpartition('/')[2]}:{frames[0].lineno}: {frames[0].line}" if frames else ""
    say(f"    {where}\n    {type(error).__name__}: {str(error)[:3000]}")
