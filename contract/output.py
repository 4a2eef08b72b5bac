"""What a program prints last, also where nobody reads it, or the log's disk is full."""

from __future__ import annotations

import contextlib
import os
import sys
from contextvars import ContextVar
from typing import Final, TextIO

OUTPUT: Final[ContextVar[TextIO | None]] = ContextVar("OUTPUT", default=None)
"""Where the lines of this context go in a process that runs several children; None: to stderr."""


def output() -> TextIO | None:
    """Return where lines go now; None in a program that was started with stderr closed."""
    own = OUTPUT.get()
    return sys.stderr if own is None or own.closed else own


def tell(line: str) -> None:
    """Write a line to stderr, or to where this context's lines go, if there still is anybody to read it."""
    stream = output()
    if stream is not None:
        with contextlib.suppress(OSError):
            stream.write(f"{line}\n")
            stream.flush()


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
