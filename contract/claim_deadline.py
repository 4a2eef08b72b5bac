"""Until when the claims of a cell's logins hold: one number in a file, which a coordinator writes and children read.

Format: 8 bytes, the deadline on CLOCK_BOOTTIME in nanoseconds, an unsigned integer in the machine's own byte order. 0
means that it is over, and so does a file that is missing, short or unreadable.

The clock is one that counts while the machine is suspended, and that nobody sets (clock_gettime(2)): a claim runs out
on the other machines meanwhile, too. It is the same for all processes of a machine, but not across time namespaces.
The file is written in place, so that it needs no room on a full disk, and readers keep it open.
"""

from __future__ import annotations

import math
import os
import struct
import time
from pathlib import Path
from typing import Final

LOOK_INTERVAL_S: Final = 0.05
"""How often whoever ends browsers at the deadline looks at it: the coordinator, and each child."""

_FORMAT: Final = struct.Struct("=Q")
_OVER: Final = 0
_LATEST_NS: Final = 2**64 - 1
_NS: Final = 1_000_000_000


def boottime() -> float:
    """Return the time since boot in seconds, time in suspension included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ClaimDeadlineFile:
    """The writer's side: a coordinator's, once for all logins that it has claimed."""

    def __init__(self, path: Path) -> None:
        """Make the file, mode 0600, or take over the one that is there; it says "over" from now on. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        try:
            os.fchmod(self._descriptor, 0o600)
            os.ftruncate(self._descriptor, 0)  # a longer file is somebody else's
            self._write(_OVER)
        except BaseException:
            os.close(self._descriptor)
            raise

    def extend(self, deadline_s: float) -> None:
        """Put the deadline off to this `boottime`, in seconds; does nothing if it is no later than the present one.

        After `end` it begins anew. Whoever reads it only now and then may not have seen that it was over. Raises
        OSError, and ValueError for what is no time.
        """
        if not 0 <= deadline_s <= _LATEST_NS // _NS - 1:
            raise ValueError(f"{deadline_s} s is no time since boot")
        deadline_ns = math.floor(deadline_s * _NS)
        if deadline_ns > self._deadline_ns:
            self._write(deadline_ns)

    def end(self) -> None:
        """Say that it is over. Raises OSError."""
        try:
            self._write(_OVER)
        except OSError:
            os.ftruncate(self._descriptor, 0)  # too short, and that needs no room in any file system
            self._deadline_ns = _OVER

    def close(self) -> None:
        """Say that it is over, and let go of the file. Raises OSError."""
        try:
            self.end()
        finally:
            os.close(self._descriptor)

    def _write(self, deadline_ns: int) -> None:
        if os.pwrite(self._descriptor, _FORMAT.pack(deadline_ns), 0) != _FORMAT.size:
            raise OSError("the deadline was not written as a whole")
        self._deadline_ns = deadline_ns


class ClaimDeadline:
    """The reader's side: a child's. Without a file there is no fence, and the claim holds for ever."""

    def __init__(self, path: Path | None) -> None:
        """Open the file once, for as long as this lives; one that cannot be opened counts as over for good."""
        self.is_fenced: Final = path is not None
        """Whether there can be an end."""
        self._descriptor = -1
        if path is not None:
            try:
                self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a named pipe would wait
            except OSError:
                return

    def left_s(self) -> float:
        """Return how many seconds are left now, 0 or less when it is over; infinity where there is no fence.

        Does not wait, and may be called from any thread.
        """
        if not self.is_fenced:
            return math.inf
        left_s = self._left_s()
        # A read beside a write may see half of each number, and what it takes for the end would end a browser.
        return left_s if left_s > 0 else self._left_s()

    @property
    def is_over(self) -> bool:
        """Whether it is over now."""
        return self.left_s() <= 0

    def _left_s(self) -> float:
        # In the units of the file: a division would round, perhaps up.
        return (self._read_ns() - boottime() * _NS) / _NS

    def _read_ns(self) -> int:
        try:
            content = os.pread(self._descriptor, _FORMAT.size, 0)
        except OSError:
            return _OVER
        if len(content) != _FORMAT.size:
            return _OVER
        (deadline_ns,) = _FORMAT.unpack(content)
        return int(deadline_ns)


NO_FENCE: Final = ClaimDeadline(None)
"""The claim of a child that was told of no deadline."""
