"""Run a command and print its wall time (s), its CPU time (s) and its peak resident set size (kB).

Run this as a small process (`python -I -S`): ru_maxrss also covers the time between fork and exec, when the process has
the memory of its parent (getrusage(2)).
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
