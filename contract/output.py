"""What a program prints last, also where nobody reads it, or the log's disk is full."""

from __future__ import annotations

import contextlib
import os
import sys


def tell(line: str) -> None:
    """Write a line to stderr, if there still is anybody to read it."""
    if sys.stderr is not None:  # it is None in a program that was started with it closed
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{line}\n")


def flush_output() -> None:
    """Flush stdout and stderr at the end; what nobody can read any more is dropped.

    Python would make 120 of the exit code: https://docs.python.org/3/library/sys.html#sys.exit.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            # The text stays in the stream's buffer, which is flushed once more on the way out.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
