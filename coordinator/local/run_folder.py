"""The run folder of one child: its private place, which is also its TMPDIR.

session.json    the rotated login, kept over the child's restarts
processes.json  driver and browser group: {"driver": {"pid", "start_time"}, "browser": {"pgid", ...}}
submitted       one request id a line
tmp/
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_KEPT: Final = "session.json"


@dataclass(frozen=True)
class Recorded:
    """A process or group that a child wrote down: its id, and its (leader's) start time in clock ticks."""

    id: int
    start_time: int


class RunFolder:
    """The folder of one child."""

    def __init__(self, path: Path, trash: Path) -> None:
        self.path = path
        self._trash = trash

    @property
    def tmp(self) -> Path:
        return self.path / "tmp"

    def prepare(self) -> None:
        """Make it ready for a start."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        self.tmp.mkdir(mode=0o700, exist_ok=True)

    def empty(self) -> Path:
        """Move everything but the session away, at once; return what is then to be deleted at leisure."""
        target = Path(tempfile.mkdtemp(dir=self._trash))
        for entry in self.path.iterdir():
            if entry.name != _KEPT:
                entry.rename(target / entry.name)
        return target

    def discard(self) -> Path:
        """Move the whole folder away; return what is then to be deleted."""
        target = Path(tempfile.mkdtemp(dir=self._trash))
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(target / self.path.name)
        return target

    def submitted(self) -> frozenset[str] | None:
        """Return the ids in `submitted`; none if the child never wrote it, None if it cannot be read."""
        try:
            text = (self.path / "submitted").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return frozenset()
        except OSError:
            return None
        return frozenset(text.split())

    def driver(self) -> Recorded | None:
        return self._recorded("driver", "pid")

    def browser(self) -> Recorded | None:
        return self._recorded("browser", "pgid")

    def _recorded(self, which: str, key: str) -> Recorded | None:
        entry: Any = self._processes().get(which)
        try:
            found = Recorded(int(entry[key]), int(entry["start_time"]))
        except (TypeError, KeyError, ValueError):
            return None
        return found if found.id > 1 else None

    def _processes(self) -> dict[str, Any]:
        try:
            content = json.loads((self.path / "processes.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


def delete(path: Path) -> None:
    """Delete a tree; what vanishes meanwhile, or grows, is no error."""
    for _ in range(3):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
