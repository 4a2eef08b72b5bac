"""Runs a command and prints what it took: seconds of wall and CPU, and its largest resident set in kB.

To be started as a small process (``python -I -S``): the kernel counts the memory of a process from before
its exec, which is that of its parent (getrusage(2), ru_maxrss).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

if __name__ == "__main__":
    began = time.perf_counter()
    process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - began
    sys.stdout.write(f"{wall_s} {used.ru_utime + used.ru_stime} {used.ru_maxrss}\n")
    sys.exit(os.waitstatus_to_exitcode(status))
