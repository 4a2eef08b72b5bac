"""Keeping the browser's login for the next start: sites rotate their cookies."""

import json
import math
import time
from pathlib import Path

import structlog
from playwright.async_api import BrowserContext, Error

from browser.page.profile import LoadedProfile, StorageState, expires_at, save_session
from browser.timeouts import within

log = structlog.get_logger("browser")

SAVE_TIMEOUT_S = 2.0


class SessionKeeper:
    """Saves a context's storage_state where it changed. Only call `save` when logged in."""

    def __init__(self, profile: LoadedProfile, state: StorageState, run_dir: Path, url: str) -> None:
        self._profile = profile
        self._run_dir = run_dir
        self._url = url
        self._saved = _canonical(state)
        self._saved_at = -math.inf
        self.login_expires_at = expires_at(state, url)

    @property
    def age_s(self) -> float:
        """How long ago the session was last looked at, in seconds."""
        return time.monotonic() - self._saved_at

    async def save(self, context: BrowserContext) -> None:
        try:
            state: StorageState = {**await within(SAVE_TIMEOUT_S, context.storage_state(), "session-save")}
            self._keep(state)
        except (Error, TimeoutError, OSError) as error:
            log.warning("session_not_saved", error=type(error).__name__)

    def _keep(self, state: StorageState) -> None:
        self._saved_at = time.monotonic()
        self.login_expires_at = expires_at(state, self._url)
        canonical = _canonical(state)
        if canonical != self._saved:
            save_session(self._profile, state, self._run_dir)
            self._saved = canonical
            log.debug("session_saved")


def _canonical(state: StorageState) -> str:
    parts = [sorted(json.dumps(item, sort_keys=True) for item in state.get(key, [])) for key in ("cookies", "origins")]
    return json.dumps(parts)
