"""Entry point of `python -m demo`; see `demo.cli`."""

from __future__ import annotations

import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C before main() installs its handlers prints no traceback

from demo.cli import main  # noqa: E402 - imports take long enough for a Ctrl-C to fall into them

sys.exit(main())
