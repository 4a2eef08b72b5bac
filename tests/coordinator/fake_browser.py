"""Stands for a browser: notes every 5 ms that it has its login. FILE INSTANCE.

It begins once it reads a line, and writes one when it has begun.

A note is the time by the clock of the whole machine (CLOCK_REALTIME, which has no namespaces) in nanoseconds, and the
instance. It imports little, for a fence is tested with many of these on a busy machine.
"""

import os
import sys
import time

NOTE_EVERY_S = 0.005


def main() -> None:
    file, instance = sys.argv[1:]
    if not sys.stdin.readline():
        return
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    begun = False
    while True:
        os.write(descriptor, f"{time.time_ns()} {instance}\n".encode())
        if not begun:
            begun = True
            os.write(1, b"begun\n")
        time.sleep(NOTE_EVERY_S)


if __name__ == "__main__":
    main()
