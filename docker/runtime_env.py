"""Print the resolved settings, except secrets, as NAME=value lines for the entry point.

Takes the coordinator's flags. An invalid setting is one line on stderr and exit code 2.
"""
# ruff: noqa: INP001 - a program of the image, not part of a package

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from coordinator.errors import SettingsError
from coordinator.flags import load_settings, table


def text(value: object) -> str:
    """Return a value in the format of its variable. None is empty, which means unset; line ends are escaped."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def main(argv: list[str]) -> int:
    """Print the settings; return the exit code."""
    try:
        settings = load_settings(argv)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the error message
        return 2
    for option in table():
        if not option.secret:
            print(f"{option.variable}={text(getattr(settings, option.field))}")  # noqa: T201 - the output
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
