"""Keeping the browser's login for the next start: sites rotate their cookies."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from playwright.async_api import BrowserContext, Error

from browser.page.profile import LoadedProfile, StorageState, save_session
from browser.timeouts import within
from contract.errors import BadProfile
from contract.storage_state.summary import ProfileSummary

log = structlog.get_logger("browser")

SAVE_TIMEOUT_S = 2.0


class SessionKeeper:
    """Saves a context's storage_state where it changed. Only call `save` when logged in."""

    def __init__(self, profile: LoadedProfile, state: StorageState, run_dir: Path, url: str) -> None:
        """`state` is what the context was opened with; `url` is the site's."""
        self._profile = profile
        self._run_dir = run_dir
        self._host = urlsplit(url).hostname or ""
        self._summary = ProfileSummary.of(state)
        # A login may be in IndexedDB alone. Reading that costs time, so it is asked for only where there was some.
        self._has_databases = any(origin.get("indexedDB") for origin in state.get("origins", []))
        self._saved = _canonical(state)
        self._saved_at = -math.inf

    @property
    def login_expires_at(self) -> float | None:
        """When the login expires as far as the cookies say that the site gets, in Unix seconds."""
        return self._summary.expires_at(time.time(), self._host)

    @property
    def age_s(self) -> float:
        """How long ago the session was last looked at, in seconds."""
        return time.monotonic() - self._saved_at

    async def save(self, context: BrowserContext) -> None:
        """Save what the context knows of the login, if it changed; what fails is logged, and the last one is kept."""
        try:
            asking = context.storage_state(indexed_db=self._has_databases)
            state: StorageState = {**await within(SAVE_TIMEOUT_S, asking, "session-save")}
            self._saved_at = time.monotonic()
            canonical = _canonical(state)
            if canonical == self._saved:
                return
            # What no browser would load again must not take the place of what it loads.
            self._summary = ProfileSummary.of(state)
            save_session(self._profile, state, self._run_dir)
            self._saved = canonical
            log.debug("session_saved")
        except BadProfile as error:
            log.warning("session_not_saved", error=type(error).__name__, reason=error.reason)
        except (Error, TimeoutError, OSError) as error:
            log.warning("session_not_saved", error=type(error).__name__)


def _canonical(state: StorageState) -> str:
    """Return the content as a text that is the same for any order of cookies and origins."""
    parts = [sorted(json.dumps(item, sort_keys=True) for item in state.get(key, [])) for key in ("cookies", "origins")]
    return json.dumps(parts)
