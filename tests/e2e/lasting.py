"""A fleet with a session store that is ended in every way there is and goes on, and a look for secrets on its disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.fleet import Fleet, Site, command_line, descendants, end, eventually, fleet
from tests.support import age

RESTART_S = 240.0
"""A hang limit: on a busy machine a fleet of browsers takes minutes to start."""
_SECRET_LENGTH = 16
"""No setting of a page is as long, and every token is longer."""


class SessionStore:
    """A SESSION_DIR whose files are encrypted, and its key."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder / "volume" / "sessions"
        self._key = age.new_key(folder / "key.age")

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a coordinator that uses it."""
        return {"SESSION_DIR": str(self.folder), "SESSION_KEY_FILE": str(self._key)}

    def states(self) -> dict[str, dict[str, Any]]:
        """Return what is saved, by login, as the age tool reads it."""
        saved = (json.loads(age.decrypt(self._key, path)) for path in self.folder.glob("*.session"))
        return {session["login"]: session["storage_state"] for session in saved}

    def secrets(self) -> set[str]:
        """Return all cookies and tokens that are saved now."""
        return secrets_of(list(self.states().values()))

    def in_plain(self, secrets: set[str], *folders: Path) -> list[Path]:
        """Return the files of the store, and of these folders, that hold one of the secrets or the key in plain."""
        (identity,) = (line for line in self._key.read_text().splitlines() if not line.startswith("#"))
        # grep looks for hundreds at once; files of a browser that has just ended are gone when it comes to them.
        looked = subprocess.run(
            ["grep", "-rlasF", "-f", "-", "--", self.folder, *folders],
            input="\n".join((*secrets, identity)),
            capture_output=True,
            text=True,
            check=False,
        )
        return [Path(line) for line in looked.stdout.splitlines()]


def secrets_of(states: Sequence[dict[str, Any]]) -> set[str]:
    """Return the cookies and tokens of these storage states."""
    return {value for value in _values(list(states)) if len(value) >= _SECRET_LENGTH}


def _values(part: Any) -> Iterator[str]:
    """Yield what a storage state holds under the names of values, in whatever storage."""
    if isinstance(part, list):
        for one in part:
            yield from _values(one)
    elif isinstance(part, dict):
        for name, one in part.items():
            if isinstance(one, str):
                yield from [one] if name in ("value", "token") else []
            else:
                yield from _values(one)


class LastingFleet:
    """One fleet after the other with the same profiles and settings: of `running`, all that was before is gone."""

    def __init__(self, stack: ExitStack, site: Site, profiles: Path, folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir()
        self._stack, self._site, self._profiles, self._folder = stack, site, profiles, folder
        self._environment = environment
        self._all: list[Fleet] = []
        self._start()

    @property
    def running(self) -> Fleet:
        """The newest."""
        return self._all[-1]

    def log(self) -> str:
        """Return what all coordinators have logged."""
        return "".join(one.log.read_text() for one in self._all)

    def _start(self) -> None:
        folder = self._folder / f"coordinator{len(self._all) + 1}"
        self._all.append(self._stack.enter_context(fleet(self._site, self._profiles, folder, **self._environment)))

    def kill_coordinator(self, _: str = "") -> None:
        """SIGKILL, and start another one."""
        self.running.process.kill()
        self.running.process.wait()
        self._start()

    def restart_coordinator(self) -> None:
        """SIGTERM, and start another one."""
        end(self.running.process, timeout_s=60)
        self._start()

    def kill_child(self, name: str) -> None:
        """SIGKILL."""
        self._kill(name, self.running.child_pid(name))

    def kill_browser(self, name: str) -> None:
        """SIGKILL of Chromium's main process."""
        below = descendants(self.running.child_pid(name))
        browsers = [
            pid
            for pid in below
            if (words := command_line(pid)) and "chrom" in words[0] and not any("--type=" in word for word in words)
        ]
        assert browsers, [command_line(pid) for pid in below]
        self._kill(name, *browsers)

    def _kill(self, name: str, *pids: int) -> None:
        before = self.running.children()[name]["restarts"]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        eventually(
            lambda: self.running.children()[name]["restarts"] > before, timeout_s=RESTART_S, what=f"{name}'s restart"
        )


@contextmanager
def lasting_fleet(site: Site, profiles: Path, folder: Path, **environment: str) -> Iterator[LastingFleet]:
    """Run such a fleet while the context lasts; `folder` is new."""
    with ExitStack() as stack:
        yield LastingFleet(stack, site, profiles, folder, environment)
