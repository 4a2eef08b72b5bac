"""What tests of every part share."""

from __future__ import annotations

# Put before a command so that the kernel ends it with the process that started it (setpriv(1), prctl(2)): a worker of
# pytest-xdist is killed at Ctrl-C, without a fixture's end.
DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")
