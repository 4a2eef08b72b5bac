"""The session store with real processes: a rotated login outlives SIGKILL of child and coordinator, never in plain."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.fleet import MODEL, Fleet, Site, demo_site, descendants, eventually, fetch, fleet, log_in_by_request
from tests.support import age
from tests.support.s3 import BUCKET, s3_server
from tests.support.waiting import HANG_LIMIT_S

# tests/coordinator/sessions and tests/browser/page/test_storage.py have the two halves of it.
pytestmark = pytest.mark.slow

COOKIE = "demo_session"


@pytest.fixture
def rotating() -> Iterator[Site]:
    """Run a site of this test's own, whose cookies change with each request."""
    with demo_site() as site:
        yield site


def test_a_rotated_login_outlives_child_and_coordinator(rotating: Site, tmp_path: Path, empty_tmp: Path) -> None:
    profiles = log_in_by_request(rotating, tmp_path / "active", users=["ada"])
    key, store = age.new_key(tmp_path / "key.age"), tmp_path / "volume" / "sessions"
    given = {
        "SESSION_DIR": str(store),
        "SESSION_KEY_FILE": str(key),
        "TMPDIR": str(empty_tmp),
        "BACKOFF_MAX_S": "0.5",
        "METRICS_PUBLIC": "true",
    }
    seen: set[str] = set()
    with fleet(rotating, profiles, tmp_path / "first", **given) as running:
        running.wait_for(ada="READY")
        seen.add(_rotate(rotating, running, store, key))
        os.kill(running.child_pid("ada"), signal.SIGKILL)
        eventually(lambda: running.children()["ada"]["restarts"] > 0, timeout_s=HANG_LIMIT_S, what="the restart")
        running.wait_for(ada="READY")
        seen.add(_rotate(rotating, running, store, key))
        _shows_in_plain(seen, key, [store, empty_tmp], running)
        assert running.ready()[1]["warnings"] == []
        running.process.kill()
        running.process.wait()
    # Another machine with the same volume: nothing but the profile, the key and the store.
    del given["TMPDIR"]
    with fleet(rotating, profiles, tmp_path / "second", **given) as running:
        running.wait_for(ada="READY")
        seen.add(_rotate(rotating, running, store, key))
        _goes_on_without_its_volume(rotating, running, store)
        seen.add(_rotate(rotating, running, store, key))
        eventually(lambda: not running.ready()[1]["warnings"], timeout_s=HANG_LIMIT_S, what="the end of the warning")
        assert "login_expired" not in running.log.read_text()
    assert len(seen) == 4
    (file,) = store.glob("*.session")
    assert (file.stat().st_mode & 0o777, store.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.long  # tests/coordinator/sessions/test_mirror.py shows it without browsers
def test_another_machine_without_the_volume_goes_on_with_the_copy_in_s3(rotating: Site, tmp_path: Path) -> None:
    profiles = log_in_by_request(rotating, tmp_path / "logins", users=["ada"])
    key = age.new_key(tmp_path / "key.age")
    allowed = {"keeper": [f"Read:{BUCKET}", f"List:{BUCKET}", f"Write:{BUCKET}/fleet/sessions/*"]}
    (tmp_path / "s3").mkdir()
    with s3_server(tmp_path / "s3", allowed) as s3:
        s3.upload({"fleet/active/ada.json": (profiles / "ada.json").read_bytes()})
        given = {
            **s3.credentials("keeper"),
            "PROFILE_BACKEND": "s3",
            "AUTH_PROFILE_S3_BUCKET": BUCKET,
            "AUTH_PROFILE_S3_PREFIX": "fleet",
            "SESSION_S3_PREFIX": "fleet/sessions",
            "SESSION_KEY_FILE": str(key),
        }
        cookies = []
        for machine in ("first", "second"):
            store = tmp_path / machine / "sessions"
            own = {"SESSION_DIR": str(store), "AUTH_PROFILE_CACHE_DIR": str(tmp_path / machine / "cache")}
            with fleet(rotating, profiles, tmp_path / machine, **given, **own) as running:
                running.wait_for(ada="READY")
                cookies.append(_rotate(rotating, running, store, key))
            assert "login_expired" not in running.log.read_text()
            copy = s3.client().get_object(Bucket=BUCKET, Key="fleet/sessions/ada.session")["Body"].read()
            assert copy == (store / "ada.session").read_bytes()
            assert cookies[-1].encode() not in copy


def _rotate(site: Site, running: Fleet, store: Path, key: Path) -> str:
    """Ask while cookies change with each request; return the last one, once the store holds that."""
    site.fault("rotate_sessions")
    _ask(running)
    # Without rotation, the saved cookie can be tried without taking the browser's.
    site.clear_faults()

    def accepted() -> str | None:
        cookie = _saved(store, key)
        return cookie if fetch(f"{site.url}/api/me", headers={"cookie": f"{COOKIE}={cookie}"})[0] == 200 else None

    return eventually(accepted, timeout_s=HANG_LIMIT_S, what="the saved session") or ""


def _goes_on_without_its_volume(site: Site, running: Fleet, store: Path) -> None:
    """Take the store away for a request: that is answered, and the trouble told by the login's name."""
    away = store.with_name("away")
    store.rename(away)
    store.write_text("no folder")
    site.fault("rotate_sessions")
    _ask(running)
    told = "The saved session of ada cannot be written: Not a directory."
    eventually(lambda: running.ready()[1]["warnings"] == [told], timeout_s=HANG_LIMIT_S, what="the warning")
    store.unlink()
    away.rename(store)


def _ask(running: Fleet) -> None:
    answer = running.client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "go on"}])
    assert answer.choices[0].message.content


def _saved(store: Path, key: Path) -> str:
    files = list(store.glob("*.session"))
    if not files:
        return ""
    state = json.loads(age.decrypt(key, files[0]))["storage_state"]
    return next(str(cookie["value"]) for cookie in state["cookies"] if cookie["name"] == COOKIE)


def _shows_in_plain(cookies: set[str], key: Path, folders: list[Path], running: Fleet) -> None:
    """Look for the cookies on the disk and for the key everywhere a process shows something."""
    (identity,) = (line for line in key.read_text().splitlines() if not line.startswith("#"))
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        found = [secret for secret in (*cookies, identity) if secret.encode() in content]
        assert not found, f"{path} holds {found}"
    for pid in [running.process.pid, *descendants(running.process.pid)]:
        for part in ("cmdline", "environ"):
            try:
                content = Path(f"/proc/{pid}/{part}").read_bytes()
            except OSError:  # it has ended meanwhile, or is a sandboxed process of the browser
                continue
            assert identity.encode() not in content, f"{part} of {pid} holds the key"
    assert not any(secret in running.log.read_text() for secret in (*cookies, identity))
