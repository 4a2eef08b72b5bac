"""The profile that a child opens: the file it was given, or the session that an earlier start saved of it."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from browser.errors import ProfileError
from browser.page.session_report import SessionLog
from browser.site.schema import Site
from contract.claim_deadline import NO_FENCE, ClaimDeadline
from contract.errors import BadProfile, reasons_only
from contract.files import write_private
from contract.run_folder import SESSION
from contract.sessions.errors import BadSession, NotGranted
from contract.sessions.grant import read_grant
from contract.sessions.record import SavedSession
from contract.storage_state.document import parse_document
from contract.storage_state.profile_file import read_profile_file
from contract.storage_state.schema import NOTHING_STORED
from contract.storage_state.summary import NO_LOGIN, ProfileSummary

log = structlog.get_logger("browser")

_HALF = re.compile("[\ud800-\udfff]")  # json.loads has made one character of each whole pair

StorageState = dict[str, Any]
"""A storage_state as Playwright takes and gives it."""


@dataclass(frozen=True)
class LoadedProfile:
    """A profile's content. `sha256` is of the file's bytes, `fingerprint` of the login in it.

    `state` is what a browser gets of it, `secrets` what the steps of a login do.
    """

    name: str
    state: StorageState = field(repr=False)
    summary: ProfileSummary
    sha256: str
    secrets: Mapping[str, str] = field(repr=False, default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """What makes the login: the same in two files of one login, for the coordinator too."""
        return self.summary.fingerprint

    def check_fits(self, site: Site) -> None:
        """Raise ProfileError unless the profile holds what the site file needs: a login, or secrets for its steps."""
        if site.login.none:
            return
        holds_login = ProfileSummary.of(self.state).fingerprint != NO_LOGIN
        if not site.login.steps and not holds_login:
            unused = "holds only secrets, and the site file has no login.steps to use them"
            raise ProfileError(f"profile {self.name} {unused if self.secrets else NOTHING_STORED}")
        missing = sorted(site.secrets - self.secrets.keys())
        # A login that a person has saved does without secrets, until it expires.
        if missing and (self.secrets or not holds_login):
            raise ProfileError(f"profile {self.name} has no secret {missing[0]!r}, which login.steps fill in")

    def check_alive(self, now: float) -> None:
        """Raise ProfileError if the login has expired at `now`, in Unix seconds, by every cookie in it."""
        try:
            with reasons_only():
                self.summary.check_alive(now)
        except BadProfile as error:
            raise ProfileError(f"profile {self.name} {error.reason}") from None


def load_profile(path: Path) -> LoadedProfile:
    """Read a profile by the coordinator's own rules. Raises ProfileError with its name and the reason against it."""
    try:
        with reasons_only():
            data = read_profile_file(path)
            state = parse_document(data)
            summary = ProfileSummary.of(state)
            secrets = state.pop("secrets", {})
            state = {"cookies": [], "origins": [], **state}
            return LoadedProfile(path.name, state, summary, hashlib.sha256(data).hexdigest(), secrets)
    except BadProfile as error:
        raise ProfileError(f"profile {path.name} {error.reason}") from None


def state_to_open(
    profile: LoadedProfile, run_dir: Path, *, now: float | None = None, session_log: SessionLog | None = None
) -> StorageState:
    """Return the session saved by an earlier start if it came of this very profile, else the profile's own.

    A saved session that cannot be used, or has expired, counts as none. `now` is in Unix seconds; `session_log` is
    told what was found. Raises ProfileError if the profile has expired too.
    """
    now = time.time() if now is None else now
    told = session_log or SessionLog()
    try:
        with reasons_only():
            saved = _read_saved(run_dir)
            if saved is not None and saved.source_sha256 == profile.sha256:
                ProfileSummary.of(saved.state).check_alive(now)
                told.found(saved.saved_at or None)
                return saved.state
    except BadProfile as error:
        if isinstance(error, BadSession):  # one that has expired is no trouble, and is replaced
            told.unusable(error.reason)
        log.warning("session_not_used", reason=error.reason)
    profile.check_alive(now)
    return profile.state


def _read_saved(run_dir: Path) -> SavedSession | None:
    """Return what an earlier start saved, in the session store if there is one. Raises BadProfile."""
    grant = read_grant(run_dir)
    if grant is not None:
        return grant.file().read()
    path = run_dir / SESSION
    return SavedSession.from_bytes(read_profile_file(path), None) if path.exists() else None


def login_part(state: StorageState, expires_by: Collection[str]) -> StorageState:
    """Return the part of the state by which the login expires: the cookies of these names, or all if there are none."""
    if not expires_by:
        return state
    return {**state, "cookies": [cookie for cookie in state.get("cookies", ()) if cookie["name"] in expires_by]}


def as_chromium_loads_it(state: StorageState) -> StorageState:
    """Return the state with SameSite=Lax for each cookie that Chromium would drop: one with None that is not secure.

    Firefox says None of every cookie whose site has not said anything, and Chromium takes such a cookie for Lax.
    """
    cookies = [
        {**cookie, "sameSite": "Lax"}
        if cookie.get("sameSite") == "None" and not cookie.get("secure") and not cookie.get("url")
        else cookie
        for cookie in state.get("cookies", ())
    ]
    return {**state, "cookies": cookies}


def storable(state: StorageState) -> StorageState:
    """Return a browser's storage_state as a file can hold it: U+FFFD for each half of a surrogate pair.

    Pages may store such halves, and no start takes a file with one. Raises RecursionError if it is nested too deep.
    """
    text = json.dumps(state, ensure_ascii=False)
    whole: StorageState = json.loads(_HALF.sub("\ufffd", text)) if _HALF.search(text) else state
    return whole


def save_session(profile: LoadedProfile, state: StorageState, run_dir: Path, claim: ClaimDeadline = NO_FENCE) -> None:
    """Keep a browser's storage_state for the next start on this profile: in the session store if there is one.

    Raises BadSession, also when the login's claim is over, and then what was saved before is as it was.
    """

    def confirm() -> None:
        # Whoever has claimed the login since may have saved a newer session.
        if claim.is_over:
            raise NotGranted("the claim of the login is over")

    try:
        grant = read_grant(run_dir)
        if grant is not None:
            grant.save(profile.sha256, state, time.time(), confirm=confirm)
        else:
            data = {"source_sha256": profile.sha256, "storage_state": state}
            write_private(run_dir / SESSION, json.dumps(data).encode(), confirm=confirm)
    except NotGranted as error:
        raise BadSession(f"is not written: {error}") from None
    except OSError as error:
        raise BadSession(f"cannot be written: {error.strerror or type(error).__name__}") from None
