"""End this process with its browser as soon as the claim of its logins is over: others may use them from then on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

from contract.claim_deadline import LOOK_INTERVAL_S, ClaimDeadline
from contract.exit_codes import ExitCode


def watch_claim(claim: ClaimDeadline, kill: Callable[[], object]) -> None:
    """Look at the deadline every LOOK_INTERVAL_S seconds, and when it is over, call `kill` and exit at once.

    In a thread, because the event loop may stand still: stdout, where it logs, is a pipe that a stopped coordinator
    does not read. For the same reason nothing is logged, and `kill` must not log. Call it from the main thread. Does
    nothing where there is no fence.
    """
    if not claim.is_fenced:
        return

    def end() -> None:
        try:
            kill()
        finally:
            os._exit(ExitCode.CLAIM_OVER)

    def watch() -> None:
        try:
            while claim.left_s() > 0:
                time.sleep(LOOK_INTERVAL_S)
        finally:  # whatever has ended the loop: without a watch there is no fence
            end()

    def continued(*_: object) -> None:
        if claim.is_over:
            end()

    # A process that was stopped goes on in all its threads at once. The main thread runs this before any other code of
    # ours, and so before it does what it was about to do, such as to send a prompt.
    signal.signal(signal.SIGCONT, continued)
    threading.Thread(target=watch, name="claim-watch", daemon=True).start()
