"""Login profiles: Playwright storage_state files, and the session saved from a running browser."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from browser.errors import ProfileError
from contract.files import write_private

SESSION_FILE = "session.json"
MAX_PROFILE_BYTES = 32 * 1024 * 1024
StorageState = dict[str, Any]


@dataclass(frozen=True)
class LoadedProfile:
    """A profile's content. `sha256` is of the file's bytes, `login_sha256` of the login in it, in any order."""

    state: StorageState
    sha256: str
    login_sha256: str


def load_profile(path: Path) -> LoadedProfile:
    """Read a storage_state file. Raises ProfileError, whose message names the file but nothing in it."""
    try:
        if path.stat().st_size > MAX_PROFILE_BYTES:
            raise ProfileError(f"profile {path.name}: larger than {MAX_PROFILE_BYTES} bytes")
        data = path.read_bytes()
        state = json.loads(data)
    except OSError as error:
        raise ProfileError(f"profile {path.name}: cannot read it: {error.strerror}") from None
    except ValueError:
        raise ProfileError(f"profile {path.name}: not a JSON file") from None
    if not _is_storage_state(state):
        raise ProfileError(
            f"profile {path.name}: not a Playwright storage_state: an object with the lists cookies and origins"
        )
    return LoadedProfile(state, hashlib.sha256(data).hexdigest(), login_digest(state))


def _is_storage_state(state: Any) -> bool:
    if not isinstance(state, dict) or not state:
        return False
    return all(_is_list_of_tables(state.get(key, [])) for key in ("cookies", "origins"))


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def login_digest(state: StorageState) -> str:
    """Return the SHA-256 of what makes the login: cookies' name, domain, path and value, and localStorage."""
    cookies = [[cookie.get(key) for key in ("name", "domain", "path", "value")] for cookie in state.get("cookies", [])]
    stored = [
        [origin.get("origin"), item.get("name"), item.get("value")]
        for origin in state.get("origins", [])
        for item in origin.get("localStorage", [])
    ]
    content = [sorted(json.dumps(item) for item in part) for part in (cookies, stored)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def state_to_open(profile: LoadedProfile, run_dir: Path) -> StorageState:
    """Return the session saved by an earlier start if it came of this very profile, else the profile's own."""
    try:
        saved = json.loads((run_dir / SESSION_FILE).read_bytes())
    except (OSError, ValueError):
        return profile.state
    if not isinstance(saved, dict) or saved.get("source_sha256") != profile.sha256:
        return profile.state
    state = saved.get("storage_state")
    return state if isinstance(state, dict) and _is_storage_state(state) else profile.state


def save_session(profile: LoadedProfile, state: StorageState, run_dir: Path) -> None:
    """Keep a browser's storage_state for the next start on this profile. Raises OSError."""
    data = {"source_sha256": profile.sha256, "storage_state": state}
    write_private(run_dir / SESSION_FILE, json.dumps(data).encode())


def expires_at(state: StorageState, url: str) -> float | None:
    """Return when the login is over as far as one can tell, in Unix seconds; None if nothing says so.

    That is the earliest expiry among the cookies the site gets that scripts cannot read (a login's usual
    form), or among all it gets where there are none such.
    """
    host = urlsplit(url).hostname or ""
    dated = [cookie for cookie in state.get("cookies", []) if cookie.get("expires", -1) > 0 and _reaches(cookie, host)]
    chosen = [cookie for cookie in dated if cookie.get("httpOnly")] or dated
    return min((float(cookie["expires"]) for cookie in chosen), default=None)


def _reaches(cookie: dict[str, Any], host: str) -> bool:
    domain = str(cookie.get("domain", ""))
    return host == domain.lstrip(".") or (domain.startswith(".") and host.endswith(domain))
