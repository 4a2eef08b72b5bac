"""`python -m demo`: see `demo.cli`."""

import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the demo acts on it, Ctrl-C ends it without a traceback

from demo.cli import main  # noqa: E402 - loading takes long enough for a Ctrl-C

sys.exit(main())
